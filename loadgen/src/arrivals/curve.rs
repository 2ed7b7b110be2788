//! A rate over time, its integral, and the inverse of that: when the integral passes a given number of arrivals.
//!
//! A curve is a series of pieces on which the rate is linear. The integral is kept in whole half-micro-arrival-
//! nanoseconds, in which every piece's area is an integer: nothing is rounded from piece to piece, so nothing drifts.
//! Within a sloped piece the inverse is the root of a quadratic, taken with additions, multiplications, a division and a
//! square root alone. IEEE 754 rounds those in one way only, so that every machine finds the same nanosecond.

use crate::arrivals::rate::Rate;

/// The integral over one second at a rate of one arrival a second: micro-arrivals, nanoseconds, halves.
pub const MASS_PER_ARRIVAL: u128 = 2_000_000_000_000_000;
/// Length of the last piece of a curve that ends at a rate and stays there: 36 years.
const HOLD_NS: u64 = 1 << 60;
/// Offsets beyond this do not come up.
const OFFSET_NS_MAX: u64 = 1 << 62;

/// A stretch of time over which the rate goes from one value to another in a straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub length_ns: u64,
    pub from: Rate,
    pub to: Rate,
}

impl Piece {
    pub fn flat(length_ns: u64, rate: Rate) -> Self {
        Self { length_ns, from: rate, to: rate }
    }

    fn mass(&self) -> u128 {
        (u128::from(self.from.micro_per_s()) + u128::from(self.to.micro_per_s())) * u128::from(self.length_ns)
    }

    /// Nanoseconds into the piece at which its integral passes `mass`, which is below its whole mass. A sloped piece is
    /// exact to the rounding of an f64: 0.04 ns at the end of a day.
    fn inverse(&self, mass: u128) -> u64 {
        let (from, to) = (self.from.micro_per_s(), self.to.micro_per_s());
        if from == to {
            return u64::try_from(mass / (2 * u128::from(from))).expect("invariant: within the piece");
        }
        let (mass, from_f, length) = (mass as f64, from as f64, self.length_ns as f64);
        let slope = (to as f64 - from_f) / length;
        // The root of slope t² + 2 from t = mass, in the form that cancels nothing.
        let discriminant = (from_f * from_f + slope * mass).max(0.0);
        let denominator = from_f + discriminant.sqrt();
        if denominator <= 0.0 {
            return 0;
        }
        // Not negative, and at most the length but for a rounding.
        ((mass / denominator) as u64).min(self.length_ns - 1)
    }
}

/// Pieces one after the other; behind the last one those from `cycle` on come again, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    pieces: Vec<Piece>,
    cycle: usize,
}

impl Curve {
    /// A curve that stays at its last rate.
    pub fn ending(mut pieces: Vec<Piece>, last: Rate) -> Self {
        pieces.retain(|piece| piece.length_ns > 0);
        pieces.push(Piece::flat(HOLD_NS, last));
        Self { cycle: pieces.len() - 1, pieces }
    }

    /// A curve whose pieces from `cycle` on repeat.
    pub fn repeating(mut lead: Vec<Piece>, cycle: &[Piece]) -> Self {
        lead.retain(|piece| piece.length_ns > 0);
        let start = lead.len();
        lead.extend(cycle);
        Self { pieces: lead, cycle: start }
    }

    /// The highest rate that ever comes.
    pub fn peak(&self) -> Rate {
        self.pieces.iter().map(|piece| piece.from.max(piece.to)).max().unwrap_or(Rate::ZERO)
    }

    /// The number of arrivals that the curve gives between two offsets.
    pub fn arrivals_between(&self, from_ns: u64, to_ns: u64) -> f64 {
        (self.mass_until(to_ns) - self.mass_until(from_ns)) as f64 / MASS_PER_ARRIVAL as f64
    }

    fn mass_until(&self, until_ns: u64) -> u128 {
        let (mut at_ns, mut mass, mut index) = (0, 0, 0);
        loop {
            let piece = self.pieces[index];
            let rest_ns = until_ns - at_ns;
            if rest_ns <= piece.length_ns {
                let (from, to) = (i128::from(piece.from.micro_per_s()), i128::from(piece.to.micro_per_s()));
                let rest = i128::from(rest_ns);
                let (rise, length) = ((to - from) * rest, i128::from(piece.length_ns));
                // rise * rest / length, in two parts that fit.
                let part = 2 * from * rest + rise / length * rest + rise % length * rest / length;
                return mass + u128::try_from(part).unwrap_or(0);
            }
            (at_ns, mass) = (at_ns + piece.length_ns, mass + piece.mass());
            index = self.after(index);
        }
    }

