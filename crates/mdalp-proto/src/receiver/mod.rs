//! The receivers' rules: which chunks are taken, stored and acknowledged.
