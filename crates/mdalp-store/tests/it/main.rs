//! Tests of the store through its public interface.

mod conformance;
mod faults;
mod model;
mod support;