    fn after(&self, index: usize) -> usize {
        if index + 1 < self.pieces.len() { index + 1 } else { self.cycle }
    }
}

/// A place on a curve that moves forward only.
#[derive(Clone, Debug)]
pub struct Cursor {
    curve: Curve,
    index: usize,
    /// Where the piece begins, and the integral up to there.
    start_ns: u64,
    start_mass: u128,
    piece_mass: u128,
    last_ns: u64,
}

impl Cursor {
    pub fn new(curve: Curve) -> Self {
        let piece_mass = curve.pieces[0].mass();
        Self { curve, index: 0, start_ns: 0, start_mass: 0, piece_mass, last_ns: 0 }
    }

    /// The offset at which the integral passes `mass`, which never decreases from call to call; `None` if it never does.
    pub fn offset_ns(&mut self, mass: u128) -> Option<u64> {
        while mass - self.start_mass >= self.piece_mass {
            self.start_ns += self.curve.pieces[self.index].length_ns;
            if self.start_ns > OFFSET_NS_MAX {
                return None;
            }
            self.start_mass += self.piece_mass;
            self.index = self.curve.after(self.index);
            self.piece_mass = self.curve.pieces[self.index].mass();
        }
        let within_ns = self.curve.pieces[self.index].inverse(mass - self.start_mass);
        // A rounding at the border of two arrivals must not turn time back.
        self.last_ns = self.last_ns.max(self.start_ns + within_ns);
        Some(self.last_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Curve, MASS_PER_ARRIVAL, Piece};
    use crate::arrivals::rate::Rate;

    const SECOND_NS: u64 = 1_000_000_000;

    fn rate(per_s: f64) -> Rate {
        Rate::of(per_s).unwrap()
    }

    #[test]
    fn the_inverse_is_the_inverse_of_the_integral() {
        let slopes = [(0.0, 1000.0), (1000.0, 0.0), (3.7, 9999.1), (5000.0, 4999.999), (1e7, 0.001), (12.0, 12.0)];
        for (from, to) in slopes {
            let piece = Piece { length_ns: 7 * SECOND_NS + 13, from: rate(from), to: rate(to) };
            let curve = Curve::ending(vec![piece], Rate::ZERO);
            let mut cursor = Cursor::new(curve.clone());
            let total = piece.mass();
            let mut last_ns = 0;
            for step in 0..10_000_u128 {
                let mass = total * step / 10_000;
                let offset_ns = cursor.offset_ns(mass).unwrap();
                assert!(offset_ns >= last_ns, "{from}..{to}");
                last_ns = offset_ns;
                // Two nanoseconds to either side bracket the mass.
                assert!(curve.mass_until(offset_ns.saturating_sub(2)) <= mass, "{from}..{to} at {offset_ns}");
                assert!(curve.mass_until(offset_ns + 2) >= mass, "{from}..{to} at {offset_ns}");
            }
        }
    }

    #[test]
    fn pieces_without_arrivals_are_passed_and_an_end_is_an_end() {
        let pieces = vec![
            Piece::flat(SECOND_NS, rate(2.0)),
            Piece::flat(SECOND_NS, Rate::ZERO),
            Piece::flat(SECOND_NS, rate(1.0)),
        ];
        let mut cursor = Cursor::new(Curve::ending(pieces, Rate::ZERO));
        let offsets: Vec<Option<u64>> = (0..5).map(|k| cursor.offset_ns(k * MASS_PER_ARRIVAL)).collect();
        assert_eq!(offsets, [Some(0), Some(500_000_000), Some(2 * SECOND_NS), None, None]);
    }

    #[test]
    fn a_cycle_comes_again_without_drift() {
        let cycle = [
            Piece { length_ns: SECOND_NS, from: rate(0.0), to: rate(6.0) },
            Piece { length_ns: SECOND_NS, from: rate(6.0), to: rate(0.0) },
        ];
        let lead = vec![Piece::flat(SECOND_NS, rate(6.0))];
        let curve = Curve::repeating(lead, &cycle);
        assert_eq!(curve.arrivals_between(SECOND_NS, 2_000_001 * SECOND_NS), 6_000_000.0);
        assert_eq!(curve.arrivals_between(0, SECOND_NS), 6.0);
        let mut cursor = Cursor::new(curve);
        // Six arrivals a cycle: the first of each stands at its beginning.
        let starts: Vec<u64> =
            (0..100_000).map(|turn| cursor.offset_ns((6 + turn * 6) * MASS_PER_ARRIVAL).unwrap()).collect();
        assert!(starts.iter().zip(0..).all(|(&start_ns, turn)| start_ns == (1 + 2 * turn) * SECOND_NS));
    }
}
