//! Test harness.

pub mod case;
pub mod chance;
pub mod engine;
pub mod frame;
pub mod netlab;
pub mod network;
pub mod random;
pub mod world;
