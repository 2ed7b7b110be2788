//! One test for each trap that a reader of histogram logs sets: what is a rule in one library is silence in another, so
//! a log that one of them reads may be refused, counted twice or cut short by the next.
//!
//! All look at the logs of one run: sessions at 0 s and 2 s, so that second 1 is idle, with a step whose name has every
//! character that a tag must not have.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;

use crate::support::{Request, Scratch, assert_balanced, respond, serve, summary};

const LOGS: [&str; 3] = ["latency.hlog", "latency-tags.hlog", "latency-parts.hlog"];
const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
/// What `fgets` of the C reader takes of a header line, without the line feed and the end of the string.
const C_HEADER_BYTES_MAX: usize = 126;

const SCENARIO: &str = r#"
name = "traps"

[[steps]]
name = "look, twice \n a\tday"
kind = "get"
path = "/"
"#;

/// The three logs of the run, by name.
fn logs() -> &'static BTreeMap<&'static str, String> {
    static RUN: OnceLock<BTreeMap<&'static str, String>> = OnceLock::new();
    RUN.get_or_init(|| {
        let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
        let out = Scratch::new();
        let (scenario, url) = (out.join("traps.toml"), format!("http://{address}"));
        std::fs::write(&scenario, SCENARIO).unwrap();
        let (summary, _) = summary(&out, &["browse", &scenario, &url, "--rate", "0.5", "--duration", "3"]);
        assert_eq!(assert_balanced(&summary), 2);
        LOGS.map(|name| (name, std::fs::read_to_string(out.path().join(name)).unwrap())).into_iter().collect()
    })
}

