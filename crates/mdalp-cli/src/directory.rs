//! Whether a directory that was named is one of a server's: a wrong one must not look like an empty one.
//!
//! Judges by the names of files alone. What is in them is the store's matter.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a directory has, by the names in it.
#[derive(Debug, Default)]
struct Names {
    /// Whether there is a segment, or a manifest, which says that there were some.
    store: bool,
    /// Something that is none of the store's files.
    strange: Option<String>,
    directories: Vec<PathBuf>,
}

fn names(dir: &Path) -> io::Result<Names> {
    let mut all = Names::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbered = |ending| {
            let digits = name.strip_suffix(ending).filter(|digits| digits.len() >= 10);
            digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        };
        all.store |= numbered(".seg") || name == "manifest";
        // Every file system of its own has a `lost+found`.
        if !numbered(".seg")
            && !numbered(".new")
            && !["lock", "manifest", "lost+found"].contains(&&*name)
        {
            all.strange.get_or_insert(name);
        }
        if entry.path().is_dir() {
            all.directories.push(entry.path());
        }
    }
    all.directories.sort_unstable();
    Ok(all)
}

fn is_store(dir: &Path) -> bool {
    names(dir).is_ok_and(|names| names.store)
}

/// What is wrong with a directory that is to be read, if nothing of a server's is in it.
pub(crate) fn unreadable(dir: &Path) -> io::Result<Option<String>> {
    let names = names(dir)?;
    if names.store {
        return Ok(None);
    }
    let inner: Vec<_> = names.directories.iter().filter(|dir| is_store(dir)).collect();
    if !inner.is_empty() {
        let list: Vec<_> = inner.iter().map(|dir| format!("--data {}", dir.display())).collect();
        return Ok(Some(format!(
            "it holds data directories but is none; name them: {}",
            list.join(" ")
        )));
    }
    let what = match names.strange {
        None => "it is empty".to_owned(),
        Some(name) => format!("it has {name:?}, but no segment"),
    };
    Ok(Some(format!(
        "no server ever wrote here: {what} (a data directory has files such as 0000000001.seg); name the \
         directory that mdalp serve or mdalp receiver was started with"
    )))
}

/// What is wrong with a directory that a server is to write to, if it belongs to something else.
pub(crate) fn unwritable(dir: &Path) -> Option<String> {
    // What is not there is made; other troubles show when it is opened.
    let names = names(dir).ok()?;
    let strange = names.strange.filter(|_| !names.store)?;
    Some(format!(
        "it belongs to something else: it has {strange:?}, and nothing of a server's; name an empty \
         directory, or a new one, with --data DIR"
    ))
}
