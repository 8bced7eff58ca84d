//! Tests over whole files. A line of the text that ends in `#<` is where a mistake is expected.

mod contract;
mod defaults;
mod files;
mod forms;
mod forms_of_rules;
mod host;
mod refusals;
mod robust;
mod unavailable;
mod warnings;

use super::model::Config;
use super::{Diagnostic, Diagnostics, Loaded, Options, parse_with};

/// A valid file that other tests add to.
const BASE: &str = r#"
[node]
interfaces = ["eth0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
ipv6 = "2001:db8:1::10"
[[frontend]]
name = "nat"
ipv4 = "203.0.113.64/30"
ipv6 = "2001:db8:1::64"
[[instance]]
name = "web-1"
ip_configs = [
  { name = "primary", ipv4 = "10.0.1.11", ipv6 = "fd00:1::11" },
  { name = "secondary", ipv4 = "10.0.1.12", ipv6 = "fd00:1::12" },
]
[[instance]]
name = "web-2"
ipv4 = "10.0.1.21"
ipv6 = "fd00:1::21"
[[pool]]
name = "web"
members = ["web-1", "web-2"]
[[rule]]
name = "web-http"
frontend = "web"
port = 80
pool = "web"
backend_port = 8080
"#;

fn read(text: &str) -> Result<Loaded, Diagnostics> {
    let options = Options {
        host_name: Some("lb-host".to_owned()),
        accept_unavailable: true,
        host: None,
    };
    parse_with("f.toml", text, &options)
}

fn accepted(text: &str) -> Loaded {
    read(text).unwrap_or_else(|refusal| panic!("{refusal}\nin:\n{text}"))
}

fn config(text: &str) -> Config {
    accepted(text).config
}

/// [`BASE`] with this added.
fn added(addition: &str) -> Config {
    config(&format!("{BASE}{addition}"))
}

fn errors(text: &str) -> Vec<Diagnostic> {
    match read(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(refusal) => refusal.errors,
    }
}

fn marked_line(text: &str) -> usize {
    let mut lines = text.lines();
    let line = lines.position(|line| line.ends_with("#<"));
    line.unwrap_or_else(|| panic!("no marked line in:\n{text}")) + 1
}

/// What a diagnostic is expected to be: key, found and expected in full, a part of the message.
type Expectation = (&'static str, &'static str, &'static str, &'static str);

fn assert_only(text: &str, diagnostics: &[Diagnostic], expectation: Expectation) {
    let (key, found, expected, message) = expectation;
    let [diagnostic] = diagnostics else {
        let all: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
        panic!("expected one diagnostic, not {all:#?}\nin:\n{text}");
    };
    assert_eq!(diagnostic.file, "f.toml");
    assert_eq!(
        diagnostic.line,
        marked_line(text),
        "{diagnostic}\nin:\n{text}"
    );
    assert_eq!(diagnostic.key, key, "{diagnostic}");
    assert_eq!(diagnostic.found, found, "{diagnostic}");
    assert_eq!(diagnostic.expected, expected, "{diagnostic}");
    assert!(
        diagnostic.message.contains(message),
        "{diagnostic}\nlacks: {message}"
    );
}

/// The whole text has one error and this is it.
fn refuses(text: &str, expectation: Expectation) {
    assert_only(text, &errors(text), expectation);
}

/// [`BASE`] with this added has one error and this is it.
fn refuses_added(addition: &str, expectation: Expectation) {
    refuses(&format!("{BASE}{addition}"), expectation);
}
