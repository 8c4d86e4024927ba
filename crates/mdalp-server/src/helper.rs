//! A thread for work that nobody waits for: it is woken, and looks itself what there is to do.
//!
//! Reports nothing. For work whose result somebody needs there is [`crate::worker`].

use crate::error::ServerError;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// A third of the weight of others: little enough that acks need not wait for it, and enough that a
/// segment is ready before the one in use is full.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

pub(crate) struct Helper {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// Once it is woken, `step` is called as long as it says that there is more to do.
    pub(crate) fn spawn(
        name: &'static str,
        mut step: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, ServerError> {
        let (wake, woken) = sync_channel(1);
        let body = move || {
            yield_to_others();
            while woken.recv().is_ok() {
                while step() && woken.try_recv() != Err(TryRecvError::Disconnected) {}
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = Some(thread.map_err(|_| ServerError::Thread(name))?);
        Ok(Self { wake: Some(wake), thread })
    }

    pub(crate) fn wake(&self) {
        // Full: it is at it.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }
}

/// Others go first where processors are few: somebody waits for what they do.
fn yield_to_others() {
    // On Linux this is the thread's own; elsewhere it would be the whole process's.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

impl Drop for Helper {
    /// Whoever sees its owner end knows that the store is let go.
    fn drop(&mut self) {
        self.wake = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
