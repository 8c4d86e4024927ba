//! Gives segments that are under the name of another one, or of the manifest, their own.
//!
//! Names change, bytes do not: that takes no room, and no file is ever replaced. First everything that has to
//! move goes to names that nobody had, then from there to where it belongs, and each of the two is flushed. So
//! whatever a crash leaves, and even after a flush that failed, each file has a name.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::format::SegmentId;
use crate::disk::{Access, Disk, MANIFEST};

/// Segment files.
pub(super) struct Files<F> {
    pub(super) good: BTreeMap<u64, (Arc<F>, SegmentId)>,
    /// Under the name of another one, or of the manifest.
    pub(super) misplaced: Vec<Misplaced<F>>,
    /// Left alone: their names, and of which number their headers speak.
    pub(super) unusable: BTreeMap<u64, Option<u64>>,
}

impl<F> Default for Files<F> {
    fn default() -> Self {
        Self { good: BTreeMap::new(), misplaced: Vec::new(), unusable: BTreeMap::new() }
    }
}

/// A segment, and the number under whose name it is.
pub(super) struct Misplaced<F> {
    pub(super) name: u64,
    pub(super) file: F,
    pub(super) id: SegmentId,
}

/// Puts segments in their places, if these have nothing better. What is in such a place without being of use
/// there gets a name behind all others. `last` is the last name in use, before and after.
pub(super) fn put_in_place<D: Disk>(
    disk: &D,
    files: &mut Files<D::File>,
    last: &mut u64,
) -> io::Result<()> {
    let mut wanted = BTreeMap::new();
    let mut aside = std::mem::take(&mut files.unusable);
    for Misplaced { name, file, id } in files.misplaced.drain(..) {
        if files.good.contains_key(&id.number) || wanted.contains_key(&id.number) {
            aside.insert(name, Some(id.number));
        } else {
            wanted.insert(id.number, (name, file, id));
        }
    }
    // The manifest is going to be made anew.
    aside.retain(|name, _| *name == MANIFEST || wanted.contains_key(name));
    if wanted.is_empty() && aside.is_empty() {
        return Ok(());
    }
    // No segment is to pass through the place of another one.
    *last = wanted.keys().copied().chain([*last]).max().unwrap_or(*last);
    for (name, number) in aside {
        // Not where it would be taken for a segment in its place.
        *last += if number == Some(*last + 1) { 2 } else { 1 };
        disk.rename(name, *last)?;
    }
    for (name, ..) in wanted.values_mut() {
        *last += 1;
        disk.rename(*name, *last)?;
        *name = *last;
    }
    disk.sync_dir()?;
    for (&number, &(name, ..)) in &wanted {
        disk.rename(name, number)?;
    }
    disk.sync_dir()?;
    for (number, (_, file, id)) in wanted {
        // What was under the manifest's name was opened for reading.
        drop(file);
        let file = disk.open(number, Access::Write)?;
        files.good.insert(number, (Arc::new(file), id));
    }
    Ok(())
}
