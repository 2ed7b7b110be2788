//! The two systems of a comparison that nobody asked for, and without which its figures mean little.
//!
//! - **The null**: the first own system once more, under another name, in the same blocks. Whatever differs between the
//!   two is noise: the comparison must be able to say "no difference" (`null` in `compare.json`).
//! - **The floor**: `twintier origin` in the system's place, on the system's core. It is what this generator measures
//!   when there is next to nothing to measure, and the most that it can ask (`floor`).
//!
//! Both take part in the reference case; the floor also in the open loop, where its latency is the tool's own.

use crate::case::Load;
use crate::compare::{Plan, PlannedCase};
use crate::opponent::{Engine, Kind};
use crate::trial::{Role, System};

/// The floor's name.
pub const FLOOR: &str = "floor";
/// Behind the name of the system that is compared with itself.
const NULL_SUFFIX: &str = "-null";
/// Behind the name of a system that says where the time of each request went.
const TIERS_SUFFIX: &str = "-tiers";
/// The number of connections that stands for all.
const CONNECTIONS_REFERENCE: u32 = 64;

impl Plan {
    /// The plan with the null and the floor in it. A plan without a closed loop on connections that stay has neither.
    pub fn with_controls(self) -> Self {
        let Some(case) = reference(&self.cases) else { return self };
        self.with_null(case).with_floor(case)
    }

    /// The plan with the floor alone, for runs of a minute.
    pub fn with_floor_only(self) -> Self {
        let Some(case) = reference(&self.cases) else { return self };
        self.with_floor(case)
    }

    /// The plan with one more trial of the appliance in each block of the reference case, in which every answer says where
    /// its time went. That costs the appliance something, so it is a trial of its own.
    pub fn with_tiers(mut self) -> Self {
        let Some(case) = reference(&self.cases) else { return self };
        let taking_part = || self.cases[case].systems.iter().filter_map(|index| self.systems.get(*index));
        let appliance = taking_part().find(|system| system.kind == Kind::Appliance && system.role == Role::Measured);
        let Some(appliance) = appliance else { return self };
        let tiers =
            System { label: format!("{}{TIERS_SUFFIX}", appliance.label), role: Role::Tiers, ..appliance.clone() };
        self.cases[case].systems.push(self.systems.len());
        self.systems.push(tiers);
        self
    }

    fn with_null(mut self, case: usize) -> Self {
        let Some(own) = self.first_own(case) else { return self };
        let twin = System { label: format!("{}{NULL_SUFFIX}", own.label), role: Role::Null, ..own.clone() };
        self.cases[case].systems.push(self.systems.len());
        self.systems.push(twin);
        self
    }

    fn with_floor(mut self, reference: usize) -> Self {
        let of = self.cases[reference].case;
        let index = self.systems.len();
        for planned in &mut self.cases {
            if planned.case == of || planned.case.load == Load::Rate && planned.case.capacity_case() == of {
                planned.systems.push(index);
            }
        }
        let kind = Kind::Origin(Engine::Auto);
        self.systems.push(System { label: FLOOR.to_owned(), role: Role::Floor, ..System::of(kind) });
        self
    }

    /// The first system of ours that takes part in a case and has something to do in it; any other where there is none.
    fn first_own(&self, case: usize) -> Option<&System> {
        let systems = || self.cases[case].systems.iter().filter_map(|index| self.systems.get(*index));
        let usual = |system: &&System| matches!(system.kind, Kind::Appliance | Kind::Twintier(Engine::Auto));
        let ours = |system: &&System| !matches!(system.kind, Kind::Foreign(_) | Kind::Direct | Kind::Forward);
        systems().find(usual).or_else(|| systems().find(ours)).or_else(|| systems().next())
    }
}

/// The case that stands for all: connections that stay, 64 of them if they are planned, the first body.
fn reference(cases: &[PlannedCase]) -> Option<usize> {
    let stays = |planned: &PlannedCase| planned.case.load == Load::KeepAlive && !planned.systems.is_empty();
    let usual = |planned: &PlannedCase| stays(planned) && planned.case.connections == CONNECTIONS_REFERENCE;
    cases.iter().position(usual).or_else(|| cases.iter().position(stays))
}

