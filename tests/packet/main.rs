//! The program in the kernel, frame by frame.
//!
//! Cases are data (`cases`); each starts from fresh tables and runs on the live program here, and
//! against the model in the differential suite. Without root a test prints `skipped: why`.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod cases;
mod clocks;
mod object;
mod sweep;
mod tables;
