//! `forebay`: daemon and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    forebay::cli::main()
}
