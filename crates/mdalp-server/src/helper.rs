//! A thread for work that nobody waits for: it is woken, and looks itself what there is to do.
//!
//! Reports nothing. For work whose result somebody needs there is [`crate::worker`].

use crate::error::ServerError;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

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

impl Drop for Helper {
    /// Whoever sees its owner end knows that the store is let go.
    fn drop(&mut self) {
        self.wake = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
