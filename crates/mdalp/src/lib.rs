//! The MDALP client: sends a payload over UDP to several receivers at once.
//!
//! [`send`] asks an orchestrator for a transaction, measures the receivers, spreads the payload and
//! sends until every chunk is acknowledged; it reports each step as an [`event::Event`] and always
//! ends with a [`event::Report`]. The rules of the protocol are in [`mdalp_proto`]; here are
//! sockets, clocks, files and name resolution. Not here: command lines, progress bars, signals.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use mdalp::{Options, Payload};
//! let payload = Payload::from(b"five thousand bytes, say".to_vec());
//! let never = std::future::pending();
//! let report = mdalp::send("127.0.0.1", 4650, &payload, &Options::default(), never, |_| {}).await;
//! assert_eq!(report.exit_code, 0, "{:?}", report.error);
//! # }
//! ```

mod clock;
mod error;
pub mod event;
mod journal;
mod known;
mod offload;
mod options;
mod payload;
pub mod probe;
mod refusals;
mod send;
mod sockets;

pub use error::{Interrupt, SendError};
pub use journal::path_beside as journal_beside;
pub use options::{Mode, Options};
pub use payload::Payload;
pub use send::send;
