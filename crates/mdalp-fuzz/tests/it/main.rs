//! The fuzzers' targets over what they have found so far, with any compiler.

mod corpus;
