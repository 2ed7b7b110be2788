use proptest::prelude::{prop_assert, proptest};

use super::axis::Axis;
use super::bars::{Bar, Bars, Part};
use super::forest::{Finding, Forest, Group, Row};
use super::line::{Chart, Mark, Series, Shape};
use super::scale::Spread;
use super::text::Unit;
use super::{Plot, STYLE, STYLES, Width};

fn chart(points: Vec<(f64, f64)>) -> Plot {
    Plot::Chart(Chart {
        title: "a title".into(),
        description: "what it shows".into(),
        x: Axis { label: "percentile".into(), unit: Unit::Tail },
        x_spread: Spread::Log,
        y: Axis { label: "latency".into(), unit: Unit::Duration },
        y_spread: Spread::Log,
        y_from_zero: false,
        series: vec![Series { name: "nginx".into(), style: 0, shape: Shape::Line, stretches: vec![points] }],
        marks: vec![Mark { x: 2.0, text: "here".into() }],
        x_span: None,
    })
}

fn forest(interval: Option<(f64, f64, f64)>) -> Plot {
    let row = Row {
        label: "a ÷ b".into(),
        value: "0.71 [0.68, 0.75]".into(),
        interval,
        finding: Finding::Better,
        target: Some(0.75),
    };
    Plot::Forest(Forest {
        title: "CPU".into(),
        description: "ratios".into(),
        label: "less ◂ 1 ▸ more".into(),
        margin: 1.05,
        groups: vec![Group { heading: "64 connections".into(), rows: vec![row] }],
    })
}

/// Numbers in attributes that say where something is.
fn coordinates(svg: &str) -> Vec<f64> {
    let names = [" x=\"", " y=\"", " x1=\"", " x2=\"", " y1=\"", " y2=\"", " cx=\"", " cy=\""];
    names
        .iter()
        .flat_map(|name| svg.split(name).skip(1))
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
        .collect()
}

/// Relative luminance of `#rrggbb`, as WCAG defines it.
fn luminance(colour: &str) -> f64 {
    let channel = |place: usize| {
        let value = f64::from(u8::from_str_radix(&colour[place..place + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// WCAG AA in both editions: 4.5 for letters, 3 for what is drawn.
#[test]
fn colours_have_contrast() {
    let editions: Vec<&str> = STYLE.split("prefers-color-scheme: dark").collect();
    assert_eq!(editions.len(), 2);
    for edition in editions {
        let colour = |name: &str| {
            let rest = edition.split(&format!("--{name}: ")).nth(1).unwrap_or_else(|| panic!("no --{name}"));
            rest[..7].to_owned()
        };
        let ground = colour("ground");
        for letters in ["ink", "soft"] {
            assert!(contrast(&colour(letters), &ground) >= 4.5, "--{letters}");
        }
        let styles = (0..STYLES).map(|style| format!("s{style}"));
        for drawn in styles.chain(["better", "worse", "equal", "open", "base"].map(str::to_owned)) {
            let found = contrast(&colour(&drawn), &ground);
            assert!(found >= 3.0, "--{drawn} has a contrast of {found:.2}");
        }
    }
}

#[test]
fn a_file_stands_alone() {
    let file = forest(Some((0.71, 0.68, 0.75))).file();
    assert!(file.starts_with("<svg ") && file.ends_with("</svg>\n"));
    assert!(file.contains("xmlns=\"http://www.w3.org/2000/svg\"") && file.contains("class=\"ground\""));
    assert!(file.contains("<title id=\"plot-title\">CPU</title>") && file.contains("prefers-color-scheme"));
    assert_eq!(file, forest(Some((0.71, 0.68, 0.75))).file());
}

/// One point, or none, is drawn without a word that is no number.
#[test]
fn little_is_drawn_as_well() {
    for plot in [chart(vec![]), chart(vec![(1.0, 5.0)]), forest(None), forest(Some((1.0, 1.0, 1.0)))] {
        let file = plot.file();
        assert!(!file.contains("NaN") && !file.contains("inf"), "{file}");
    }
}

proptest! {
    /// Whatever the figures, nothing is drawn outside of the picture.
    #[test]
    fn everything_is_inside(
        points in proptest::collection::vec((1.0..1e6_f64, 0.0..1e11_f64), 0..20),
        ratio in 1e-3..1e3_f64,
        spread in 1.0..50.0_f64,
        lengths in proptest::collection::vec(0.0..1e6_f64, 2),
    ) {
        let bars = Plot::Bars(Bars {
            title: "CPU by tier".into(),
            description: "bars".into(),
            label: "µs".into(),
            unit: Unit::Microseconds,
            parts: [false, true].map(|hatched| Part { name: "user".into(), style: 0, hatched }).to_vec(),
            bars: vec![Bar { label: "nginx".into(), value: "12 µs".into(), lengths }],
        });
        for plot in [chart(points), forest(Some((ratio, ratio / spread, ratio * spread))), bars] {
            for width in [Width::Desktop, Width::Phone] {
                let svg = plot.inline(width, "x").markup();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
                let height: f64 = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap()
                    .split(' ').nth(1).unwrap().parse().unwrap();
                let most = height.max(width.units());
                prop_assert!(coordinates(&svg).iter().all(|place| (0.0..=most).contains(place)), "{svg}");
            }
        }
    }
}
