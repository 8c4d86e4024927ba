//! The real binary, on loopback.
