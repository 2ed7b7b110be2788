//! From values to places: linear and logarithmic scales with round bounds and round ticks.

/// How values are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Linear,
    /// Values above zero only.
    Log,
}

/// A range of values and the range of places that shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    spread: Spread,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

/// Mantissas of the ticks of a decade, finest first.
const MANTISSAS: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
/// Below this quotient of its bounds a logarithmic scale is ticked like a linear one.
const FLAT_QUOTIENT: f64 = 4.0;

impl Scale {
    /// Shows `low..high` between the places `from` and `to`. A range without extent gets some.
    pub fn new(spread: Spread, (low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let (low, high) = match spread {
            Spread::Linear if high - low > f64::EPSILON * high.abs().max(low.abs()) => (low, high),
            Spread::Linear => (low - 0.5, high + 0.5),
            Spread::Log => {
                assert!(low > 0.0, "invariant: a logarithmic scale has values above zero");
                if high > low * 1.000_001 { (low, high) } else { (low / 1.5, high * 1.5) }
            }
        };
        Self { spread, low, high, from, to }
    }

    /// The same with bounds that are round numbers.
    pub fn rounded(self, ticks_wanted: usize) -> Self {
        let (low, high) = match self.spread {
            Spread::Linear => {
                let step = round_step((self.high - self.low) / count(ticks_wanted));
                ((self.low / step).floor() * step, (self.high / step).ceil() * step)
            }
            Spread::Log => (round_down(self.low), round_up(self.high)),
        };
        Self { low, high, ..self }
    }

    /// The place of a value; values outside stick to the edge.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.spread {
            Spread::Linear => (value - self.low) / (self.high - self.low),
            Spread::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round values within the bounds, about as many as wanted and never more than twice that.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        match self.spread {
            Spread::Log if self.high / self.low > FLAT_QUOTIENT => self.decades(wanted),
            Spread::Linear | Spread::Log => self.steps(wanted),
        }
    }

    fn steps(&self, wanted: usize) -> Vec<f64> {
        let step = round_step((self.high - self.low) / count(wanted));
        let first = (self.low / step - 1e-9).ceil();
        let last = (self.high / step + 1e-9).floor();
        let mut ticks = Vec::new();
        let mut index = first;
        while index <= last {
            ticks.push(index * step);
            index += 1.0;
        }
        ticks
    }

    fn decades(&self, wanted: usize) -> Vec<f64> {
        let all = |mantissas: &[f64]| {
            let mut ticks = Vec::new();
            let mut power = 10_f64.powf(self.low.log10().floor());
            while power <= self.high {
                let of_decade = mantissas.iter().map(|mantissa| mantissa * power);
                ticks.extend(of_decade.filter(|tick| self.contains(tick * 1.000_001) || self.contains(*tick)));
                power *= 10.0;
            }
            ticks
        };
        let fitting = MANTISSAS.iter().map(|mantissas| all(mantissas)).find(|ticks| ticks.len() <= wanted + 1);
        fitting.unwrap_or_else(|| {
            let ticks = all(&[1.0]);
            let every = ticks.len().div_ceil(wanted.max(1));
            ticks.into_iter().step_by(every).collect()
        })
    }
}

fn count(wanted: usize) -> f64 {
    // Ticks are a handful.
    wanted.max(1) as f64
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let share = step / power;
    let mantissa = [1.0, 2.0, 2.5, 5.0].into_iter().find(|round| share <= round * 1.000_001).unwrap_or(10.0);
    mantissa * power
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let share = value / power;
    [5.0, 3.0, 2.0, 1.5].into_iter().find(|round| share >= round * 0.999_999).unwrap_or(1.0) * power
}

fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let share = value / power;
    [1.0, 1.5, 2.0, 3.0, 5.0].into_iter().find(|round| share <= round * 1.000_001).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, proptest};

    use super::{Scale, Spread};

    fn rounded(values: Vec<f64>) -> Vec<f64> {
        values.into_iter().map(|value| (value * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn values_find_their_place() {
        let linear = Scale::new(Spread::Linear, (0.0, 10.0), (100.0, 200.0));
        assert_eq!([0.0, 5.0, 10.0, 99.0].map(|value| linear.at(value)), [100.0, 150.0, 200.0, 200.0]);
        let log = Scale::new(Spread::Log, (1.0, 100.0), (0.0, 10.0));
        assert_eq!([1.0, 10.0, 100.0, 0.0].map(|value| log.at(value).round()), [0.0, 5.0, 10.0, 0.0]);
    }

    #[test]
    fn ticks_are_round() {
        let linear = Scale::new(Spread::Linear, (0.0, 46_453.0), (0.0, 1.0)).rounded(5);
        assert_eq!(linear.ticks(5), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        let log = Scale::new(Spread::Log, (150.0, 8e6), (0.0, 1.0)).rounded(6);
        assert_eq!(rounded(log.ticks(6)), [1e3, 1e4, 1e5, 1e6, 1e7]);
        let ratio = Scale::new(Spread::Log, (0.93, 1.08), (0.0, 1.0));
        assert_eq!(rounded(ratio.ticks(4)), [0.95, 1.0, 1.05]);
        let wide = Scale::new(Spread::Log, (0.2, 5.0), (0.0, 1.0));
        assert_eq!(rounded(wide.ticks(5)), [0.2, 0.5, 1.0, 2.0, 5.0]);
        let flat = Scale::new(Spread::Linear, (7.0, 7.0), (0.0, 1.0));
        assert!(flat.ticks(4).contains(&7.0));
    }

    proptest! {
        /// Whatever was measured, a scale has bounds around it and a few ticks within them.
        #[test]
        fn any_range_has_ticks(low in 1e-9..1e12_f64, factor in 1.0..1e9_f64, wanted in 2..9_usize, log in proptest::bool::ANY.prop_map(|log| log)) {
            let spread = if log { Spread::Log } else { Spread::Linear };
            let scale = Scale::new(spread, (low, low * factor), (0.0, 500.0)).rounded(wanted);
            let ticks = scale.ticks(wanted);
            prop_assert!(scale.contains(low) && scale.contains(low * factor));
            prop_assert!(!ticks.is_empty() && ticks.len() <= 2 * wanted + 2, "{ticks:?}");
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(ticks.iter().all(|tick| (0.0..=500.0).contains(&scale.at(*tick))));
        }
    }
}
