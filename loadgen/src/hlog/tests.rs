//! Our logs against themselves, against a golden log, and against histograms that other libraries encoded. The other
//! direction, foreign readers of our logs, is `tests/black_box/foreign_readers.rs`; the traps that readers set are
//! `tests/black_box/portability.rs`.

use std::io::Read;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use proptest::prelude::{any, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};

use super::{LogWriter, clean_tag, date, parse};
use crate::recorder::{VALUE_NS_MAX, histogram};

/// What three foreign decoders read bucket by bucket (`tests/black_box/foreign_readers.rs`).
const GOLDEN: &str = include_str!("../../tests/golden/vector.hlog");
const GOLDEN_BUCKETS: &str = include_str!("../../tests/golden/vector.json");
const GOLDEN_START_UNIX_MS: u64 = 1_760_000_000_123;

fn of(values: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = histogram();
    for &(value, count) in values {
        histogram.record_n(value, count).unwrap();
    }
    histogram
}

/// The intervals of the golden log: none, one, and the edges of every bucket; counts above 32 bits; the ends of the range.
fn vector() -> Vec<Histogram<u64>> {
    let edges: Vec<(u64, u64)> =
        (1..=41).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]).map(|value| (value, 3)).collect();
    vec![of(&[]), of(&[(2_768_895, 1)]), of(&edges), of(&[(1, 1), (1_000, 1 << 33), (2_000_000, 3), (VALUE_NS_MAX, 1)])]
}