/// The lines behind the legend, as their fields; a tag is the first of five.
fn intervals(log: &str) -> Vec<Vec<&str>> {
    let (_, behind) = log.split_once(LEGEND).unwrap();
    behind.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

fn payloads(log: &str) -> Vec<&str> {
    intervals(log).into_iter().map(|fields| *fields.last().unwrap()).collect()
}

/// What a payload holds behind its base64 and its compression.
struct Payload {
    cookies: [u32; 2],
    normalizing_offset: i32,
    digits: i32,
    lowest: i64,
    highest: i64,
    ratio: f64,
    counts: Vec<u8>,
}

impl Payload {
    fn open(base64: &str) -> Self {
        let bytes = STANDARD.decode(base64).unwrap();
        let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |bytes: &[u8], at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(usize::try_from(word(&bytes, 4)).unwrap(), bytes.len() - 8, "the length of the compressed part");
        let mut inside = Vec::new();
        ZlibDecoder::new(&bytes[8..]).read_to_end(&mut inside).unwrap();
        assert_eq!(usize::try_from(word(&inside, 4)).unwrap(), inside.len() - 40, "the length of the counts");
        Self {
            cookies: [word(&bytes, 0), word(&inside, 0)],
            normalizing_offset: word(&inside, 8).cast_signed(),
            digits: word(&inside, 12).cast_signed(),
            lowest: long(&inside, 16),
            highest: long(&inside, 24),
            ratio: f64::from_bits(long(&inside, 32).cast_unsigned()),
            counts: inside[40..].to_vec(),
        }
    }
}

#[test]
fn the_version_line_is_there() {
    for (name, log) in logs() {
        let version = log.lines().position(|line| line == "#[Histogram log format version 1.3]");
        let legend = log.lines().position(|line| line == LEGEND);
        assert!(version.is_some() && version < legend, "{name}: the C reader refuses a log without it\n{log}");
    }
}

#[test]
fn header_lines_fit_the_buffer_of_the_c_reader() {
    for (name, log) in logs() {
        let long: Vec<&str> =
            log.lines().filter(|line| line.starts_with('#') && line.len() > C_HEADER_BYTES_MAX).collect();
        assert!(long.is_empty(), "{name}: {long:?}");
    }
}

#[test]
fn no_comment_comes_after_the_legend() {
    for (name, log) in logs() {
        let (header, behind) = log.split_once(LEGEND).unwrap_or_else(|| panic!("{name} has no legend"));
        assert!(header.lines().all(|line| line.starts_with('#')), "{name}: {header}");
        assert!(!behind.contains('#'), "{name}: the C reader ends at such a line with an error");
    }
}

#[test]
fn numbers_are_digits_and_a_point() {
    for (name, log) in logs() {
        for fields in intervals(log) {
            let numbers = &fields[fields.len() - 4..fields.len() - 1];
            let plain = |number: &&str| {
                let (whole, part) = number.split_once('.').unwrap_or(("", ""));
                let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits(whole) && digits(part)
            };
            assert!(numbers.iter().all(plain), "{name}: {numbers:?} have a sign, an exponent or something else");
        }
    }
}

#[test]
fn tagged_and_untagged_lines_never_share_a_file() {
    for (name, log) in logs() {
        let tagged = intervals(log).iter().filter(|fields| fields[0].starts_with("Tag=")).count();
        let all = intervals(log).len();
        assert!(all > 0, "{name} has no line");
        // The Java reader takes untagged lines and fails where there are none; the C reader adds all lines of a file.
        assert_eq!(tagged, if *name == "latency.hlog" { 0 } else { all }, "{name}");
    }
}

#[test]
fn payloads_are_compressed_v2_with_bounds_that_fit_a_signed_long() {
    for (name, log) in logs() {
        for base64 in payloads(log) {
            let payload = Payload::open(base64);
            assert_eq!(payload.cookies, [0x1c84_9314, 0x1c84_9313], "{name}: V2, compressed");
            assert_eq!((payload.normalizing_offset, payload.digits), (0, 3), "{name}");
            assert_eq!((payload.lowest, payload.highest), (1, 3_600_000_000_000), "{name}: 1 ns to 1 h");
            assert_eq!(payload.ratio.to_bits(), 1.0_f64.to_bits(), "{name}: the ratio of whole numbers to values");
        }
    }
}

#[test]
fn the_start_time_is_there_and_no_base_time() {
    for (name, log) in logs() {
        let starts: Vec<&str> = log.lines().filter(|line| line.starts_with("#[StartTime: ")).collect();
        assert_eq!(starts.len(), 1, "{name}");
        let seconds: f64 = starts[0]["#[StartTime: ".len()..].split(' ').next().unwrap().parse().unwrap();
        assert!(seconds > 1.7e9, "{name}: seconds since 1970: {seconds}");
        assert!(!log.contains("BaseTime"), "{name}: the Java reader would take the first stamp for the start time");
        // Stamps count from the start time: the readers take those that lie a year before it for relative ones.
        let stamps =
            intervals(log).iter().map(|fields| fields[fields.len() - 4].parse().unwrap()).collect::<Vec<f64>>();
        assert!(stamps.iter().all(|stamp| (0.0..60.0).contains(stamp)), "{name}: {stamps:?}");
    }
}

#[test]
fn an_idle_second_has_a_line_with_an_empty_histogram() {
    let lines = intervals(&logs()["latency.hlog"]);
    let idle = lines.iter().find(|fields| fields[0] == "1.000").expect("a line for second 1");
    assert_eq!(idle[1..3], ["1.000", "0.000"]);
    assert!(Payload::open(idle[3]).counts.iter().all(|byte| *byte == 0), "{idle:?}");
    // And the seconds around it hold one sample each: two bytes at most for the zeros before it, then its count.
    for second in ["0.000", "2.000"] {
        let busy = lines.iter().find(|fields| fields[0] == second).unwrap();
        assert!(Payload::open(busy[3]).counts.contains(&2), "one sample is the ZigZag number 2: {busy:?}");
    }
}

#[test]
fn tags_hold_nothing_that_would_end_them() {
    let log = &logs()["latency-tags.hlog"];
    let tags: Vec<&str> = intervals(log).iter().map(|fields| fields[0]).collect();
    assert!(intervals(log).iter().all(|fields| fields.len() == 5), "a comma in a tag makes another field\n{log}");
    assert!(tags.contains(&"Tag=look__twice___a_day"), "{tags:?}");
    assert!(tags.iter().all(|tag| !tag.contains(char::is_whitespace)), "{tags:?}");
}

#[test]
fn payloads_are_padded_base64_that_begins_as_readers_expect() {
    for (name, log) in logs() {
        for base64 in payloads(log) {
            assert!(base64.starts_with("HISTFAAA"), "{name}: {base64}");
            assert_eq!(base64.len() % 4, 0, "{name}: without padding: {base64}");
            assert!(STANDARD.decode(base64).is_ok(), "{name}: not the standard alphabet: {base64}");
        }
    }
}
