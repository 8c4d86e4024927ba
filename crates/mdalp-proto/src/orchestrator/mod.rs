//! The orchestrator's rules: who gets a transaction when, and which receivers.

mod config;

pub use config::Config;
