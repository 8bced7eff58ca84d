//! A network to see Forebay work in: a tour that checks itself, and a playground.

mod demo;
mod interrupt;
mod playground;
mod report;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A small network in namespaces with Forebay in the middle
#[derive(Debug, Parser)]
#[command(name = "forebay-lab", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows what Forebay does, checks every claim and cleans up
    Demo,
    /// Leaves the network up to play in, until Ctrl-C
    Lab(LabArguments),
}

/// How to play.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct LabArguments {
    /// Return once the network is up; `lab down` ends it
    #[arg(long)]
    detach: bool,
    /// Give the node one NIC for clients and instances alike
    #[arg(long)]
    one_armed: bool,
    #[command(subcommand)]
    action: Option<LabAction>,
}

#[derive(Debug, Subcommand)]
enum LabAction {
    /// Ends a lab that is up
    Down,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread exists, so that none of them is ended by the signal and cleaning up is.
    interrupt::watch();
    let done = match arguments.verb {
        Verb::Demo => demo::run(),
        Verb::Lab(LabArguments {
            action: Some(LabAction::Down),
            ..
        }) => playground::down(),
        Verb::Lab(LabArguments {
            detach: true,
            one_armed,
            ..
        }) => playground::detach(one_armed),
        Verb::Lab(LabArguments { one_armed, .. }) => playground::run(one_armed),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nforebay-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
