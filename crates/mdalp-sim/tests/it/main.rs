//! The simulator from outside: single transfers, goals, cases with faults, and the corpus.

mod cases;
mod goals;
mod nth;
mod program;
mod scenarios;
mod support;
