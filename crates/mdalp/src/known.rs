//! The file of orchestrators that are known to echo nonces: one address and port a line.
//!
//! Whoever is in it is believed only with an echo from then on. Does not decide where the file is.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// More are not remembered: the oldest goes.
const MOST: usize = 1_000;
/// A longer file is none of ours.
const MAX_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Known {
    path: PathBuf,
    orchestrators: VecDeque<SocketAddr>,
}

impl Known {
    /// Reads the file; none is an empty one. An error says what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let mut known = Self { path: path.to_owned(), orchestrators: VecDeque::new() };
        let mut text = String::new();
        match std::fs::File::open(path) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_string(&mut text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(known),
            Err(error) => Err(error),
        }
        .map_err(|error| error.to_string())?;
        if text.len() as u64 > MAX_BYTES {
            return Err(format!("longer than {MAX_BYTES} bytes"));
        }
        for (line, number) in text.lines().zip(1..) {
            let address = line.trim().parse();
            let address = address.map_err(|_| format!("line {number} is no address and port"))?;
            known.orchestrators.push_back(address);
        }
        Ok(known)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn contains(&self, orchestrator: SocketAddr) -> bool {
        self.orchestrators.contains(&orchestrator)
    }

    /// Adds an orchestrator, in the file too, which is replaced at once or not at all. Not one on this
    /// machine: nobody outside can forge its address, and ports change hands there.
    pub(crate) fn remember(&mut self, orchestrator: SocketAddr) -> io::Result<()> {
        if orchestrator.ip().is_loopback() || self.contains(orchestrator) {
            return Ok(());
        }
        // Another send may have added something.
        if let Ok(newer) = Self::read(&self.path) {
            *self = newer;
        }
        if !self.contains(orchestrator) {
            self.orchestrators.push_back(orchestrator);
        }
        while self.orchestrators.len() > MOST {
            self.orchestrators.pop_front();
        }
        let lines: Vec<_> = self.orchestrators.iter().map(SocketAddr::to_string).collect();
        let text = lines.join("\n") + "\n";
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(format!(".{}", std::process::id()));
        let written = std::fs::write(&beside, text);
        let written = written.and_then(|()| std::fs::rename(&beside, &self.path));
        if written.is_err() {
            // Of what was half written nothing is kept.
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 4650))
    }

    #[test]
    fn an_orchestrator_that_echoes_is_remembered_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/orchestrators");
        let v6: SocketAddr = "[2001:db8::1]:4650".parse().unwrap();
        for orchestrator in [addr(1), v6, addr(1)] {
            Known::read(&path).unwrap().remember(orchestrator).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "10.0.0.1:4650\n[2001:db8::1]:4650\n");
        let known = Known::read(&path).unwrap();
        assert!(known.contains(addr(1)) && known.contains(v6) && !known.contains(addr(2)));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no remains");
    }

    #[test]
    fn orchestrators_on_this_machine_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orchestrators");
        Known::read(&path).unwrap().remember("127.0.0.1:4650".parse().unwrap()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_broken_file_is_said_to_be_one_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orchestrators");
        for broken in [&b"10.0.0.1:4650\nno address\n"[..], b"\xff\n", &vec![b'1'; 70_000]] {
            std::fs::write(&path, broken).unwrap();
            assert!(Known::read(&path).is_err());
        }
    }

    #[test]
    fn of_more_than_a_thousand_the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orchestrators");
        let lines: Vec<_> = (0..1_000).map(|n| addr(n).to_string()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        Known::read(&path).unwrap().remember(addr(5_000)).unwrap();
        let known = Known::read(&path).unwrap();
        assert_eq!(known.orchestrators.len(), 1_000);
        assert!(!known.contains(addr(0)) && known.contains(addr(1)) && known.contains(addr(5_000)));
    }
}