fn written(histograms: &[Histogram<u64>]) -> String {
    let mut bytes = Vec::new();
    let mut writer = LogWriter::new(&mut bytes, GOLDEN_START_UNIX_MS).unwrap();
    for (second, histogram) in (0..).zip(histograms) {
        writer.write(None, Duration::from_secs(second), Duration::from_secs(1), histogram).unwrap();
    }
    writer.flush().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The highest equivalent value of each bucket with its count.
fn buckets(histogram: &Histogram<u64>) -> Vec<[u64; 2]> {
    let step = |step: hdrhistogram::iterators::IterationValue<u64>| {
        [histogram.highest_equivalent(step.value_iterated_to()), step.count_at_value()]
    };
    histogram.iter_recorded().map(step).collect()
}

/// A line with its payload decompressed: the compressed bytes may differ between versions of a compressor.
fn opened(line: &str) -> (String, Vec<u8>) {
    let Some((fields, payload)) = line.rsplit_once(',').filter(|(_, payload)| payload.starts_with("HISTF")) else {
        return (line.to_owned(), Vec::new());
    };
    let mut inside = Vec::new();
    ZlibDecoder::new(&STANDARD.decode(payload).unwrap()[8..]).read_to_end(&mut inside).unwrap();
    (fields.to_owned(), inside)
}

#[test]
fn the_golden_log_is_what_we_write_and_what_we_read() {
    let tool = concat!("#[Logged by loadgen ", env!("CARGO_PKG_VERSION"), "]");
    let ours = written(&vector()).replace(tool, "#[Logged by golden 1]");
    let lines = |log: &str| log.lines().map(opened).collect::<Vec<_>>();
    assert_eq!(lines(&ours), lines(GOLDEN));
    let log = parse(GOLDEN.as_bytes()).unwrap();
    assert_eq!(log.start_unix_ms, GOLDEN_START_UNIX_MS);
    let read: Vec<Histogram<u64>> = log.lines.into_iter().map(|line| line.histogram).collect();
    assert_eq!(read, vector());
    let expected: Vec<Vec<[u64; 2]>> = serde_json::from_str(GOLDEN_BUCKETS).unwrap();
    assert_eq!(read.iter().map(buckets).collect::<Vec<_>>(), expected);
}

const PYTHON_FULL: &str = "HISTFAAAACt4nJNpmSzMwMDAzQABzFCaEch0M9ixgMH+A0TgPH8DEDi8X8fIBgCe3wkY";
const PYTHON_EMPTY: &str = "HISTFAAAAB14nJNpmSzMgADMUJoRyHQz2LGAwf4DRAAATjkESw==";

/// The histogram of 1000 × 2^33 and 2,000,000 × 3 and an empty one, as PyPI's `hdrhistogram` 0.10.8 encodes them.
#[test]
fn histograms_that_another_library_encoded_are_read() {
    let text = format!(
        "#[StartTime: 5.000 (seconds since epoch), x]\n0.000,1.000,0.000,{PYTHON_EMPTY}\n1.000,1.000,2.001,{PYTHON_FULL}\n"
    );
    let log = parse(text.as_bytes()).unwrap();
    assert_eq!(log.start_unix_ms, 5_000);
    let found: Vec<Vec<[u64; 2]>> = log.lines.iter().map(|line| buckets(&line.histogram)).collect();
    assert_eq!(found, [vec![], vec![[1_000, 1 << 33], [2_000_895, 3]]]);
    // It has our bounds: it can be added to ours.
    let mut sum = histogram();
    sum.add(&log.lines[1].histogram).unwrap();
    assert_eq!(sum.len(), (1 << 33) + 3);
}

#[test]
fn dates_are_javas() {
    assert_eq!(date(1_760_000_000), "Thu Oct 09 08:53:20 UTC 2025");
    assert_eq!(date(951_782_400), "Tue Feb 29 00:00:00 UTC 2000");
    assert_eq!(date(0), "Thu Jan 01 00:00:00 UTC 1970");
}

#[test]
fn long_runs_have_no_exponent_in_their_numbers() {
    let mut bytes = Vec::new();
    let mut writer = LogWriter::new(&mut bytes, 0).unwrap();
    // The longest duration that the command line takes, and the highest value.
    writer.write(None, Duration::from_secs(10_000_000), Duration::from_nanos(1), &of(&[(VALUE_NS_MAX, 1)])).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\n10000000.000,0.000,36013"), "{text}");
    assert!(
        text.lines().last().unwrap().split(',').take(3).all(|number| !number.contains(['e', 'E', '-', '+'])),
        "{text}"
    );
}

#[test]
fn tags_lose_what_would_end_them() {
    assert_eq!(clean_tag("GET /a, b\n"), "GET_/a__b_");
    let mut bytes = Vec::new();
    LogWriter::new(&mut bytes, 0).unwrap().write(Some("a b"), Duration::ZERO, Duration::ZERO, &histogram()).unwrap();
    assert_eq!(parse(&bytes).unwrap().lines[0].tag.as_deref(), Some("a_b"));
}

#[test]
fn garbage_is_refused() {
    for text in
        ["hello\n", "0.000,1.000,1.0,????\n", "0.000,1.000,1.0,AAAA\n", "#[BaseTime: 1.000 (seconds since epoch)]\n"]
    {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        intervals in collection::vec(collection::vec((1..=VALUE_NS_MAX, 1..u64::from(u32::MAX)), 0..40), 1..6),
        tag in "\\PC{0,20}",
    ) {
        let histograms: Vec<Histogram<u64>> = intervals.iter().map(|values| of(values)).collect();
        let log = parse(written(&histograms).as_bytes()).unwrap();
        prop_assert_eq!(log.lines.iter().map(|line| line.histogram.clone()).collect::<Vec<_>>(), histograms.clone());
        let mut bytes = Vec::new();
        let mut writer = LogWriter::new(&mut bytes, 0).unwrap();
        writer.write(Some(&tag), Duration::ZERO, Duration::ZERO, &histograms[0]).unwrap();
        let tagged = parse(&bytes).unwrap();
        let cleaned = clean_tag(&tag);
        prop_assert_eq!(tagged.lines[0].tag.as_deref(), Some(cleaned.as_str()));
        prop_assert_eq!(&tagged.lines[0].histogram, &histograms[0]);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in collection::vec(any::<u8>(), 0..300), cut in any::<u16>(), flip in any::<u8>()) {
        let _ = parse(&bytes);
        // And a log with one byte changed.
        let mut log = GOLDEN.as_bytes().to_vec();
        let place = usize::from(cut) % log.len();
        log[place] ^= flip;
        let read = parse(&log).map(|log| log.lines.len());
        prop_assert!(read.is_err() || read.is_ok_and(|lines| lines <= vector().len()));
    }
}
