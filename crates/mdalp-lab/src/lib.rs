//! A wide-area network on one machine, without privileges: real sockets, emulated paths.
//!
//! - [`relay`] applies the paths of a [`Scenario`](mdalp_netem::Scenario) between sockets;
//!   [`Network`] is the part of it that needs no socket.
//! - [`Lab`] puts MDALP servers behind a relay, on loopback addresses that any client can be
//!   pointed at; [`flow`] measures what each client does, the same way for all.
//! - [`command`] runs somebody's client inside a lab, with [`ping`] standing in for the real one.
//! - [`mod@compare`] runs ways to send against each other, in real or in virtual time, and makes tables
//!   and pictures of it; [`capture`] writes what a relay sees to a file for Wireshark.
//!
//! Not here: command lines and terminals, and the emulation of single paths, which is
//! [`mdalp_netem`]'s.

mod addresses;
pub mod capture;
pub mod command;
pub mod compare;
pub mod flow;
mod lab;
mod load;
mod network;
mod payload;
pub mod ping;
pub mod relay;

pub use addresses::Addresses;
pub use lab::{Lab, LabConfig, LabError};
pub use load::load_scenario;
pub use network::{Direction, Fate, Network, Output, Place};
pub use payload::made_up_text;
