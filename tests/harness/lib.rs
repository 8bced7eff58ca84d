//! Test harness.

pub mod netlab;
