//! What a receiver can do beyond the classic protocol, as advertised in its list entry.
//!
//! `'caps': 'port=4651 crc seal window=32 chunk=1200'`: tokens separated by one space. Tokens that
//! are unknown or cannot be read are ignored, so that later versions can add some.

use std::fmt;

/// The largest window that is believed (§3.4 of the limits in `docs/reliability.md`).
pub const MAX_WINDOW: u16 = 256;
/// The largest chunk that fits a datagram on a path with an MTU of 1,280 bytes.
pub const MAX_CHUNK: u16 = 1200;

/// What one receiver advertises. The default is a classic receiver: none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// It listens here instead of on 4650. Only 4650 and 1024 to 65535 are believed (H28).
    pub port: Option<u16>,
    /// It verifies and returns CRCs.
    pub crc: bool,
    /// It can be asked whether the payload is whole.
    pub seal: bool,
    /// It records what the sender states of the whole payload, also where it holds only a share.
    pub record: bool,
    /// How many unacknowledged chunks it takes; `None` means one.
    pub window: Option<u16>,
    /// How many bytes of data it takes in a chunk; `None` means 100.
    pub chunk: Option<u16>,
}

impl Capabilities {
    /// Whether there is nothing to advertise.
    pub fn is_classic(&self) -> bool {
        *self == Self::default()
    }

    /// What both can do; the port is this one's.
    #[must_use]
    pub fn shared_with(self, other: Self) -> Self {
        let lesser = |one: Option<u16>, other| one.zip(other).map(|(one, other)| one.min(other));
        Self {
            port: self.port,
            crc: self.crc && other.crc,
            seal: self.seal && other.seal,
            record: self.record && other.record,
            window: lesser(self.window, other.window),
            chunk: lesser(self.chunk, other.chunk),
        }
    }

    /// Reads the value of a list entry's `caps` key. Never fails: see the module's header.
    pub fn parse(text: &str) -> Self {
        let mut caps = Self::default();
        for token in text.split(' ') {
            match token.split_once('=') {
                None if token == "crc" => caps.crc = true,
                None if token == "seal" => caps.seal = true,
                None if token == "record" => caps.record = true,
                Some(("port", n)) => caps.port = read(n).filter(|&p| p >= 1024),
                Some(("window", n)) => caps.window = read(n).map(|n| n.clamp(1, MAX_WINDOW)),
                Some(("chunk", n)) => {
                    caps.chunk = read(n).map(|n| n.clamp(super::CLASSIC_CHUNK, MAX_CHUNK));
                }
                _ => {}
            }
        }
        caps
    }
}

/// Digits alone: `str::parse` would take a `+` as well.
fn read(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// As in the list: tokens separated by one space.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = [
            self.port.map(|n| format!("port={n}")),
            self.crc.then(|| "crc".to_owned()),
            self.seal.then(|| "seal".to_owned()),
            self.record.then(|| "record".to_owned()),
            self.window.map(|n| format!("window={n}")),
            self.chunk.map(|n| format!("chunk={n}")),
        ];
        let tokens: Vec<String> = tokens.into_iter().flatten().collect();
        f.write_str(&tokens.join(" "))
    }
}
