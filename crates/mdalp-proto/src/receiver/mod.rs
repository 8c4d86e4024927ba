//! The receivers' rules: which chunks are taken, stored and acknowledged.

mod config;

pub use config::Config;
