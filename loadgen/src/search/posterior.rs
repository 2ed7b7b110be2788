//! What trials at several rates say about the rate at which one passes as often as not.
//!
//! A trial at rate x passes with probability `LAPSE + (1 - 2 LAPSE) / (1 + exp((ln x - knee) / width))`: almost surely
//! well below the knee, almost never well above it. Neither the knee nor the width of the transition is known, so both
//! are held as a table of probabilities, flat at the start in the logarithm of either, and each trial multiplies it by the
//! likelihood of its answer. That stays right when rates are chosen by what was learnt before, which a binomial bound at
//! one rate would not.

/// Places of the knee and of the width in the table.
const KNEES: usize = 401;
const WIDTHS: usize = 12;
/// The transition is at least and at most so wide, as a share of the rate.
const WIDTH_MIN: f64 = 0.005;
const WIDTH_MAX: f64 = 0.1;
/// The share of trials that answer by something that is neither the rate nor the system's usual noise.
const LAPSE: f64 = 0.01;
/// The knee lies within the bracket, or outside of it by at most this factor: the bracket comes of short probes.
const MARGIN: f64 = 2.0;

/// A median and the central 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub middle: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug)]
pub struct Posterior {
    /// Logarithms of rates, ascending.
    knees: Vec<f64>,
    widths: Vec<f64>,
    /// By knee, then width; not normalised.
    weights: Vec<f64>,
}

impl Posterior {
    /// Knows only that the knee is around a rate that passed and one that failed.
    pub fn around(pass: f64, fail: f64) -> Self {
        let (low, high) = ((pass.min(fail) / MARGIN).ln(), (fail.max(pass) * MARGIN).ln());
        let along = |index: usize, count: usize| index as f64 / (count - 1) as f64;
        let widths = |index| WIDTH_MIN * (WIDTH_MAX / WIDTH_MIN).powf(along(index, WIDTHS));
        Self {
            knees: (0..KNEES).map(|index| low + (high - low) * along(index, KNEES)).collect(),
            widths: (0..WIDTHS).map(widths).collect(),
            weights: vec![1.0; KNEES * WIDTHS],
        }
    }

    /// Takes the answer of a trial.
    pub fn learn(&mut self, rate: f64, passed: bool) {
        let at = rate.ln();
        let mut largest = 0.0_f64;
        for (row, knee) in self.weights.chunks_mut(WIDTHS).zip(&self.knees) {
            for (weight, width) in row.iter_mut().zip(&self.widths) {
                let pass = LAPSE + (1.0 - 2.0 * LAPSE) / (1.0 + ((at - knee) / width).exp());
                *weight *= if passed { pass } else { 1.0 - pass };
                largest = largest.max(*weight);
            }
        }
        // Many trials make small numbers.
        self.weights.iter_mut().for_each(|weight| *weight /= largest);
    }

    /// The rate for a trial that is to stand so many widths beside the knee.
    pub fn place(&self, widths: f64) -> f64 {
        (self.quantile(0.5) + widths * self.width()).exp()
    }

    pub fn interval(&self) -> Interval {
        let [low, middle, high] = [0.025, 0.5, 0.975].map(|share| self.quantile(share).exp());
        Interval { middle, low, high }
    }

    /// The mean of the width's logarithm, as a width.
    fn width(&self) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for row in self.weights.chunks(WIDTHS) {
            for (weight, width) in row.iter().zip(&self.widths) {
                (sum, total) = (sum + weight * width.ln(), total + weight);
            }
        }
        (sum / total).exp()
    }

    /// The logarithm of the rate below which the knee lies with this probability.
    fn quantile(&self, share: f64) -> f64 {
        let rows = || self.weights.chunks(WIDTHS).map(|row| row.iter().sum::<f64>());
        let total: f64 = rows().sum();
        let step = self.knees[1] - self.knees[0];
        let mut below = 0.0;
        for (row, knee) in rows().zip(&self.knees) {
            if below + row >= share * total {
                // Within the step, as if the weight were spread evenly over it.
                return knee + step * ((share * total - below) / row - 0.5);
            }
            below += row;
        }
        self.knees[KNEES - 1]
    }
}
