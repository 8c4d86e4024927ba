//! Names of files, and changes of them that may or may not reach the medium. Knows nothing of what is in files.

use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Name {
    Draft(u64),
    File(u64),
}

pub(super) type Directory = BTreeMap<Name, usize>;

#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Made(Name, usize),
    Gone(Name),
    Replaced(u64, usize),
    Renamed(u64, u64, usize),
}

impl Entry {
    pub(super) fn apply(self, dir: &mut Directory) {
        match self {
            Self::Made(name, inode) => _ = dir.insert(name, inode),
            Self::Gone(name) => _ = dir.remove(&name),
            Self::Replaced(number, inode) => {
                dir.remove(&Name::Draft(number));
                dir.insert(Name::File(number), inode);
            }
            Self::Renamed(from, to, inode) => {
                dir.remove(&Name::File(from));
                dir.insert(Name::File(to), inode);
            }
        }
    }
}
