//! Development tasks of Forebay: `cargo xtask <verb>`.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "that ends a test"))]

mod bench;
mod build;
mod demo;
mod lint;
mod object;
mod process;
mod setup;
mod test;
mod vm;
mod workspace;

/// Every verb first installs what it needs and this machine lacks.
#[derive(clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    Setup(setup::Args),
    Build(build::Args),
    Demo(demo::Args),
    Lab(demo::LabArgs),
    Test(test::Args),
    Lint(lint::Args),
    Bench(bench::Args),
}

fn main() -> std::process::ExitCode {
    process::exit_code(match <Verb as clap::Parser>::parse() {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Lab(args) => demo::lab(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Lint(args) => lint::run(&args),
        Verb::Bench(args) => bench::run(&args),
    })
}
