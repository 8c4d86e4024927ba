//! Values that change at given moments. Does not watch a clock: it is told the time.

use std::time::Duration;

/// A value from the start and what replaces it when.
///
/// Anything that takes a schedule also takes a plain value, which then never changes.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule<C> {
    current: C,
    /// Later values, latest first, so that the next one is at the end.
    changes: Vec<(Duration, C)>,
}

impl<C> Schedule<C> {
    /// Adds a change at `at`. Of two changes at the same moment the one added later holds.
    #[must_use]
    pub fn then(mut self, at: Duration, value: C) -> Self {
        let index = self.changes.partition_point(|(other, _)| *other > at);
        self.changes.insert(index, (at, value));
        self
    }

    /// The value that holds now.
    pub const fn current(&self) -> &C {
        &self.current
    }

    /// When the next change is due; `None` if nothing changes any more.
    pub fn next_change(&self) -> Option<Duration> {
        self.changes.last().map(|(at, _)| *at)
    }

    /// Makes the changes due by `now`. Time does not run backwards: what is over stays over.
    pub fn advance(&mut self, now: Duration) {
        while let Some((_, value)) = self.changes.pop_if(|(at, _)| *at <= now) {
            self.current = value;
        }
    }
}

impl<C> From<C> for Schedule<C> {
    fn from(value: C) -> Self {
        Self { current: value, changes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_hold_from_their_moment_on() {
        let at = Duration::from_secs;
        let mut schedule = Schedule::from('a').then(at(9), 'd').then(at(2), 'b').then(at(2), 'c');
        let seen: String = [0, 1, 2, 8, 9, 10]
            .map(|s| {
                schedule.advance(at(s));
                *schedule.current()
            })
            .iter()
            .collect();
        assert_eq!(seen, "aaccdd");
        assert_eq!(schedule.next_change(), None);
    }
}
