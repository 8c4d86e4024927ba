//! Payloads that nobody has to hold: each byte follows from a seed and its offset.

/// Writes the bytes from `offset` on of the payload of `seed` to `out`.
pub(crate) fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let word = mix(seed ^ (at / 8)).to_le_bytes();
        let skip = (at % 8) as usize;
        let count = rest.len().min(8 - skip);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&word[skip..skip + count]);
        at += count as u64;
        rest = later;
    }
}

/// BLAKE3 of the first `length` bytes.
pub(crate) fn digest(seed: u64, length: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut block = [0; 1024];
    let mut at = 0;
    while at < length {
        let part = &mut block[..(length - at).min(1024) as usize];
        fill(seed, at, part);
        hasher.update(part);
        at += part.len() as u64;
    }
    hasher.finalize().into()
}

/// The finaliser of splitmix64.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_depends_on_its_offset_alone() {
        let mut whole = [0; 100];
        fill(7, 13, &mut whole);
        for from in 0..100 {
            let mut part = vec![0; (100 - from).min(17)];
            fill(7, 13 + from as u64, &mut part);
            assert_eq!(part, whole[from..from + part.len()]);
        }
        let mut other = [0; 100];
        fill(8, 13, &mut other);
        assert_ne!(whole, other);
    }
}
