//! Names, paths and other words that must have a certain shape.

use std::path::PathBuf;

use toml_edit::Value;

use super::{Mismatch, Parsed, string};
use crate::config::model::MemberRef;

/// What a name looks like.
pub(in crate::config) const NAME: &str = "a name of 1 to 80 characters";
/// How an IP configuration is named from elsewhere.
pub(in crate::config) const MEMBER: &str =
    "an instance such as \"web-1\", or one of its IP configurations such as \"web-1/secondary\"";
/// What an instance calls the IP configuration of its short form.
pub(in crate::config) const PRIMARY: &str = MemberRef::PRIMARY;

const INTERFACE: &str = "the name of an interface, such as \"eth0\"";
const PATH: &str = "an absolute path";
const LONGEST_NAME: usize = 80;
/// `IFNAMSIZ` less its terminator.
const LONGEST_INTERFACE: usize = 15;
/// `sun_path` of a unix socket less its terminator.
const LONGEST_SOCKET_PATH: usize = 107;

/// A name: it appears in commands (`instance/ip_config`), tables and metrics.
pub(in crate::config) fn name(value: &Value) -> Parsed<String> {
    let text = string(value, NAME)?;
    let wrong = if text.is_empty() {
        "it is empty"
    } else if text.chars().count() > LONGEST_NAME {
        "it is longer than 80 characters"
    } else if text.contains(['/', '"']) {
        "it contains a slash or a quotation mark"
    } else if text.chars().any(char::is_control) {
        "it contains a control character"
    } else if text.trim() != text {
        "it begins or ends with a space"
    } else {
        return Ok(text.to_owned());
    };
    Err(Mismatch::new(NAME, format!("{wrong}; choose another")))
}

/// `"web-1"` or `"web-1/secondary"`.
pub(in crate::config) fn member(value: &Value) -> Parsed<MemberRef> {
    let text = string(value, MEMBER)?;
    let (instance, ip_config) = text.split_once('/').unwrap_or((text, PRIMARY));
    let part = |part: &str| name(&Value::from(part));
    match (part(instance), part(ip_config)) {
        (Ok(instance), Ok(ip_config)) => Ok(MemberRef {
            instance,
            ip_config,
        }),
        (Err(mismatch), _) | (_, Err(mismatch)) => Err(Mismatch::new(MEMBER, mismatch.message)),
    }
}

/// The name of a network interface.
pub(in crate::config) fn interface(value: &Value) -> Parsed<String> {
    let text = string(value, INTERFACE)?;
    let printable = |character: char| !character.is_whitespace() && !character.is_control();
    let message = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST_INTERFACE {
        "interface names have at most 15 characters"
    } else if text.contains(['/', ':', '%'])
        || !text.chars().all(printable)
        || text.starts_with('.')
    {
        "no interface can be called so"
    } else {
        return Ok(text.to_owned());
    };
    Err(Mismatch::new(INTERFACE, message))
}

/// An absolute path: the daemon's working folder is not the operator's.
pub(in crate::config) fn path(value: &Value) -> Parsed<PathBuf> {
    let text = string(value, PATH)?;
    if !text.starts_with('/') {
        return Err(Mismatch::new(PATH, "begin it with a slash"));
    }
    if text.chars().any(char::is_control) {
        return Err(Mismatch::new(PATH, "it contains a control character"));
    }
    Ok(PathBuf::from(text))
}

/// The path of a unix socket.
pub(in crate::config) fn socket_path(value: &Value) -> Parsed<PathBuf> {
    let path = path(value)?;
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        let message = "the kernel takes at most 107 bytes for a socket; choose a shorter one";
        return Err(Mismatch::new(PATH, message));
    }
    Ok(path)
}

/// The name of a system group.
pub(in crate::config) fn group(value: &Value) -> Parsed<String> {
    const EXPECTED: &str = "the name of a system group";
    let text = string(value, EXPECTED)?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.$".contains(character);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Mismatch::new(EXPECTED, "no group can be called so"));
    }
    Ok(text.to_owned())
}

