//! Which lanes are due, and which have changed: so that an ack costs the same among a thousand
//! receivers as among three.
//!
//! Notes what is true of each lane, again only once that lane was changed. What to do about it is
//! decided elsewhere.

use super::{LaneState, Transfer};
use crate::lane::Lane;
use crate::time::Instant;
use std::collections::BTreeSet;
use std::ops::{Deref, Index, IndexMut};

/// The lanes. Whoever changes one cannot forget to say so.
#[derive(Debug)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// Changed since they were noted last; some several times.
    changed: Vec<usize>,
    /// Changed since they were pumped last.
    unpumped: BTreeSet<usize>,
}

impl Lanes {
    pub(super) fn new(lanes: Vec<Lane>) -> Self {
        let changed = 0..lanes.len();
        Self { all: lanes, changed: changed.clone().collect(), unpumped: changed.collect() }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.changed = (0..self.all.len()).collect();
        self.unpumped.extend(0..self.all.len());
        self.all.iter_mut()
    }

    /// A lane for a change that concerns neither its timers nor what it may send.
    pub(super) fn unnoticed(&mut self, at: usize) -> &mut Lane {
        &mut self.all[at]
    }

    /// It has sent all that it may.
    pub(super) fn pumped(&mut self, at: usize) {
        self.unpumped.remove(&at);
    }
}

impl Deref for Lanes {
    type Target = [Lane];
    fn deref(&self) -> &[Lane] {
        &self.all
    }
}

impl Index<usize> for Lanes {
    type Output = Lane;
    fn index(&self, at: usize) -> &Lane {
        &self.all[at]
    }
}

impl IndexMut<usize> for Lanes {
    fn index_mut(&mut self, at: usize) -> &mut Lane {
        if self.changed.last() != Some(&at) {
            self.changed.push(at);
        }
        self.unpumped.insert(at);
        &mut self.all[at]
    }
}

/// What is noted of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Note {
    due: Instant,
    /// It would take more at once.
    idle: bool,
    /// It is silent and has something to give away.
    gives: bool,
}

/// What is noted of all lanes, in order.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    notes: Vec<Note>,
    due: BTreeSet<(Instant, usize)>,
    idle: usize,
    giving: usize,
}

impl Agenda {
    pub(super) fn new(lanes: usize) -> Self {
        let nothing = Note { due: Instant::NEVER, idle: false, gives: false };
        Self { notes: vec![nothing; lanes], ..Self::default() }
    }

    fn set(&mut self, at: usize, new: Note) {
        let old = std::mem::replace(&mut self.notes[at], new);
        if old.due != new.due {
            self.due.remove(&(old.due, at));
            self.due.insert((new.due, at));
        }
        self.idle = self.idle + usize::from(new.idle) - usize::from(old.idle);
        self.giving = self.giving + usize::from(new.gives) - usize::from(old.gives);
    }

    /// When the first lane is due.
    pub(super) fn next(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |&(due, _)| due)
    }

    /// The lanes that are due at `now`.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<usize> {
        self.due.range(..=(now, usize::MAX)).map(|&(_, at)| at).collect()
    }

    /// Whether some lane would take more at once.
    pub(super) fn anybody_idle(&self) -> bool {
        self.idle > 0
    }

    /// Whether some lane is silent and has something to give away.
    pub(super) fn anybody_gives(&self) -> bool {
        self.giving > 0
    }
}

impl Transfer {
    /// Notes what is true now of the lanes that were changed.
    pub(super) fn note_changes(&mut self) {
        while let Some(at) = self.lanes.changed.pop() {
            self.agenda.set(at, self.note(at));
        }
    }

    fn note(&self, at: usize) -> Note {
        let (lane, extra) = (&self.lanes[at], &self.extras[at]);
        let suspect = lane.state == LaneState::Suspect;
        let also = match (suspect, lane.has_work(), lane.waiting_since()) {
            (true, false, _) => extra.next_probe,
            (false, _, Some(since)) => since + self.config.suspect_after,
            _ => Instant::NEVER,
        };
        Note {
            due: lane.timer().unwrap_or(Instant::NEVER).min(also),
            idle: lane.state == LaneState::Active
                && !lane.has_queued()
                && lane.has_room()
                && self.policy.feeds(extra.was_suspect),
            gives: suspect && lane.has_work(),
        }
    }

    /// Whether what is noted is true of every lane, changed or not.
    #[cfg(test)]
    pub(super) fn notes_are_true(&self) -> bool {
        let notes: Vec<Note> = (0..self.lanes.len()).map(|at| self.note(at)).collect();
        let due = notes.iter().map(|note| note.due).min().unwrap_or(Instant::NEVER);
        let idle = notes.iter().filter(|note| note.idle).count();
        let giving = notes.iter().filter(|note| note.gives).count();
        (&notes, due, idle, giving)
            == (&self.agenda.notes, self.agenda.next(), self.agenda.idle, self.agenda.giving)
    }

    /// Lets the lanes send that may be able to: those that are due, and those that have changed.
    pub(super) fn pump_changed(&mut self, now: Instant) {
        self.note_changes();
        let mut lanes = self.agenda.due(now);
        lanes.extend(&self.lanes.unpumped);
        for at in lanes {
            self.pump(now, at);
        }
    }
}
