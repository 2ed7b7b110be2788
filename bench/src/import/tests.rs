//! Outputs as the tools print them. Those of wrk 4.1 and h2load 1.52 were made by the programs; those of wrk2, oha, k6
//! and vegeta are written after their documentation.

use super::read;
use crate::load::Load;

fn load(text: &str) -> Load {
    read(text).unwrap()
}

const WRK: &str = include_str!("fixtures/wrk.txt");
const WRK_SHORT: &str = include_str!("fixtures/wrk-short.txt");
const WRK2: &str = include_str!("fixtures/wrk2.txt");
const H2LOAD: &str = include_str!("fixtures/h2load.txt");
const OHA: &str = include_str!("fixtures/oha.json");
const K6_EXPORT: &str = include_str!("fixtures/k6-export.json");
const K6_SUMMARY: &str = include_str!("fixtures/k6-handle-summary.json");
const VEGETA_JSON: &str = include_str!("fixtures/vegeta.json");
const VEGETA_TEXT: &str = include_str!("fixtures/vegeta.txt");

#[test]
fn wrk_with_and_without_its_distribution() {
    let wrk = load(WRK);
    assert_eq!(
        (wrk.tool.as_str(), wrk.mode.as_deref(), wrk.url.as_deref()),
        ("wrk", Some("closed"), Some("http://127.0.0.1:8080/"))
    );
    assert_eq!((wrk.completed, wrk.failed, wrk.connections), (Some(168 - 16), Some(16), Some(4)));
    assert_eq!((wrk.duration_s, wrk.throughput_per_s, wrk.received_bytes), (Some(2.1), Some(79.9), Some(41_062)));
    assert_eq!((wrk.mean_ns, wrk.max_ns), (Some(49_120_000.0), Some(103_160_000)));
    assert_eq!(wrk.quantiles, [(0.5, 47_310_000), (0.75, 51_890_000), (0.9, 63_840_000), (0.99, 86_900_000)]);
    // It does not say what it planned, nor a p99.9.
    assert_eq!((wrk.planned, wrk.quantile(0.999), wrk.verdict.clone()), (None, None, None));
    let short = load(WRK_SHORT);
    assert_eq!((short.completed, short.failed, short.quantiles.len()), (Some(0), Some(38), 0));
    assert_eq!(short.max_ns, Some(109_830_000));
}

#[test]
fn wrk2_by_its_recorded_latency() {
    let wrk2 = load(WRK2);
    assert_eq!((wrk2.tool.as_str(), wrk2.mode.as_deref()), ("wrk2", Some("open")));
    assert_eq!((wrk2.completed, wrk2.failed), (Some(60_018), Some(3)));
    assert_eq!(
        (wrk2.quantile(0.5), wrk2.quantile(0.999), wrk2.quantiles.len()),
        (Some(6_670_000), Some(12_300_000), 7)
    );
    assert_eq!((wrk2.max_ns, wrk2.duration_s), (Some(12_340_000), Some(30.0)));
    assert!(wrk2.latency_counted.contains("planned start"));
}

#[test]
fn h2load_by_the_names_of_its_columns() {
    let h2load = load(H2LOAD);
    assert_eq!((h2load.tool.as_str(), h2load.connections, h2load.mode.clone()), ("h2load", Some(4), None));
    assert_eq!((h2load.planned, h2load.completed, h2load.failed), (Some(400), Some(360), Some(40)));
    assert_eq!(
        (h2load.min_ns, h2load.max_ns, h2load.mean_ns),
        (Some(1_250_000), Some(115_500_000), Some(51_020_000.0))
    );
    assert_eq!(
        (h2load.received_bytes, h2load.throughput_per_s, h2load.duration_s),
        (Some(96_680), Some(77.44), Some(5.17))
    );
    assert_eq!((h2load.status_counts["2xx"], h2load.status_counts["4xx"]), (360, 40));
    assert!(h2load.quantiles.is_empty(), "1.52 has none");
    let later = H2LOAD
        .replace("min         max         mean ", "min         max       median      p95         p99        mean ")
        .replace("115.50ms     51.02ms", "115.50ms     50.00ms     90.00ms     99.00ms     51.02ms");
    let later = load(&later);
    assert_eq!(later.quantiles, [(0.5, 50_000_000), (0.95, 90_000_000), (0.99, 99_000_000)]);
    assert_eq!(later.mean_ns, Some(51_020_000.0));
}

#[test]
fn oha_counts_every_response_and_we_those_below_400() {
    let oha = load(OHA);
    assert_eq!((oha.tool.as_str(), oha.completed, oha.failed), ("oha", Some(44_825), Some(190)));
    assert_eq!(
        (oha.quantile(0.5), oha.quantile(0.999), oha.max_ns),
        (Some(1_000_000), Some(20_100_000), Some(52_300_000))
    );
    assert_eq!((oha.quantiles.len(), oha.duration_s, oha.url.clone()), (9, Some(10.0025), None));
}

#[test]
fn k6_in_both_of_its_forms() {
    for text in [K6_EXPORT, K6_SUMMARY] {
        let k6 = load(text);
        assert_eq!((k6.tool.as_str(), k6.completed, k6.failed), ("k6", Some(2_989), Some(12)));
        assert_eq!(
            (k6.quantile(0.5), k6.quantile(0.95), k6.max_ns),
            (Some(4_110_000), Some(9_875_000), Some(61_400_000))
        );
        assert_eq!((k6.throughput_per_s, k6.received_bytes), (Some(99.98), Some(912_304)));
    }
    assert_eq!((load(K6_EXPORT).duration_s, load(K6_SUMMARY).duration_s), (None, Some(30.0152)));
    assert_eq!((load(K6_EXPORT).quantile(0.99), load(K6_SUMMARY).quantile(0.99)), (Some(21_500_000), None));
}

#[test]
fn vegeta_in_both_of_its_forms() {
    let json = load(VEGETA_JSON);
    assert_eq!(
        (json.tool.as_str(), json.planned, json.completed, json.failed),
        ("vegeta", Some(100), Some(98), Some(2))
    );
    assert_eq!(
        (json.quantile(0.99), json.min_ns, json.offered_per_s),
        (Some(3_530_000), Some(1_949_582), Some(101.01))
    );
    let text = load(VEGETA_TEXT);
    assert_eq!((text.planned, text.completed, text.failed), (Some(1200), Some(665), Some(535)));
    assert_eq!((text.quantile(0.95), text.max_ns), (Some(247_771_566), Some(62_500_000_000)));
    assert_eq!((text.duration_s, text.throughput_per_s), (Some(9.949_883_921), Some(65.87)));
    assert_eq!(text.status_counts["0"], 535);
}

#[test]
fn what_is_none_of_them_is_refused_with_what_was_expected() {
    for text in ["", "hello", "{}", "{\"latencies\": 3}", "[1]", "Running away", "finished in 3s", "Requests [total] 3"]
    {
        let refusal = read(text).unwrap_err();
        for tool in ["wrk", "wrk2", "h2load", "oha", "k6", "vegeta"] {
            assert!(refusal.contains(tool), "{text}: {refusal}");
        }
    }
}
