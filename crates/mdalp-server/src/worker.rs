//! A thread for work that blocks: commands go in, replies come out, in the same order.
//!
//! One thread may work for several, each with replies of its own. Does not bound its queue: who sends
//! commands knows what they weigh and how many are under way.

use crate::error::ServerError;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as replies;

#[derive(Debug)]
pub(crate) struct Worker<C, R> {
    name: &'static str,
    /// Whose the commands are, among those that the thread works for.
    user: usize,
    commands: mpsc::Sender<(usize, C)>,
    replies: replies::UnboundedReceiver<R>,
}

/// Why a thread that works in steps is called.
#[derive(Debug)]
pub(crate) enum Turn<C> {
    Command(C),
    /// It said that there is more to do.
    More,
    /// Nobody wanted anything for a while.
    Idle,
}

impl<C: Send + 'static, R: Send + 'static> Worker<C, R> {
    /// One thread for several users, who each get the replies to their own commands. `work` is given
    /// at most one command of each user at a time if none sends another before the reply, and ends
    /// when all of them are dropped and what was sent is done.
    pub(crate) fn spawn_for(
        users: usize,
        name: &'static str,
        mut work: impl FnMut(&mut Vec<(usize, C)>, &mut Vec<(usize, R)>) + Send + 'static,
    ) -> Result<Vec<Self>, ServerError> {
        let (commands, inbox) = mpsc::channel();
        let (outboxes, replies): (Vec<_>, Vec<_>) =
            (0..users).map(|_| replies::unbounded_channel()).unzip();
        let body = move || {
            let (mut waiting, mut done) = (Vec::new(), Vec::new());
            while let Ok(command) = inbox.recv() {
                waiting.push(command);
                waiting.extend(inbox.try_iter().take(users - 1));
                work(&mut waiting, &mut done);
                for (user, reply) in done.drain(..) {
                    // Who is gone wants no reply.
                    let _ = outboxes[user].send(reply);
                }
            }
            // In this order: whoever sees the end of the replies knows that the work is let go.
            drop(work);
            drop(outboxes);
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|_| ServerError::Thread(name))?;
        let user = |(user, replies)| Self { name, user, commands: commands.clone(), replies };
        Ok(replies.into_iter().enumerate().map(user).collect())
    }

    /// A thread that works in steps: `work` is given each command as soon as the step before is done,
    /// and is called without one as long as it says that there is more to do, and now and then, after
    /// `idle`, if not. Steps that are left when this is dropped are not done.
    pub(crate) fn spawn_stepping(
        name: &'static str,
        idle: Duration,
        mut work: impl FnMut(Turn<C>, &mut Vec<R>) -> bool + Send + 'static,
    ) -> Result<Self, ServerError> {
        let (commands, inbox) = mpsc::channel::<(usize, C)>();
        let (outbox, replies) = replies::unbounded_channel();
        let body = move || {
            let (mut more, mut done) = (false, Vec::new());
            loop {
                let wait = if more { Duration::ZERO } else { idle };
                let turn = match inbox.recv_timeout(wait) {
                    Ok((_, command)) => Turn::Command(command),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) if more => Turn::More,
                    Err(mpsc::RecvTimeoutError::Timeout) => Turn::Idle,
                };
                more = work(turn, &mut done);
                for reply in done.drain(..) {
                    // Who is gone wants no reply.
                    let _ = outbox.send(reply);
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
        Ok(Self { name, user: 0, commands, replies })
    }

    pub(crate) fn send(&self, command: C) -> Result<(), ServerError> {
        self.commands.send((self.user, command)).map_err(|_| ServerError::Thread(self.name))
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
