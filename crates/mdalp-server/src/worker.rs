//! A thread for work that blocks: commands go in, replies come out, in the same order.
//!
//! Does not bound its queue: who sends commands knows what they weigh and how many are under way.

use crate::error::ServerError;
use std::sync::mpsc;
use tokio::sync::mpsc as replies;

#[derive(Debug)]
pub(crate) struct Worker<C, R> {
    name: &'static str,
    commands: mpsc::Sender<C>,
    replies: replies::UnboundedReceiver<R>,
}

impl<C: Send + 'static, R: Send + 'static> Worker<C, R> {
    /// The thread ends when this is dropped and what was sent is done.
    pub(crate) fn spawn(
        name: &'static str,
        mut work: impl FnMut(C) -> R + Send + 'static,
    ) -> Result<Self, ServerError> {
        let (commands, inbox) = mpsc::channel();
        let (outbox, replies) = replies::unbounded_channel();
        let body = move || {
            while let Ok(command) = inbox.recv() {
                if outbox.send(work(command)).is_err() {
                    break;
                }
            }
            // In this order: whoever sees the end of the replies knows that the work is let go.
            drop(work);
            drop(outbox);
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|_| ServerError::Thread(name))?;
        Ok(Self { name, commands, replies })
    }

    pub(crate) fn send(&self, command: C) -> Result<(), ServerError> {
        self.commands.send(command).map_err(|_| ServerError::Thread(self.name))
    }

    /// The next reply. Nothing is lost if the future is dropped.
    pub(crate) async fn reply(&mut self) -> Result<R, ServerError> {
        self.replies.recv().await.ok_or(ServerError::Thread(self.name))
    }

    /// Lets the thread finish what was sent, and waits until it has ended.
    pub(crate) async fn end(self) {
        let Self { commands, mut replies, .. } = self;
        drop(commands);
        while replies.recv().await.is_some() {}
    }
}