/// What the name of a null, or of a system that tells its tiers, stands for.
pub fn twin_of(label: &str) -> &str {
    label.strip_suffix(NULL_SUFFIX).or_else(|| label.strip_suffix(TIERS_SUFFIX)).unwrap_or(label)
}

#[cfg(test)]
mod tests {
    use crate::case::{Case, Load, Work};
    use crate::compare::{Plan, PlannedCase};
    use crate::opponent::{Engine, Foreign, Kind};
    use crate::trial::{Role, System};

    fn plan(kinds: &[Kind], cases: &[Case]) -> Plan {
        let everybody: Vec<usize> = (0..kinds.len()).collect();
        Plan {
            job: "proxy",
            systems: kinds.iter().copied().map(System::of).collect(),
            cases: cases.iter().map(|&case| PlannedCase { case, systems: everybody.clone() }).collect(),
            blocks: 1,
            duration_s: 1.0,
            warmup_s: 0.1,
            seed: 1,
            soak: None,
        }
    }

    fn names(plan: &Plan, case: usize) -> Vec<&str> {
        plan.cases[case].systems.iter().map(|index| plan.systems[*index].label.as_str()).collect()
    }

    /// One more trial for the null and one for the floor in each block of the reference case, and the floor's in its
    /// open loop: the cost is bounded whatever else is compared.
    #[test]
    fn the_reference_case_has_both_controls() {
        let plain = Case::keep_alive(Work::Proxy, 64, 128);
        let rate = Case { load: Load::Rate, rate_share: Some(0.7), ..plain };
        let kinds = [Kind::Direct, Kind::Twintier(Engine::Auto), Kind::Foreign(Foreign::Nginx)];
        let cases = [Case::keep_alive(Work::Proxy, 8, 128), plain, rate, Case { body_bytes: 1024, ..plain }];
        let plan = plan(&kinds, &cases).with_controls();
        assert_eq!(names(&plan, 0), ["direct", "twintier", "nginx"]);
        assert_eq!(names(&plan, 1), ["direct", "twintier", "nginx", "twintier-null", "floor"]);
        assert_eq!(names(&plan, 2), ["direct", "twintier", "nginx", "floor"]);
        assert_eq!(names(&plan, 3), ["direct", "twintier", "nginx"]);
        assert_eq!(plan.systems[3].role, Role::Null);
        assert_eq!((plan.systems[4].role, plan.systems[4].kind), (Role::Floor, Kind::Origin(Engine::Auto)));
        assert_eq!(super::twin_of("twintier-null"), "twintier");
    }

    #[test]
    fn the_appliance_tells_its_tiers_in_a_trial_of_its_own() {
        let plain = Case::keep_alive(Work::App, 64, 128);
        let plan = plan(&[Kind::Direct, Kind::Appliance], &[plain]).with_controls().with_tiers();
        let expected = ["direct", "twintier-appliance", "twintier-appliance-null", "floor", "twintier-appliance-tiers"];
        assert_eq!(names(&plan, 0), expected);
        assert_eq!((plan.systems[4].role, super::twin_of(expected[4])), (Role::Tiers, "twintier-appliance"));
        assert_eq!(names(&super::tests::plan(&[Kind::Direct], &[plain]).with_tiers(), 0), ["direct"]);
    }

    /// Without one of ours the first system is compared with itself; without a closed loop nothing is.
    #[test]
    fn any_plan_gets_what_it_can() {
        let plain = Case::keep_alive(Work::Proxy, 8, 128);
        let foreign = [Kind::Foreign(Foreign::Nginx), Kind::Foreign(Foreign::Haproxy)];
        assert_eq!(names(&plan(&foreign, &[plain]).with_controls(), 0), ["nginx", "haproxy", "nginx-null", "floor"]);
        assert_eq!(names(&plan(&foreign, &[plain]).with_floor_only(), 0), ["nginx", "haproxy", "floor"]);
        let new = Case { load: Load::NewConnections, ..plain };
        assert_eq!(names(&plan(&foreign, &[new]).with_controls(), 0), ["nginx", "haproxy"]);
    }
}
