//! A trial as tests need it.

use std::collections::BTreeMap;

use crate::case::Case;
use crate::latency::Quantiles;
use crate::trial::{Role, Trial};

/// A valid trial of two seconds; its figures are for the test to set.
pub fn trial(system: &str, case: Case, block: u32) -> Trial {
    Trial {
        system: system.into(),
        case,
        block,
        turn: 0,
        folder: format!("trials/{}-b{block:02}-{system}", case.key()),
        requests: 200_000,
        failed: 0,
        window_s: 2.0,
        throughput_per_s: 100_000.0,
        cpu_ns: 2_000_000_000,
        cpu_us_per_request: 10.0,
        latency_ns: Quantiles::default(),
        rate_per_s: None,
        held: None,
        generator_cpu_us_per_request: Some(5.0),
        verdict: "valid".into(),
        reasons: vec![],
        affinity: vec!["0".into()],
        processes: 1,
        role: Role::Measured,
        cpu_by_group: BTreeMap::new(),
        switches: None,
        counters: None,
        busy_threads: 1,
        threads: vec![],
        env_padding_bytes: None,
        program_sha256: String::new(),
        asked_requests: 200_002,
        origin_requests: None,
        written_bytes: None,
    }
}
