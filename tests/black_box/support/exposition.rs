//! A strict reader of Prometheus' text format 0.0.4. It shares no code with the writer that it tests.

use std::collections::{BTreeMap, BTreeSet};

/// One sample: its name, its labels, its value.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A whole scrape: kinds by family, and all samples.
#[derive(Debug, Default)]
pub struct Scrape {
    pub kinds: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Samples of one name.
    pub fn of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The sum of a name's samples.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// Reads a scrape; panics at the first thing that is not as it must be.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        let (mut family, mut helped) = (String::new(), String::new());
        let mut seen = BTreeSet::new();
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(is_name(name) && !help.trim().is_empty(), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(name, helped, "HELP comes once, before TYPE: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "a family twice: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "only counters end in _total: {line}");
                family = name.to_owned();
            } else {
                let sample = sample(line);
                let histogram = scrape.kinds.get(&family).is_some_and(|kind| kind == "histogram");
                let belongs = if histogram {
                    ["_bucket", "_sum", "_count"].iter().any(|end| sample.name == format!("{family}{end}"))
                } else {
                    sample.name == family
                };
                assert!(belongs, "a sample outside its family `{family}`: {line}");
                assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "a sample twice: {line}");
                scrape.samples.push(sample);
            }
        }
        scrape.check_histograms();
        scrape
    }

    /// Buckets rise, the last one has no bound and counts all.
    fn check_histograms(&self) {
        for family in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            for count in self.of(&format!("{family}_count")) {
                let name = format!("{family}_bucket");
                let own = |sample: &&Sample| {
                    let mut labels = sample.labels.clone();
                    labels.remove("le").expect("a bucket has a bound");
                    labels == count.labels
                };
                let buckets: Vec<&Sample> = self.of(&name).filter(own).collect();
                let bound = |sample: &Sample| number(&sample.labels["le"]);
                assert!(buckets.windows(2).all(|pair| bound(pair[0]) < bound(pair[1])), "{family}: bounds rise");
                assert!(buckets.windows(2).all(|pair| pair[0].value <= pair[1].value), "{family}: counts rise");
                let last = buckets.last().unwrap();
                assert!(last.labels["le"] == "+Inf" && last.value == count.value, "{family}: {last:?} and {count:?}");
                assert!(self.of(&format!("{family}_sum")).any(|sum| sum.labels == count.labels), "{family} has a sum");
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn number(text: &str) -> f64 {
    if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap_or_else(|_| panic!("no number: {text}")) }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label), "{line}");
            let mut text = String::new();
            let mut letters = value.char_indices();
            let close = loop {
                match letters.next().unwrap_or_else(|| panic!("a label without its end: {line}")) {
                    (place, '"') => break place,
                    (_, '\\') => text.push(match letters.next() {
                        Some((_, 'n')) => '\n',
                        Some((_, quoted @ ('\\' | '"'))) => quoted,
                        other => panic!("{other:?} is no escape: {line}"),
                    }),
                    (_, letter) => text.push(letter),
                }
            };
            assert!(labels.insert(label.to_owned(), text).is_none(), "a label twice: {line}");
            rest = &value[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("labels without their end: {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    Sample { name: name.to_owned(), labels, value: number(value) }
}
