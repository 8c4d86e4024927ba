//! The simulator from outside.

mod scenarios;
