//! Settings of the receivers' rules, with their defaults and what changing them costs.

use crate::wire::Capabilities;
use std::net::SocketAddr;
use std::time::Duration;

/// What a receiver may take and how much of it. The defaults are those of the limits in the
/// reliability matrix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The receivers' own addresses: datagrams that claim to come from them are dropped (H13).
    pub own: Vec<SocketAddr>,
    /// The longest chunk taken, in bytes of data. Default 1,200 (H07).
    pub max_chunk: usize,
    /// Sequence numbers from here on are dropped. Default 16,777,216: 1.6 GB in classic chunks (H45).
    pub max_seq: u64,
    /// How many separate ranges of one transaction are kept. Default 1,024 (H45).
    pub ranges: usize,
    /// How many ranges are kept in all. Default 262,144, which is 4 MiB; beyond it only
    /// transactions with few ranges may open another one.
    pub ranges_total: usize,
    /// How many transactions are kept in memory. Default 4,096 (H46).
    pub transactions: usize,
    /// How many of them may one IP address begin. Default 64; loopback is exempt.
    pub per_source: usize,
    /// How many of them may one /24 or /56 begin. Default 256; loopback is exempt.
    pub per_prefix: usize,
    /// After how long without a new chunk a transaction is reported as quiet. Default 10 s.
    pub quiet: Duration,
    /// After how long without a chunk its memory may go to another transaction. Default 30 s (H49).
    pub evictable: Duration,
    /// After how long without a chunk it is forgotten and its ownership lapses. Default 120 s (H47).
    pub idle: Duration,
    /// Whether seals are handed to the store: where it holds all that the receivers of a transaction
    /// took, or records what is stated. Default no.
    pub seals: bool,
    /// What each receiver tells an orchestrator that it speaks, in the order of
    /// [`Local`](super::Local). Default none: no probe is answered.
    pub probed: Vec<Capabilities>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            own: Vec::new(),
            max_chunk: 1200,
            max_seq: 1 << 24,
            ranges: 1024,
            ranges_total: 262_144,
            transactions: 4096,
            per_source: 64,
            per_prefix: 256,
            quiet: Duration::from_secs(10),
            evictable: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            seals: false,
            probed: Vec::new(),
        }
    }
}
