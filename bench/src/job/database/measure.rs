//! Writes and reads under load, with the processor time that each process took for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::writers::Writers;
use super::site::{PATH, Site};
use crate::failure::Failure;
use crate::latency::{Quantiles, histogram};
use crate::process::Process;
use crate::report::histograms::read_log;
use crate::threads::{GroupUse, Watch};
use crate::trial::{GeneratorOrder, Lab, Summary};

/// Level of all writes: a shared database knows no other, and an embedded one is held to the same.
const LEVEL: &str = "durable";
/// The tag of the requests that write.
const TAG: &str = "write";

/// How each load is made.
#[derive(Clone, Copy, Debug)]
pub struct Loads<'a> {
    pub lab: &'a Lab,
    pub duration_s: f64,
    pub seed: u64,
}

/// Names and values of figures.
pub type Figures = Vec<(&'static str, f64)>;

/// What one load came to.
#[derive(Debug, Default)]
pub struct Loaded {
    pub figures: Figures,
    pub cpu: Figures,
    /// Why the figures may not be quoted.
    pub wrong: Vec<String>,
}

impl Loads<'_> {
    /// Browsers that write, `users` over all appliances.
    ///
    /// # Errors
    /// Nothing could be written, a process ends, or a signal arrives.
    pub fn writes(&self, site: &mut Site, users: u32, folder: &Path) -> Result<Loaded, Failure> {
        let shares = shares(users, site.appliances.len());
        let folders: Vec<PathBuf> =
            (1..=shares.len()).map(|number| folder.join(format!("writes-{users}-{number}"))).collect();
        let loads: Vec<Writers<'_>> = shares
            .iter()
            .zip(&folders)
            .zip(1_u64..)
            .map(|((&users, folder), number)| Writers {
                users,
                level: LEVEL,
                think_s: None,
                warmup_s: self.warmup_s(),
                duration_s: self.duration_s,
                // Browsers of two appliances must not write the same entries in the same order.
                seed: self.seed.wrapping_mul(31).wrapping_add(number),
                folder,
                core: Some(self.lab.cores.generator),
            })
            .collect();
        let started = loads.iter().zip(&site.appliances).map(|(load, appliance)| load.start(self.lab, &appliance.http));
        let started = started.collect::<Result<Vec<Process>, Failure>>()?;
        let (summaries, cpu) = self.watch(site, started, &folders)?;
        let (mut writes, mut per_s, mut times) = (0.0, 0.0, histogram());
        for ((load, summary), folder) in loads.iter().zip(&summaries).zip(&folders) {
            let written = load.written(summary)?;
            writes += written.writes;
            per_s += written.writes_per_s;
            times
                .add(&read_log(&folder.join("latency-tags.hlog"), Some(TAG))?)
                .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
        }
        let mut figures = vec![("writes_per_s", per_s)];
        figures.extend(quantile_figures(&Quantiles::of(&times)));
        Ok(Loaded { figures, cpu: cpu_figures(&cpu, writes), wrong: invalid(&summaries) })
    }

    /// A closed loop of the catalog's page, `connections` over all appliances.
    ///
    /// # Errors
    /// As [`Self::writes`].
    pub fn reads(&self, site: &mut Site, connections: u32, folder: &Path) -> Result<Loaded, Failure> {
        let shares = shares(connections, site.appliances.len());
        let folders: Vec<PathBuf> = (1..=shares.len()).map(|number| folder.join(format!("reads-{number}"))).collect();
        let mut started = Vec::new();
        for ((&connections, folder), appliance) in shares.iter().zip(&folders).zip(&site.appliances) {
            let url = format!("http://{}{PATH}", appliance.http);
            started.push(self.closed(&url, connections, folder).start(self.lab)?);
        }
        let (summaries, cpu) = self.watch(site, started, &folders)?;
        let requests = summaries.iter().map(|summary| summary.achieved_rate * summary.duration_s).sum();
        let per_s = summaries.iter().map(|summary| summary.achieved_rate).sum();
        let figures = vec![("requests_per_s", per_s)];
        Ok(Loaded { figures, cpu: cpu_figures(&cpu, requests), wrong: invalid(&summaries) })
    }

    /// A closed loop of keep-alive requests.
    pub fn closed<'a>(&self, url: &'a str, connections: u32, folder: &'a Path) -> GeneratorOrder<'a> {
        GeneratorOrder {
            url,
            rate: None,
            connections,
            new_connections: false,
            warmup_s: self.warmup_s(),
            duration_s: self.duration_s,
            seed: self.seed,
            folder,
            server_timing: false,
        }
    }

    fn warmup_s(&self) -> f64 {
        self.duration_s / 4.0
    }

    /// Waits for the generators and watches the system's threads over their window.
    fn watch(
        &self,
        site: &mut Site,
        started: Vec<Process>,
        folders: &[PathBuf],
    ) -> Result<(Vec<Summary>, BTreeMap<String, GroupUse>), Failure> {
        let mut watch = Watch::new(&site.processes());
        let mut summaries = Vec::new();
        for (generator, folder) in started.into_iter().zip(folders) {
            let look = |now_ns| {
                watch.look(now_ns);
                site.still_running()
            };
            summaries.push(self.lab.await_generator(generator, folder, self.warmup_s() + self.duration_s, look)?);
        }
        // They were started within moments of each other: the first one's window stands for all.
        let (from, to) = summaries.first().map(Summary::window_ns).unwrap_or_default();
        Ok((summaries, watch.between(from, to).by_group))
    }
}

