//! From the text of a file to a valid [`Config`], or to everything that is wrong with it.
//!
//! ```text
//! text ─► toml_edit ─► sections (values, by table) ─► check (how they fit) ─► available ─► Config
//! ```
//!
//! Every step records what it finds and goes on, so that one run of `forebay check` shows all
//! mistakes of a file.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "that ends a test"))]

pub mod edit;
pub mod model;
pub mod snat;

mod assignment;
mod available;
mod check;
mod diagnostic;
mod field;
mod host;
mod names;
mod place;
mod reader;
mod sections;
mod source;
mod suggest;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

use sha2::{Digest, Sha256};
use toml_edit::{Document, TomlError};

pub use self::diagnostic::{Diagnostic, Diagnostics};
pub use self::host::{Host, Sockets};
use self::model::Config;
use self::place::Spot;
use self::reader::Table;
use self::sections::Draft;
use self::source::Source;

/// A valid file.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 of the bytes of the file, in hexadecimal.
    pub sha256: String,
}

/// What a file is read against.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name of the node when the file gives none; `None`: this machine's host name.
    pub host_name: Option<String>,
    /// Also accept what this version cannot run yet.
    pub accept_unavailable: bool,
    /// The host that it is for, unless only the file itself is looked at.
    pub host: Option<Host>,
}

/// Reads a file that this version can run.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    load_with(path, &Options::default())
}

/// Reads a file that this version can run on this host.
pub fn load_for(path: &Path, host: Host) -> Result<Loaded, Diagnostics> {
    load_with(path, &for_host(host))
}

fn load_with(path: &Path, options: &Options) -> Result<Loaded, Diagnostics> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| unreadable(&file, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| not_text(&file, &error))?;
    parse_with(&file, &text, options)
}

fn for_host(host: Host) -> Options {
    Options {
        host: Some(host),
        ..Options::default()
    }
}

/// Reads the text of a file that this version can run.
pub fn parse(file: &str, text: &str) -> Result<Loaded, Diagnostics> {
    parse_with(file, text, &Options::default())
}

/// Reads the text of a file that this version can run on this host.
pub fn parse_for(file: &str, text: &str, host: Host) -> Result<Loaded, Diagnostics> {
    parse_with(file, text, &for_host(host))
}

/// Reads the text of a file, also with what this version cannot run yet.
pub fn parse_all(file: &str, text: &str) -> Result<Loaded, Diagnostics> {
    let options = Options {
        accept_unavailable: true,
        ..Options::default()
    };
    parse_with(file, text, &options)
}

/// Reads the text of a file. `file` is only a name for messages.
pub fn parse_with(file: &str, text: &str, options: &Options) -> Result<Loaded, Diagnostics> {
    let source = Source::new(file, text);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            not_toml(&source, &error);
            return Err(refused(source));
        }
    };
    let host_name = || options.host_name.clone().or_else(host_name);
    let draft = Draft::read(Table::root(&source, document.as_table()), &host_name);
    check::run(&source, &draft, options.host.as_ref());
    let mut config = draft.to_config();
    if let Some(host) = &options.host {
        config.host_ports = host.kept_ports(&config);
    }
    if !options.accept_unavailable {
        available::refuse(&source);
    }
    if source.error_count() > 0 {
        return Err(refused(source));
    }
    let (_, warnings) = source.into_diagnostics();
    Ok(Loaded {
        config,
        warnings,
        sha256: hexadecimal(&Sha256::digest(text.as_bytes())),
    })
}

fn refused(source: Source<'_>) -> Diagnostics {
    let (errors, warnings) = source.into_diagnostics();
    Diagnostics { errors, warnings }
}

fn not_toml(source: &Source<'_>, error: &TomlError) {
    let start = error.span().map_or(0, |span| span.start);
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) if expected != "nothing" => (what, expected),
        Some((what, _)) => (what, "valid TOML"),
        None => (error.message(), "valid TOML"),
    };
    // An address without quotes is half a number.
    let unquoted = [
        "invalid float",
        "invalid integer",
        "invalid date",
        "invalid time",
    ];
    let hint = match unquoted.iter().any(|start| what.starts_with(start)) {
        true => "; write addresses, durations and other text in quotes",
        false => "",
    };
    let spot = Spot {
        key: String::new(),
        line: source.line(start),
        found: source.quote_line(start),
    };
    source.error(spot, expected, format!("this is not TOML: {what}{hint}"));
}

fn unreadable(file: &str, error: &std::io::Error) -> Diagnostics {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => "create it, or name another with --config",
        std::io::ErrorKind::PermissionDenied => "run as a user that may read it",
        std::io::ErrorKind::IsADirectory => "this is a folder; name the file in it",
        _ => "make it readable, or name another with --config",
    };
    about_the_file(file, 0, error.to_string(), "a readable file", message)
}

fn not_text(file: &str, error: &std::string::FromUtf8Error) -> Diagnostics {
    let good = error.utf8_error().valid_up_to();
    let before = &error.as_bytes()[..good];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let found = format!("the byte 0x{:02x}", error.as_bytes()[good]);
    about_the_file(file, line, found, "text in UTF-8", "save the file as UTF-8")
}

fn about_the_file(
    file: &str,
    line: usize,
    found: String,
    expected: &str,
    message: &str,
) -> Diagnostics {
    let error = Diagnostic {
        file: file.to_owned(),
        line,
        key: String::new(),
        found,
        expected: expected.to_owned(),
        message: message.to_owned(),
    };
    Diagnostics {
        errors: vec![error],
        warnings: Vec::new(),
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The control socket that a file names, even if the rest of the file is invalid; `None` when it names
/// none or cannot be read.
pub fn socket_of(path: &Path) -> Option<std::path::PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    match Document::parse(text.as_str()) {
        Ok(document) => {
            let socket = document.as_table().get("api")?.get("socket")?.as_str()?;
            Some(socket.into())
        }
        // Not TOML, but its operator may still want to hear what the daemon says of it.
        Err(_) => text.lines().find_map(|line| {
            let value = line
                .trim()
                .strip_prefix("socket")?
                .trim()
                .strip_prefix('=')?;
            Some(value.trim().trim_matches('"').into())
        }),
    }
}
