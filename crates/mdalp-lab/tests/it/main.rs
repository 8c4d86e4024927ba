//! Real sockets on loopback, measured from outside.

mod relay;
