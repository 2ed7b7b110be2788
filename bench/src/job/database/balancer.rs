//! What a balancer in front of an appliance costs: processor time of a request, and time that a request takes longer.

use std::path::Path;

use super::measure::{Figures, Loads, invalid};
use super::site::{PATH, Site};
use crate::failure::Failure;
use crate::machine::ProcessGroup;
use crate::opponent::{self, Engine, Foreign, Kind, Place};
use crate::threads::Watch;

/// What stands before the appliance, nothing first.
pub const HOPS: [Kind; 4] =
    [Kind::Direct, Kind::Foreign(Foreign::HaproxyTcp), Kind::Forward, Kind::Twintier(Engine::Auto)];
/// Connections of the closed loop whose processor time counts, and of the one whose response time does.
const CONNECTIONS: u32 = 64;
const ALONE: u32 = 1;

/// Measures one hop in front of the only appliance of a site.
///
/// # Errors
/// The hop does not start, a generator fails, or a signal arrives.
pub fn measure(
    loads: &Loads<'_>,
    site: &mut Site,
    hop: Kind,
    folder: &Path,
) -> Result<(Figures, Vec<String>), Failure> {
    let lab = loads.lab;
    let appliance = site.appliances[0].http.clone();
    let mut running = match hop {
        Kind::Direct => None,
        kind => {
            let place = Place {
                programs: &lab.programs,
                origins: std::slice::from_ref(&appliance),
                core: lab.cores.origin,
                folder,
                interrupt: &lab.interrupt,
                connections: CONNECTIONS,
                env_padding_bytes: 0,
            };
            Some(opponent::start(kind, &place)?)
        }
    };
    let address = running.as_ref().map_or(&appliance, |running| &running.address);
    let url = format!("http://{address}{PATH}");
    let groups = running.as_ref().map(|running| running.groups.clone()).unwrap_or_default();
    let mut watch = Watch::new(&ProcessGroup::find(Path::new("/proc"), &groups));
    let many_folder = folder.join("many");
    let many = lab.generate(&loads.closed(&url, CONNECTIONS, &many_folder), |now_ns| {
        watch.look(now_ns);
        running.as_mut().map_or(Ok(()), opponent::Running::still_running)?;
        site.still_running()
    })?;
    let alone_folder = folder.join("alone");
    let alone = lab.generate(&loads.closed(&url, ALONE, &alone_folder), |_| site.still_running())?;
    let (from, to) = many.window_ns();
    let requests = many.achieved_rate * many.duration_s;
    let used: f64 = watch.between(from, to).by_group.values().map(|group| group.user_ns + group.system_ns).sum();
    let mut figures = vec![("requests_per_s", many.achieved_rate)];
    // A response time of a trial: far below 2^53.
    let times = [("response_alone_p50_ns", alone.response_ns.p50), ("response_alone_p99_ns", alone.response_ns.p99)];
    figures.extend(times.into_iter().filter_map(|(name, ns)| Some((name, ns? as f64))));
    if running.is_some() {
        figures.push(("cpu_of_the_hop_ns", used / requests.max(1.0)));
    }
    running.map(opponent::Running::stop).transpose()?;
    Ok((figures, invalid(&[many, alone])))
}

/// By how much a request takes longer behind a hop than without one, in one block.
pub fn added_ns(hop: &Figures, direct: &Figures) -> Option<f64> {
    let of = |figures: &Figures| figures.iter().find(|(name, _)| *name == "response_alone_p50_ns").map(|(_, ns)| *ns);
    Some(of(hop)? - of(direct)?)
}

#[cfg(test)]
mod tests {
    use super::added_ns;

    #[test]
    fn what_a_hop_adds_is_the_difference_of_the_medians() {
        let figures = |ns: f64| vec![("requests_per_s", 7.0), ("response_alone_p50_ns", ns)];
        assert_eq!(added_ns(&figures(130.0), &figures(100.0)), Some(30.0));
        assert_eq!(added_ns(&figures(90.0), &figures(100.0)), Some(-10.0), "noise is shown as it is");
        assert_eq!(added_ns(&figures(90.0), &vec![]), None);
    }
}
