//! Whether the systems of a comparison did the same work. What must be equal is refused elsewhere (another body, a closed
//! connection, requests that the origin never saw); what may differ is printed here.

use serde::{Deserialize, Serialize};

use crate::record::Surveyed;
use crate::trial::{Role, Trial};

/// More bytes a request than this in files are a log.
const LOG_BYTES_MIN: f64 = 16.0;

/// The work of one system, beside that of the null server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EqualWork {
    pub system: String,
    pub body_bytes: usize,
    pub head_bytes: usize,
    /// Of its answer's head, more than the origin's own (less, if negative), and the fields that make it so.
    pub head_bytes_more: i64,
    pub fields_more: Vec<String>,
    pub fields_less: Vec<String>,
    /// Threads that did work worth naming: fewest and most of all trials.
    pub busy_threads: [u32; 2],
    /// Requests that the generator completed in trials whose origin could be asked, and those that origins answered.
    pub asked_requests: u64,
    pub origin_requests: Option<u64>,
    /// Written to files, for each request; `null` where the kernel does not say.
    pub written_bytes_per_request: Option<f64>,
}

impl EqualWork {
    /// Of every measured system, in the order of the survey.
    pub fn of(systems: &[Surveyed], trials: &[Trial]) -> Vec<Self> {
        let origin = systems.iter().find(|system| system.role == Role::Floor);
        let measured = systems.iter().filter(|system| system.role == Role::Measured);
        measured.map(|system| Self::one(system, origin, trials)).collect()
    }

    fn one(system: &Surveyed, origin: Option<&Surveyed>, trials: &[Trial]) -> Self {
        let own: Vec<&Trial> =
            trials.iter().filter(|trial| trial.system == system.name && trial.requests > 0).collect();
        let lacking =
            |of: &[String], from: &[String]| of.iter().filter(|name| !from.contains(name)).cloned().collect::<Vec<_>>();
        let fields = origin.map_or(&[][..], |origin| &origin.answer_fields);
        let bytes = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let busy = || own.iter().map(|trial| trial.busy_threads);
        let counted: Vec<(u64, u64)> =
            own.iter().filter_map(|trial| Some((trial.asked_requests, trial.origin_requests?))).collect();
        let written: Vec<(u64, u64)> =
            own.iter().filter_map(|trial| Some((trial.asked_requests, trial.written_bytes?))).collect();
        let requests = written.iter().map(|pair| pair.0).sum::<u64>();
        Self {
            system: system.name.clone(),
            body_bytes: system.answer_body_bytes,
            head_bytes: system.answer_head_bytes,
            head_bytes_more: origin
                .map_or(0, |origin| bytes(system.answer_head_bytes) - bytes(origin.answer_head_bytes)),
            fields_more: origin.map_or_else(Vec::new, |_| lacking(&system.answer_fields, fields)),
            fields_less: lacking(fields, &system.answer_fields),
            busy_threads: [busy().min().unwrap_or(0), busy().max().unwrap_or(0)],
            asked_requests: counted.iter().map(|pair| pair.0).sum(),
            origin_requests: (!counted.is_empty()).then(|| counted.iter().map(|pair| pair.1).sum()),
            written_bytes_per_request: (requests > 0)
                .then(|| written.iter().map(|pair| pair.1).sum::<u64>() as f64 / requests as f64),
        }
    }

    /// What is not the same as the origin's, in words; empty if nothing is.
    fn differences(&self, threads: u32) -> Vec<String> {
        let mut found = Vec::new();
        if self.head_bytes_more != 0 {
            let fields = |sign: &str, names: &[String]| {
                names.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>().join(" ")
            };
            let both = [fields("+", &self.fields_more), fields("-", &self.fields_less)];
            let both: Vec<&str> = both.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
            let names = if both.is_empty() { String::new() } else { format!(" ({})", both.join(" ")) };
            found.push(format!("{:+} bytes of head in each answer{names}", self.head_bytes_more));
        }
        if self.busy_threads[1] != threads && self.busy_threads[1] > 0 {
            found.push(format!("{} threads at work instead of {threads}", self.busy_threads[1]));
        }
        if let Some(bytes) = self.written_bytes_per_request.filter(|bytes| *bytes > LOG_BYTES_MIN) {
            found.push(format!("{bytes:.0} bytes written to files for each request: it logs"));
        }
        found
    }
}

/// One line for each system whose work differs from the origin's answer, one worker, no log; and one of the counts.
pub fn equal_work_text(works: &[EqualWork]) -> Vec<String> {
    // What most systems have is the rule; they are told to have one worker.
    let threads = works.iter().map(|work| work.busy_threads[1]).filter(|count| *count > 0).min().unwrap_or(1);
    let mut lines: Vec<String> = works
        .iter()
        .filter_map(|work| {
            let differences = work.differences(threads);
            (!differences.is_empty()).then(|| format!("{}: {}", work.system, differences.join("; ")))
        })
        .collect();
    let counted = || works.iter().filter_map(|work| Some((work.asked_requests, work.origin_requests?)));
    let (asked, seen) = (counted().map(|pair| pair.0).sum::<u64>(), counted().map(|pair| pair.1).sum::<u64>());
    if counted().count() > 0 {
        lines.push(format!(
            "origins answered {seen} requests where the generator completed {asked} (warm-up included); what is more was in progress when a window ended"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{EqualWork, equal_work_text};
    use crate::case::{Case, Work};
    use crate::record::Surveyed;
    use crate::report::fixture::trial;
    use crate::trial::Role;

    fn surveyed(name: &str, role: Role, head_bytes: usize, fields: &[&str]) -> Surveyed {
        Surveyed {
            name: name.into(),
            description: String::new(),
            version: String::new(),
            program_sha256: String::new(),
            answer_head_bytes: head_bytes,
            answer_body_bytes: 128,
            answer_fields: fields.iter().map(|&field| field.to_owned()).collect(),
            role,
        }
    }

    #[test]
    fn what_differs_is_printed() {
        let systems = [
            surveyed("twintier", Role::Measured, 90, &["content-length", "content-type"]),
            surveyed("nginx", Role::Measured, 150, &["content-length", "date", "server"]),
            surveyed("floor", Role::Floor, 90, &["content-length", "content-type"]),
        ];
        let case = Case::keep_alive(Work::Proxy, 64, 128);
        let with = |name: &str, threads: u32, written: u64| {
            let mut trial = trial(name, case, 0);
            (trial.busy_threads, trial.asked_requests) = (threads, 1000);
            (trial.origin_requests, trial.written_bytes) = (Some(1003), Some(written));
            trial
        };
        let works = EqualWork::of(&systems, &[with("twintier", 1, 0), with("nginx", 2, 80_000)]);
        assert_eq!((works.len(), works[0].head_bytes_more, works[1].head_bytes_more), (2, 0, 60));
        assert_eq!(works[1].written_bytes_per_request, Some(80.0));
        let lines = equal_work_text(&works);
        assert_eq!(
            lines[0],
            "nginx: +60 bytes of head in each answer (+date +server -content-type); 2 threads at work instead of 1; 80 bytes written to files for each request: it logs"
        );
        assert!(lines[1].contains("answered 2006 requests where the generator completed 2000"), "{lines:?}");
        assert_eq!(lines.len(), 2, "of equals nothing is said");
    }
}
