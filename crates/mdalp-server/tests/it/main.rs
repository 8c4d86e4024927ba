//! The servers over real sockets on loopback, with clients that are a few lines of plain UDP.

mod classic;
mod restart;
mod sockets;
mod support;
