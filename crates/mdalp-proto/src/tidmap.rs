//! A map from transaction ids that is quick to look into for every datagram.
//!
//! An ordered map of places, because the ids come from the network and a hash could be made to
//! collide; and before it a small table that remembers where the ids were found that were asked for
//! last. Values stay where they are, so that a [`Place`] spares the next look-up. Does not bound
//! itself.

use crate::ids::TransactionId;
use std::collections::BTreeMap;

/// How many ids are remembered, a power of two.
const REMEMBERED: usize = 4096;

/// Where a value is; whoever kept one says which transaction it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(u32);

/// See the module.
///
/// ```
/// use mdalp_proto::{ids::TransactionId, tidmap::TidMap};
/// let mut map = TidMap::default();
/// let place = map.insert(TransactionId(7), "seven");
/// assert_eq!(map.find(TransactionId(7)), Some(place));
/// assert_eq!(map.at(place, TransactionId(7)), Some(&mut "seven"));
/// assert_eq!(map.at(place, TransactionId(8)), None);
/// ```
#[derive(Clone, Debug)]
pub struct TidMap<T> {
    index: BTreeMap<TransactionId, Place>,
    values: Vec<Option<(TransactionId, T)>>,
    free: Vec<Place>,
    /// By the low bits of the id: random ids are spread by them, counted ones lie side by side.
    remembered: Vec<Place>,
}

impl<T> Default for TidMap<T> {
    fn default() -> Self {
        Self {
            index: BTreeMap::new(),
            values: Vec::new(),
            free: Vec::new(),
            remembered: vec![Place(0); REMEMBERED],
        }
    }
}

impl<T> TidMap<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Where the value of `tid` is.
    pub fn find(&mut self, tid: TransactionId) -> Option<Place> {
        let remembered = &mut self.remembered[tid.0 as usize % REMEMBERED];
        match self.values.get(remembered.0 as usize) {
            Some(Some((at, _))) if *at == tid => Some(*remembered),
            _ => {
                let place = *self.index.get(&tid)?;
                *remembered = place;
                Some(place)
            }
        }
    }

    /// The value at `place`, if it is still that of `tid`.
    pub fn at(&mut self, place: Place, tid: TransactionId) -> Option<&mut T> {
        match self.values.get_mut(place.0 as usize) {
            Some(Some((at, value))) if *at == tid => Some(value),
            _ => None,
        }
    }

    /// The value at `place` and whose it is.
    pub fn in_place(&mut self, place: Place) -> Option<(TransactionId, &mut T)> {
        let value = self.values.get_mut(place.0 as usize)?.as_mut();
        value.map(|(tid, value)| (*tid, value))
    }

    /// The value of `tid`.
    pub fn get(&self, tid: TransactionId) -> Option<&T> {
        let place = self.index.get(&tid)?;
        self.values[place.0 as usize].as_ref().map(|(_, value)| value)
    }

    /// The value of `tid`.
    pub fn get_mut(&mut self, tid: TransactionId) -> Option<&mut T> {
        let place = self.find(tid)?;
        self.at(place, tid)
    }

    /// The value of `tid`, a new one if there was none.
    pub fn get_or_default(&mut self, tid: TransactionId) -> &mut T
    where
        T: Default,
    {
        let place = self.find(tid).unwrap_or_else(|| self.insert(tid, T::default()));
        &mut self.values[place.0 as usize].get_or_insert_with(|| (tid, T::default())).1
    }

    /// Adds or replaces the value of `tid`.
    pub fn insert(&mut self, tid: TransactionId, value: T) -> Place {
        let place = self.find(tid).or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.values.push(None);
            Place(self.values.len() as u32 - 1)
        });
        self.index.insert(tid, place);
        self.values[place.0 as usize] = Some((tid, value));
        place
    }

    /// Takes the value of `tid` out.
    pub fn remove(&mut self, tid: TransactionId) -> Option<T> {
        let place = self.index.remove(&tid)?;
        self.free.push(place);
        self.values[place.0 as usize].take().map(|(_, value)| value)
    }

    /// All of them, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (TransactionId, &T)> {
        self.index.values().filter_map(|place| {
            self.values[place.0 as usize].as_ref().map(|(tid, value)| (*tid, value))
        })
    }

    /// Keeps those for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let Self { index, values, free, .. } = self;
        index.retain(|_, place| {
            let value = &mut values[place.0 as usize];
            let kept = value.as_ref().is_some_and(|(_, value)| keep(value));
            if !kept {
                *value = None;
                free.push(*place);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_plain_map(
            ops in proptest::collection::vec((0..5_u8, 0..6_u64, 0..2_u64, any::<u16>()), 0..80),
        ) {
            let mut map = TidMap::default();
            let mut model = BTreeMap::new();
            for (op, low, high, value) in ops {
                // Some ids share their low bits.
                let tid = TransactionId(low + high * REMEMBERED as u64);
                match op {
                    0 | 1 => {
                        let place = map.insert(tid, value);
                        model.insert(tid, value);
                        prop_assert_eq!(map.at(place, tid), Some(&mut { value }));
                    }
                    2 => prop_assert_eq!(map.remove(tid), model.remove(&tid)),
                    3 => {
                        let held = *model.entry(tid).or_default();
                        prop_assert_eq!(*map.get_or_default(tid), held);
                    }
                    _ => {
                        map.retain(|held| *held >= value);
                        model.retain(|_, held| *held >= value);
                    }
                }
                for id in (0..6).flat_map(|low| [low, low + REMEMBERED as u64]) {
                    let id = TransactionId(id);
                    prop_assert_eq!(map.get(id), model.get(&id));
                    prop_assert_eq!(map.get_mut(id), model.get_mut(&id));
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().eq(model.iter().map(|(tid, value)| (*tid, value))));
            }
        }
    }

    #[test]
    fn a_place_is_good_for_its_transaction_alone() {
        let mut map = TidMap::default();
        let place = map.insert(TransactionId(1), 'a');
        map.remove(TransactionId(1));
        assert_eq!(map.at(place, TransactionId(1)), None);
        assert_eq!(map.insert(TransactionId(2), 'b'), place);
        assert_eq!((map.find(TransactionId(1)), map.at(place, TransactionId(1))), (None, None));
        assert_eq!(map.at(place, TransactionId(2)), Some(&mut 'b'));
    }
}
