//! What must hold for any input, as functions of bytes.
//!
//! Each target reads its input as a datagram, a text, or a script of what befalls a machine, and
//! panics if a promise is broken. `fuzz/` gives them to a fuzzer; the tests here run them over
//! `fuzz/corpus` with any compiler. Not here: a fuzzer, real sockets, real files, clocks.

mod client;
mod datagram;
mod list;
mod netem;
mod orchestrator;
mod receiver;
mod scenario;
mod script;
mod store;

pub use client::client;
pub use datagram::datagram;
pub use list::list;
pub use netem::netem;
pub use orchestrator::orchestrator;
pub use receiver::receiver;
pub use scenario::scenario;
pub use store::store;

/// What a fuzzer calls with each input. It panics if a promise is broken.
pub type Target = fn(&[u8]);

/// All targets with the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("client", client),
    ("datagram", datagram),
    ("list", list),
    ("netem", netem),
    ("orchestrator", orchestrator),
    ("receiver", receiver),
    ("scenario", scenario),
    ("store", store),
];