/// Path of an HTTP request.
pub(in crate::config) fn request_path(value: &Value) -> Parsed<String> {
    const EXPECTED: &str = "the path of a request, such as \"/healthz\"";
    let text = string(value, EXPECTED)?;
    if !text.starts_with('/') {
        return Err(Mismatch::new(EXPECTED, "begin it with a slash"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
        return Err(Mismatch::new(
            EXPECTED,
            "write spaces and other such characters as %20",
        ));
    }
    Ok(text.to_owned())
}

/// The Host header of a request.
pub(in crate::config) fn host(value: &Value) -> Parsed<String> {
    const EXPECTED: &str = "a host name such as \"www.example.org\"";
    let text = string(value, EXPECTED)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(Mismatch::new(
            EXPECTED,
            "write only the name, without scheme or path",
        ));
    }
    Ok(text.to_owned())
}

/// A zone of the DNS, without its final dot.
pub(in crate::config) fn zone(value: &Value) -> Parsed<String> {
    const EXPECTED: &str = "a zone such as \"lb.example.org\"";
    let text = string(value, EXPECTED)?;
    let zone = text.strip_suffix('.').unwrap_or(text);
    if zone.len() > 253 || !zone.split('.').all(is_dns_label) {
        return Err(Mismatch::new(
            EXPECTED,
            format!("every part {DNS_LABEL_RULE}"),
        ));
    }
    Ok(zone.to_lowercase())
}

/// One label of a name in the DNS.
pub(in crate::config) fn dns_label(value: &Value) -> Parsed<String> {
    const EXPECTED: &str = "a label such as \"alice\"";
    let text = string(value, EXPECTED)?;
    if !is_dns_label(text) {
        return Err(Mismatch::new(EXPECTED, format!("a label {DNS_LABEL_RULE}")));
    }
    Ok(text.to_lowercase())
}

/// What [`is_dns_label`] asks for.
pub(in crate::config) const DNS_LABEL_RULE: &str =
    "has 1 to 63 letters, digits and hyphens, no hyphen first or last";

/// Whether a host can be called so in the DNS.
pub(in crate::config) fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refusal, value};
    use super::*;

    fn quoted(text: impl Into<Value>) -> Value {
        text.into()
    }

    #[test]
    fn names_can_be_typed_in_a_command() {
        for text in ["web", "web-1", "Wéb 1", "a.b_c"] {
            assert_eq!(name(&quoted(text)).as_deref(), Ok(text));
        }
        for (text, message) in [
            ("".to_owned(), "it is empty; choose another"),
            (
                "x".repeat(81),
                "it is longer than 80 characters; choose another",
            ),
            (
                "a/b".to_owned(),
                "it contains a slash or a quotation mark; choose another",
            ),
            (
                "a\tb".to_owned(),
                "it contains a control character; choose another",
            ),
            (
                " a".to_owned(),
                "it begins or ends with a space; choose another",
            ),
        ] {
            assert_eq!(refusal(name(&quoted(text))), message);
        }
        assert!(name(&quoted("ä".repeat(80))).is_ok());
        assert_eq!(refusal(name(&value("1"))), "write it as text, in quotes");
    }

    #[test]
    fn a_member_is_an_instance_or_one_of_its_ip_configurations() {
        let reference = member(&quoted("web-1")).unwrap();
        assert_eq!(reference.to_string(), "web-1/primary");
        let reference = member(&quoted("web-1/secondary")).unwrap();
        assert_eq!(reference.to_string(), "web-1/secondary");
        for text in ["", "/", "web-1/", "/primary", "a/b/c"] {
            assert!(member(&quoted(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn interfaces_are_called_as_the_kernel_allows() {
        for text in ["eth0", "ens3f0np0", "eth0.100", "br-lan"] {
            assert_eq!(interface(&quoted(text)).as_deref(), Ok(text));
        }
        for text in ["", "eth 0", "a/b", "..", "averyveryverylongname", "eth0:1"] {
            assert!(interface(&quoted(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_absolute_and_a_socket_is_short() {
        assert_eq!(path(&quoted("/run/x")), Ok(PathBuf::from("/run/x")));
        assert_eq!(refusal(path(&quoted("run/x"))), "begin it with a slash");
        assert_eq!(refusal(path(&quoted(""))), "begin it with a slash");
        assert!(socket_path(&quoted(format!("/{}", "x".repeat(106)))).is_ok());
        assert!(socket_path(&quoted(format!("/{}", "x".repeat(107)))).is_err());
    }

    #[test]
    fn what_goes_into_a_request_is_clean() {
        assert!(request_path(&quoted("/healthz?full=1")).is_ok());
        for text in ["", "healthz", "/a b", "/a\r\nX: y", "/ä", "/a#b"] {
            assert!(request_path(&quoted(text)).is_err(), "{text:?}");
        }
        assert!(host(&quoted("www.example.org:8080")).is_ok());
        for text in ["", "http://x", "a b", "a\r\nb"] {
            assert!(host(&quoted(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_the_dns_have_clean_labels() {
        assert_eq!(
            zone(&quoted("LB.example.org.")).as_deref(),
            Ok("lb.example.org")
        );
        assert_eq!(dns_label(&quoted("alice-2")).as_deref(), Ok("alice-2"));
        for text in ["", ".", "a..b", "-a.b", "a_b.c", "*.example.org"] {
            assert!(zone(&quoted(text)).is_err(), "{text}");
        }
        for text in ["", "a.b", "-a", "a-", "a b"] {
            assert!(dns_label(&quoted(text)).is_err(), "{text}");
        }
        assert!(dns_label(&quoted("a".repeat(63))).is_ok());
        assert!(dns_label(&quoted("a".repeat(64))).is_err());
    }

    #[test]
    fn groups_are_called_as_the_system_allows() {
        assert_eq!(group(&quoted("adm")).as_deref(), Ok("adm"));
        for text in ["", "a:b", "a b"] {
            assert!(group(&quoted(text)).is_err(), "{text}");
        }
    }
}
