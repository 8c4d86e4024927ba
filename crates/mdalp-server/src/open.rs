//! The embedded store, opened as servers use it.

use crate::error::ServerError;
use mdalp_store::disk::RealDisk;
use mdalp_store::{Durability, Options, Query, SegmentLog, Store};
use std::path::Path;
use std::sync::Arc;

/// Opens the segment log in `dir`, or makes one there, and logs what recovery found.
///
/// # Errors
/// [`ServerError::OpenStore`], for instance because another server uses the directory.
pub fn open_store(dir: &Path, durability: Durability) -> Result<Arc<dyn Store>, ServerError> {
    let id = getrandom::u64().map_err(|error| ServerError::Random(error.to_string()))?;
    let failed = |reason: String| ServerError::OpenStore { dir: dir.to_owned(), reason };
    let disk = RealDisk::create(dir).map_err(|error| failed(error.to_string()))?;
    let options = Options { durability, ..Options::new(id) };
    let log = SegmentLog::open(disk, options).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        failed(format!("{error}{}", cause.unwrap_or_default()))
    })?;
    for torn in &log.recovery().torn {
        let (segment, bytes) = (torn.segment, torn.bytes);
        tracing::info!(segment, bytes, "a write that was cut short was discarded");
    }
    for damage in &log.recovery().damage {
        tracing::warn!(%damage, "the store is damaged; what is lost is taken again when it is sent again");
    }
    // Before anything listens: who has data waits for room, who begins should be told.
    let is_new = log.receivers().is_ok_and(|receivers| receivers.is_empty());
    if is_new && !log.has_room() {
        return Err(failed(
            "there is no room: 320 MiB must be free, 64 of them for a first segment".to_owned(),
        ));
    }
    Ok(Arc::new(log))
}
