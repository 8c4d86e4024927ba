//! A table that describes one direction of a path.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::units::{Megabits, Millis, Seconds, Share};
use crate::config::{
    Burst, Corruption, Duplication, Flap, Jitter, Late, Loss, Outage, PathConfig, Rate, Reordering,
};

layer! {
    /// One direction of a path, as written.
    struct PathTable {
        delay_ms: Millis,
        jitter_ms: Millis,
        jitter_reorders: bool,
        loss: Share,
        burst_loss: Share,
        mean_burst: f64,
        lose: Vec<u64>,
        max_loss_run: NonZeroU32,
        duplicate: Share,
        duplicate_after_ms: Millis,
        reorder: Share,
        reorder_window: NonZeroU32,
        late: Share,
        late_by_ms: Millis,
        corrupt_byte: Share,
        corrupt_within: NonZeroU32,
        corrupt_bit: Share,
        truncate: Share,
        rate_mbit: Megabits,
        overhead_bytes: u32,
        queue_packets: u32,
        queue_bytes: u64,
        mtu_bytes: u32,
        outages: Vec<OutageTable>,
        flap: FlapTable,
        cut: bool,
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct OutageTable {
    at_s: Seconds,
    for_s: Option<Seconds>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file name their unit")]
struct FlapTable {
    up_s: Seconds,
    down_s: Seconds,
    #[serde(default)]
    from_s: Seconds,
}

impl PathTable {
    pub(super) fn with_delay(delay_ms: Option<Millis>) -> Self {
        Self { delay_ms, ..Self::default() }
    }

    pub(super) fn build(&self) -> Result<PathConfig, String> {
        let share = |share: Option<Share>| share.unwrap_or_default().0;
        let time = |time: Option<Millis>| time.unwrap_or_default().0;
        Ok(PathConfig {
            delay: time(self.delay_ms),
            jitter: Jitter {
                max: time(self.jitter_ms),
                reorders: self.jitter_reorders.unwrap_or_default(),
            },
            loss: Loss {
                random: share(self.loss),
                burst: self.burst()?,
                nth: self.lose.clone().unwrap_or_default(),
                max_run: self.max_loss_run,
            },
            duplication: Duplication {
                probability: share(self.duplicate),
                after: time(self.duplicate_after_ms),
            },
            reordering: pair("reorder", self.reorder, "reorder_window", self.reorder_window)?
                .map(|(Share(probability), window)| Reordering { probability, window }),
            late: pair("late", self.late, "late_by_ms", self.late_by_ms)?
                .map(|(Share(probability), Millis(by))| Late { probability, by })
                .unwrap_or_default(),
            corruption: Corruption {
                byte: share(self.corrupt_byte),
                byte_within: self.corrupt_within,
                bit: share(self.corrupt_bit),
                truncate: share(self.truncate),
            },
            rate: self.rate()?,
            mtu: self.mtu_bytes,
            outages: self.outages.iter().flatten().copied().map(Outage::from).collect(),
            flap: self.flap.map(Flap::from),
            cut: self.cut.unwrap_or_default(),
        })
    }

    fn burst(&self) -> Result<Option<Burst>, String> {
        pair("burst_loss", self.burst_loss, "mean_burst", self.mean_burst)?
            .map(|(Share(average), mean)| Burst::new(average, mean))
            .transpose()
            .map_err(|error| error.to_string())
    }

    fn rate(&self) -> Result<Option<Rate>, String> {
        let Some(Megabits(limit)) = self.rate_mbit else {
            let given = self.queue_packets.is_some() || self.queue_bytes.is_some();
            return if given { Err("a queue needs `rate_mbit`".into()) } else { Ok(None) };
        };
        Ok(limit.map(|bits_per_second| Rate {
            bits_per_second,
            overhead: self.overhead_bytes.unwrap_or(Rate::IPV4_UDP),
            queue_packets: self.queue_packets,
            queue_bytes: self.queue_bytes,
        }))
    }
}

/// Two keys that only make sense together.
fn pair<A, B>(
    first: &str,
    a: Option<A>,
    second: &str,
    b: Option<B>,
) -> Result<Option<(A, B)>, String> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        _ => Err(format!("`{first}` and `{second}` belong together")),
    }
}

impl From<OutageTable> for Outage {
    fn from(table: OutageTable) -> Self {
        let length = table.for_s.map_or(Duration::MAX, |length| length.0);
        Self { start: table.at_s.0, length }
    }
}

impl From<FlapTable> for Flap {
    fn from(table: FlapTable) -> Self {
        Self { start: table.from_s.0, up: table.up_s.0, down: table.down_s.0 }
    }
}
