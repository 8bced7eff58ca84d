//! The program in the kernel, frame by frame.
//!
//! Cases are data (`cases`); each starts from fresh tables and runs in the model and on the live program.
//! Without root the live half of a test prints `skipped: why`.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod cases;
mod clocks;
mod invariants;
mod limits;
mod moving;
mod object;
mod outbound;
mod races;
mod sweep;
mod tables;
mod trials;
