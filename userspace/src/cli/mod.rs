//! The command line: what is typed, and which exit status comes back.
//!
//! 0 done; 1 failed (daemon not running, not found, refused); 2 bad usage or invalid configuration.

mod ask;
mod check;
mod events;
mod file_edit;
mod packet;
mod public_ip;
mod run;
mod set;
mod show;
mod table;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::model::LogFormat;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/forebay/forebay.toml";
/// Where the control socket is when neither command line, environment nor file say otherwise.
pub const DEFAULT_SOCKET: &str = "/run/forebay/forebay.sock";

/// eBPF/XDP layer-4 load balancer and NAT.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Control socket of the daemon [default: $FOREBAY_SOCKET, else [api].socket of the configuration file]
    #[arg(long, global = true, value_name = "FILE")]
    socket: Option<PathBuf>,
}

/// Options of every command that reads.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run {
        /// Remove the data plane when the daemon stops
        #[arg(long)]
        detach_on_exit: bool,
    },
    /// Validate the configuration file and show what it needs
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// Claim the public addresses on their links, or stop claiming them; flows go on
    Advertise {
        /// on or off
        state: Switch,
    },
    /// Read the configuration file again
    Reload,
    /// Show what a reload would change
    Plan {
        /// Another file than the one in force
        file: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove programs, links and pins from the host
    Detach,
    /// Show node, interfaces and totals
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Show configuration with live state
    Show {
        #[command(subcommand)]
        what: Show,
    },
    /// Show, add and remove public IPs of instances
    PublicIp {
        #[command(subcommand)]
        command: public_ip::PublicIpCommand,
    },
    /// Show the addresses that an instance reaches the outside with, one a line
    OutboundIps {
        /// Name of the instance
        instance: String,
        /// Also those of methods that are not in use now
        #[arg(long)]
        possible: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Change what the file says, and reload
    Set {
        #[command(subcommand)]
        what: set::Set,
    },
    /// End flows that are alive, with a RST to both sides of established connections
    Flush {
        #[command(subcommand)]
        what: Flush,
    },
    /// Show what has happened: the last 1000 events since the daemon started
    Events {
        /// Go on with new ones as they happen
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Tell what would happen to a packet and why, changing nothing
    Explain {
        /// tcp, udp, icmp or a protocol number
        protocol: String,
        /// Source: ADDRESS[:PORT], IPv6 as [ADDRESS]:PORT
        source: String,
        /// Destination: ADDRESS[:PORT], IPv6 as [ADDRESS]:PORT
        destination: String,
        /// Interface the packet comes in on
        #[arg(long, value_name = "INTERFACE")]
        inbound_interface: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Print shell completions
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Public addresses, their rules and members
    Frontends(Output),
    /// Load-balancing rules and their traffic
    Rules(Output),
    /// Inbound NAT rules and whom their ports belong to
    InboundNatRules(Output),
    /// Pools and their members
    Pools(Output),
    /// What probes find out about members
    Probes(Output),
    /// Instances and their addresses
    Instances(Output),
    /// Public IPs and the instances that have them
    PublicIps(Output),
    /// Outbound rules and their SNAT ports
    OutboundRules(Output),
    /// SNAT ports of instances: allocated, used, refused, and towards where
    Snat {
        /// Name of an instance
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Tracked flows
    Flows {
        /// Source address before translation
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// Destination address before translation
        #[arg(long, value_name = "ADDRESS")]
        destination: Option<IpAddr>,
        /// Name of an instance
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Dropped packets by reason
    Drops(Output),
}

#[derive(Debug, Subcommand)]
enum Flush {
    /// Tracked flows: those that every option given lets through, without options all
    Flows {
        /// Source address before translation
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// Destination address before translation
        #[arg(long, value_name = "ADDRESS")]
        destination: Option<IpAddr>,
        /// Name of an instance
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
    },
}

/// Why a command ends with a status other than 0.
enum Failure {
    /// Status 1.
    Failed(anyhow::Error),
    /// Status 1, in the words of the daemon, which are those of `check`.
    Refused(String),
    /// Status 2.
    Invalid(String),
    /// Status 2; everything was said.
    InvalidSaid,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Run { .. }) {
        // A reader that has seen enough (`forebay show flows | head`) ends us as it ends other tools; a
        // daemon lives on when its log's reader goes.
        // SAFETY: no other thread exists yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            eprintln!("forebay: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Refused(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
        Err(Failure::Invalid(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
        Err(Failure::InvalidSaid) => ExitCode::from(2),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let common = cli.common;
    match cli.command {
        Command::Run { detach_on_exit } => run::run(&common, detach_on_exit),
        Command::Detach => run::detach(&common),
        Command::Check { output } => check::check(&common, output.json),
        Command::Plan { file, output } => check::plan(&common, file.as_deref(), output.json),
        Command::Advertise { state } => ask::advertise(&common, matches!(state, Switch::On)),
        Command::Reload => ask::reload(&common),
        Command::Status { output } => ask::status(&common, output.json),
        Command::Show { what } => show::show(&common, what),
        Command::PublicIp { command } => public_ip::run(&common, command),
        Command::OutboundIps {
            instance,
            possible,
            output,
        } => show::outbound_ips(&common, instance, possible, output.json),
        Command::Set { what } => set::run(&common, what),
        Command::Flush { what } => ask::flush(&common, what),
        Command::Events { follow, output } => events::events(&common, follow, output.json),
        Command::Explain {
            protocol,
            source,
            destination,
            inbound_interface,
            output,
        } => {
            let question = packet::question(&protocol, &source, &destination, inbound_interface);
            ask::explain(
                &common,
                question.map_err(|error| Failure::Invalid(format!("forebay: {error:#}")))?,
                output.json,
            )
        }
        Command::Completions { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "forebay",
                &mut std::io::stdout(),
            );
            Ok(())
        }
        Command::Man => {
            use clap::CommandFactory;
            clap_mangen::Man::new(Cli::command())
                .render(&mut std::io::stdout())
                .map_err(anyhow::Error::from)?;
            Ok(())
        }
    }
}

impl Common {
    /// The socket of the daemon: command line, environment, file, default.
    fn socket(&self) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        if let Some(socket) = std::env::var_os("FOREBAY_SOCKET").filter(|path| !path.is_empty()) {
            return socket.into();
        }
        match crate::config::load(&self.config) {
            Ok(loaded) => loaded.config.api.socket,
            // A broken file must not keep its operator from the daemon that still runs with the former one.
            Err(_) => crate::config::socket_of(&self.config)
                .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
        }
    }
}

/// Shape of log lines, as the file says.
fn log_format(format: LogFormat) -> LogShape {
    match format {
        LogFormat::Text => LogShape::Text,
        LogFormat::Json => LogShape::Json,
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogShape {
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_follow_the_command() {
        let cli = Cli::try_parse_from([
            "forebay", "show", "flows", "--limit", "5", "--json", "--socket", "/tmp/s",
        ])
        .unwrap();
        assert_eq!(
            cli.common.socket.as_deref(),
            Some(std::path::Path::new("/tmp/s"))
        );
        let Command::Show {
            what: Show::Flows { limit, output, .. },
        } = cli.command
        else {
            panic!("show flows")
        };
        assert!(output.json && limit == 5);
    }
}
