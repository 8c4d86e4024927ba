//! Bytes as a script: small numbers, one after the other.
//!
//! At its end every answer is zero, so that each beginning of a script is a script too, and no input
//! is wasted. Does not know what the numbers mean.

/// What is left of a script.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number from 0 to `end`, exclusive.
    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end.max(1)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        (0..8).fold(0, |n, _| n << 8 | u64::from(self.byte()))
    }

    /// Mostly a small number, sometimes one at an edge.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=247 => u64::from(small),
            248 => u64::from(self.u16()),
            249 => u64::from(u32::MAX),
            250 => 1 << 32,
            251 => 1 << 63,
            252 => u64::MAX - 1,
            253 => u64::MAX,
            _ => self.u64(),
        }
    }

    /// A duration in nanoseconds: from a microsecond to hours, in steps of a quarter.
    pub(crate) fn nanos(&mut self) -> u64 {
        let step = self.byte();
        let octave = 10 + u32::from(step >> 3);
        (1 << octave) + ((1 << octave) >> 3) * u64::from(step & 7)
    }

    /// The next bytes, fewer at the end.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A short string of bytes with its length before it.
    pub(crate) fn short(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.bytes(usize::from(len))
    }
}
