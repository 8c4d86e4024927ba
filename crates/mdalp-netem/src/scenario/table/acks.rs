//! The `acks` table of a receiver.

use std::collections::BTreeSet;

use super::units::{Millis, Share};
use crate::far_end::FarEndConfig;

layer! {
    /// How a receiver acknowledges, as written.
    struct AcksTable {
        delay_ms: Millis,
        jitter_ms: Millis,
        serial: bool,
        loss: Share,
        drop: BTreeSet<u64>,
        stop_at_seq: u64,
    }
}

impl AcksTable {
    pub(super) fn build(&self) -> FarEndConfig {
        FarEndConfig {
            ack_delay: self.delay_ms.unwrap_or_default().0,
            ack_jitter: self.jitter_ms.unwrap_or_default().0,
            serial: self.serial.unwrap_or_default(),
            ack_loss: self.loss.unwrap_or_default().0,
            drop_acks: self.drop.clone().unwrap_or_default(),
            stop_at_seq: self.stop_at_seq,
        }
    }
}
