//! The orchestrator's rules: who gets a transaction when, and which receivers.
