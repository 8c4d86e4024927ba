//! Real sockets on loopback, measured from outside.

#[cfg(unix)]
mod lab;
mod relay;
