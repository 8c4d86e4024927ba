//! Dividing a payload over receivers in proportion to 1/latency (rules R-12 to R-14).
//!
//! Byte for byte the published client's shares wherever its rule is sound, without its two losses:
//! bytes left over by rounding go to the nearest receiver (S6), and the floor shrinks when there are
//! more than ten receivers, so that it cannot eat the fast ones' shares (S7). Does not measure
//! latencies and does not know how shares are sent.

/// What one receiver gets of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// Bytes of payload; the shares follow each other in list order.
    pub bytes: u64,
    /// Chunks that these bytes make; the last may be short.
    pub chunks: u64,
    /// The number of the first of them.
    pub first_seq: u64,
}

/// The least that a receiver gets, as a fraction of the payload, with up to ten receivers.
const FLOOR: f64 = 0.1;

/// Splits `payload` bytes over receivers with these latencies (any unit, in list order).
///
/// Latencies that are not positive finite numbers count as the smallest positive one. The shares
/// always add up to `payload`.
///
/// ```
/// let shares = mdalp_proto::split::byte_shares(5000, &[335.148, 162.844, 156.857]);
/// assert_eq!(shares, [963, 1981, 2056]);
/// ```
pub fn byte_shares(payload: u64, latencies: &[f64]) -> Vec<u64> {
    let weights: Vec<f64> = latencies
        .iter()
        .map(|l| 1.0 / if l.is_finite() { l.max(f64::MIN_POSITIVE * 1e16) } else { f64::MAX })
        .collect();
    let count = weights.len();
    let floor = if count <= 10 { FLOOR } else { 0.5 / count as f64 };
    let ratios = ratios_with_floor(&weights, floor);
    let size = payload as f64;
    let mut least = (floor * size).ceil() as u64;
    if least.saturating_mul(count as u64) > payload {
        least = 0;
    }

    // From the smallest ratio up, so that what rounding takes is taken from the largest shares.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| ratios[a].total_cmp(&ratios[b]));
    let mut shares = vec![0; count];
    let mut remaining = payload;
    for index in order {
        let ideal = (ratios[index] * size).round_ties_even() as u64;
        shares[index] = ideal.max(least).min(remaining);
        remaining -= shares[index];
    }
    // First of equals: the heaviest weight that comes first in the list.
    let nearest = (0..count).rev().max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
    if let Some(nearest) = nearest {
        shares[nearest] += remaining;
    }
    shares
}

/// Weights brought to a sum of one, with none below `floor`: those under it get it, and the others
/// share what is left in proportion.
fn ratios_with_floor(weights: &[f64], floor: f64) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let mut ratios: Vec<f64> = weights.iter().map(|w| w / total).collect();
    let mut floored = vec![false; weights.len()];
    loop {
        let mut changed = false;
        for (is_floored, ratio) in floored.iter_mut().zip(&ratios) {
            if !*is_floored && *ratio < floor {
                (*is_floored, changed) = (true, true);
            }
        }
        if !changed {
            return ratios;
        }
        let left = 1.0 - floor * floored.iter().filter(|f| **f).count() as f64;
        let free: f64 = weights.iter().zip(&floored).filter(|(_, f)| !**f).map(|(w, _)| w).sum();
        for ((ratio, weight), is_floored) in ratios.iter_mut().zip(weights).zip(&floored) {
            *ratio = if *is_floored { floor } else { weight / free * left };
        }
    }
}

/// Cuts byte shares into chunks of `chunk` bytes and numbers them through, in list order.
///
/// ```
/// use mdalp_proto::split::{Share, number_chunks};
/// let shares = number_chunks(&[963, 1981, 2056], 100);
/// assert_eq!(shares[2], Share { bytes: 2056, chunks: 21, first_seq: 30 });
/// ```
pub fn number_chunks(byte_shares: &[u64], chunk: u16) -> Vec<Share> {
    let mut first_seq = 0;
    let mut number = |bytes: &u64| {
        let share = Share { bytes: *bytes, chunks: bytes.div_ceil(chunk.max(1).into()), first_seq };
        first_seq += share.chunks;
        share
    };
    byte_shares.iter().map(&mut number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn with_ten_receivers_the_least_share_is_a_tenth_and_with_eleven_half_an_equal_one() {
        let with_one_near = |count: usize| {
            let latencies: Vec<f64> = (0..count).map(|n| if n == 0 { 1.0 } else { 1e6 }).collect();
            byte_shares(11_000, &latencies)
        };
        assert_eq!(with_one_near(10), [1100; 10]);
        let eleven = with_one_near(11);
        assert_eq!((eleven[0], &eleven[1..]), (6000, &[500; 10][..]));
    }

    #[test]
    fn the_published_plans_come_out_to_the_byte() {
        let text = include_str!("../../../vectors/split.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 400);
        for case in cases {
            let latencies: Vec<f64> = case["latencies_ms"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l.as_f64().unwrap())
                .collect();
            let payload = case["payload_bytes"].as_u64().unwrap();
            let shares = number_chunks(&byte_shares(payload, &latencies), 100);
            let field = |share: &serde_json::Value, name| share[name].as_u64().unwrap();
            let expected: Vec<Share> = case["shares"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| Share {
                    bytes: field(s, "bytes"),
                    chunks: field(s, "chunks"),
                    first_seq: field(s, "first_seq"),
                })
                .collect();
            assert_eq!(shares, expected, "{case}");
        }
    }

    #[test]
    fn s7_with_many_receivers_the_fast_one_still_gets_the_most() {
        let mut latencies = vec![100.0; 64];
        latencies[63] = 1.0;
        let shares = byte_shares(1_000_000, &latencies);
        assert_eq!(shares.iter().sum::<u64>(), 1_000_000);
        assert!(shares[..63].iter().all(|&s| s >= 7_812 && s < shares[63]));
        let equal = byte_shares(1100, &[5.0; 11]);
        assert_eq!(equal, [100; 11]);
    }

    #[test]
    fn absurd_latencies_lose_no_byte() {
        for latencies in
            [&[0.0, -1.0][..], &[f64::NAN, 1.0], &[f64::INFINITY, f64::INFINITY], &[1e-300, 1e300]]
        {
            assert_eq!(byte_shares(777, latencies).iter().sum::<u64>(), 777, "{latencies:?}");
        }
        assert_eq!(byte_shares(777, &[]), Vec::<u64>::new());
    }

    proptest! {
        /// Invariant 2 (S6): whatever the plan, the shares add up and the numbers run on.
        #[test]
        fn s6_shares_always_add_up(
            payload in prop_oneof![0..3000u64, 0..10_000_000_000u64],
            latencies in proptest::collection::vec(0.01..1000.0f64, 1..70),
            chunk in 1..1300u16,
        ) {
            let shares = number_chunks(&byte_shares(payload, &latencies), chunk);
            prop_assert_eq!(shares.iter().map(|s| s.bytes).sum::<u64>(), payload);
            let mut next = 0;
            for share in shares {
                prop_assert_eq!(share.first_seq, next);
                next += share.chunks;
                prop_assert!(share.chunks * u64::from(chunk) >= share.bytes);
                prop_assert!(share.bytes == 0 || (share.chunks - 1) * u64::from(chunk) < share.bytes);
            }
        }
    }
}
