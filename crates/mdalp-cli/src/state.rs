//! Where the client keeps what it learns: `$MDALP_HOME`, else `$XDG_STATE_HOME/mdalp`, else
//! `~/.local/state/mdalp`.
//!
//! Does not create anything.

use std::ffi::OsString;
use std::path::PathBuf;

/// The file of orchestrators that echo; none where no directory is known.
pub(crate) fn orchestrators() -> Option<PathBuf> {
    Some(directory(|name| std::env::var_os(name))?.join("orchestrators"))
}

fn directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A relative path would be another directory in each directory.
    let path = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    path("MDALP_HOME")
        .or_else(|| Some(path("XDG_STATE_HOME")?.join("mdalp")))
        .or_else(|| Some(path("HOME")?.join(".local/state/mdalp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_absolute_directory_is_taken() {
        let with = |set: &[(&str, &str)]| {
            directory(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/home/a");
        let state = ("XDG_STATE_HOME", "/state");
        assert_eq!(with(&[home]), Some("/home/a/.local/state/mdalp".into()));
        assert_eq!(with(&[home, state]), Some("/state/mdalp".into()));
        assert_eq!(with(&[home, state, ("MDALP_HOME", "/own")]), Some("/own".into()));
        assert_eq!(with(&[home, ("MDALP_HOME", "own")]), Some("/home/a/.local/state/mdalp".into()));
        assert_eq!(with(&[]), None);
    }
}