/// Users or connections of each appliance; none where there are too few.
fn shares(all: u32, appliances: usize) -> Vec<u32> {
    let count = u32::try_from(appliances).unwrap_or(1).max(1);
    (0..count).map(|index| all / count + u32::from(index < all % count)).filter(|share| *share > 0).collect()
}

/// Response times as figures; what the samples do not support is left out.
fn quantile_figures(times: &Quantiles) -> Figures {
    let named = [("response_p50_ns", times.p50), ("response_p99_ns", times.p99)];
    // Times of a trial: far below 2^53.
    named.into_iter().filter_map(|(name, ns)| Some((name, ns? as f64))).collect()
}

/// Processor time of one of so many writes or requests: all of it, then by whose it is.
fn cpu_figures(by_group: &BTreeMap<String, GroupUse>, count: f64) -> Figures {
    let (mut workers, mut database, mut others, mut postgres) = (0.0, 0.0, 0.0, None);
    for (name, used) in by_group {
        let ns = (used.user_ns + used.system_ns) / count.max(1.0);
        match name.as_str() {
            "front+replica" => workers += ns,
            "database" => database += ns,
            name if name.starts_with("postgres") => *postgres.get_or_insert(0.0) += ns,
            _ => others += ns,
        }
    }
    let all = workers + database + others + postgres.unwrap_or(0.0);
    let own =
        [("cpu_ns", all), ("workers_ns", workers), ("database_thread_ns", database), ("other_threads_ns", others)];
    own.into_iter().chain(postgres.map(|ns| ("postgres_ns", ns))).collect()
}

/// Why loads may not be quoted, by the generators' own word.
pub fn invalid(summaries: &[Summary]) -> Vec<String> {
    let wrong = summaries.iter().filter(|summary| summary.verdict == "invalid");
    wrong.map(|summary| format!("the generator's load is invalid: {}", summary.reasons.join("; "))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{cpu_figures, quantile_figures, shares};
    use crate::latency::{Quantiles, histogram};
    use crate::threads::GroupUse;

    #[test]
    fn a_load_is_split_over_the_appliances() {
        assert_eq!(shares(64, 1), [64]);
        assert_eq!(shares(64, 2), [32, 32]);
        assert_eq!(shares(9, 2), [5, 4]);
        assert_eq!(shares(1, 2), [1], "nobody asks the second one");
    }

    /// The whole time is the sum of its parts, PostgreSQL's only where there is one.
    #[test]
    fn processor_time_goes_to_those_who_took_it() {
        let used = |user_ns: f64, system_ns: f64| GroupUse { user_ns, system_ns };
        let mut groups = BTreeMap::from([
            ("front+replica".to_owned(), used(600.0, 400.0)),
            ("database".to_owned(), used(100.0, 200.0)),
            ("storage".to_owned(), used(10.0, 0.0)),
            ("main".to_owned(), used(0.0, 10.0)),
        ]);
        assert_eq!(
            cpu_figures(&groups, 10.0),
            [("cpu_ns", 132.0), ("workers_ns", 100.0), ("database_thread_ns", 30.0), ("other_threads_ns", 2.0)]
        );
        groups.insert("postgres: walwriter".to_owned(), used(0.0, 50.0));
        groups.insert("postgres: postgres postgres".to_owned(), used(100.0, 50.0));
        let figures = cpu_figures(&groups, 10.0);
        assert_eq!((figures[0], figures[4]), (("cpu_ns", 152.0), ("postgres_ns", 20.0)));
    }

    #[test]
    fn a_quantile_that_the_samples_do_not_support_is_left_out() {
        let mut times = histogram();
        times.record_n(1000, 10).unwrap();
        let figures = quantile_figures(&Quantiles::of(&times));
        assert_eq!(figures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["response_p50_ns"]);
    }
}
