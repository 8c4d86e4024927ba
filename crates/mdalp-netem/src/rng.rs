//! Chance: probabilities and the generator that all draws come from.
//!
//! The generator is xoshiro256++ seeded by splitmix64 (Blackman and Vigna). It lives here because a
//! seed printed today must replay the same run in every later version, which general-purpose
//! generators do not promise. It is not fit for secrets.

use std::time::Duration;

/// A probability, brought into 0..=1 when it is built.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Probability(u64);

impl Probability {
    const ONE_IN_UNITS: u64 = 1 << 53;

    /// Never.
    pub const ZERO: Self = Self(0);
    /// Always.
    pub const ONE: Self = Self(Self::ONE_IN_UNITS);

    /// The probability nearest to `p`; NaN counts as 0.
    pub fn new(p: f64) -> Self {
        // A cast from a float saturates and takes NaN to 0.
        Self((p.clamp(0.0, 1.0) * Self::ONE_IN_UNITS as f64).round() as u64)
    }

    /// As a number from 0 to 1.
    pub fn get(self) -> f64 {
        self.0 as f64 / Self::ONE_IN_UNITS as f64
    }

    /// Whether it never happens.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The generator of all chance in this crate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| splitmix64(&mut state)))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Whether something of probability `p` happens. What cannot happen costs no draw.
    pub fn happens(&mut self, p: Probability) -> bool {
        !p.is_zero() && (self.next_u64() >> 11) < p.0
    }

    /// A number from 0 to `max`, both included, evenly (the bias is below 2⁻⁶⁴ × `max`).
    pub fn up_to(&mut self, max: u64) -> u64 {
        ((u128::from(self.next_u64()) * (u128::from(max) + 1)) >> 64) as u64
    }

    /// A duration from zero to `max`, both included, in nanoseconds, evenly. Zero costs no draw.
    pub fn duration_up_to(&mut self, max: Duration) -> Duration {
        if max.is_zero() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.up_to(u64::try_from(max.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The seed of stream number `stream` of a run: parts of one run draw independently of each other.
pub fn derive_seed(seed: u64, stream: u64) -> u64 {
    let mut state = stream;
    let mut mixed = seed ^ splitmix64(&mut state);
    splitmix64(&mut mixed)
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        // Splitmix64 from 0 and xoshiro256++ from the state 1, 2, 3, 4: the published values.
        let mut state = 0;
        assert_eq!(splitmix64(&mut state), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(&mut state), 0x6e78_9e6a_a1b9_65f4);
        let mut rng = Rng([1, 2, 3, 4]);
        let drawn: Vec<_> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn probabilities_are_brought_into_range() {
        assert_eq!(Probability::new(-1.0), Probability::ZERO);
        assert_eq!(Probability::new(f64::NAN), Probability::ZERO);
        assert_eq!(Probability::new(f64::INFINITY), Probability::ONE);
        assert!((Probability::new(0.3).get() - 0.3).abs() < 1e-15);
    }

    #[test]
    fn zero_never_happens_and_one_always_does() {
        let mut rng = Rng::new(3);
        assert!((0..10_000).all(|_| rng.happens(Probability::ONE)));
        let before = rng.clone();
        assert!(!rng.happens(Probability::ZERO));
        assert_eq!(rng, before, "no draw");
    }

    #[test]
    fn a_range_is_drawn_evenly_with_both_ends() {
        let mut rng = Rng::new(4);
        let mut seen = [0u32; 6];
        for _ in 0..60_000 {
            seen[rng.up_to(5) as usize] += 1;
        }
        // Four standard deviations of a binomial(60,000, 1/6).
        assert!(seen.iter().all(|n| n.abs_diff(10_000) < 366), "{seen:?}");
        assert_eq!(rng.up_to(0), 0);
        let _ = rng.up_to(u64::MAX);
    }

    #[test]
    fn streams_of_a_run_differ() {
        assert_ne!(derive_seed(1, 0), derive_seed(1, 1));
        assert_ne!(derive_seed(1, 0), derive_seed(2, 0));
    }
}
