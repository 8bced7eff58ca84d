//! Reading from disk.

use std::io::Write;

use super::BASE;
use crate::config::{load, parse};

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

const RUNNABLE: &str = "node.interfaces = [\"eth0\"]\n";

#[test]
fn a_file_comes_with_the_hash_of_its_bytes() {
    let file = file(RUNNABLE.as_bytes());
    let loaded = load(file.path()).unwrap();
    // sha256sum
    let sum = "214298f33e58b7a55b6a4cacb07facbbd629eeb9adbe51f3f5bc73998ffb35fb";
    assert_eq!(loaded.sha256, sum);
    assert_eq!(parse("other name", RUNNABLE).unwrap(), loaded);
}

#[test]
fn the_node_is_called_like_the_host() {
    let loaded = parse("f.toml", RUNNABLE).unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(loaded.config.node.name, host.trim());
}

#[test]
fn a_file_with_errors_names_itself_in_each() {
    let file = file(BASE.replace("port = 80", "port = 8O").as_bytes());
    let refusal = load(file.path()).unwrap_err();
    assert!(!refusal.errors.is_empty());
    for error in refusal.errors {
        assert_eq!(error.file, file.path().display().to_string());
    }
}

#[test]
fn a_file_that_is_not_there_is_one_error_on_no_line() {
    let refusal = load("/nonexistent/forebay.toml".as_ref()).unwrap_err();
    let [error] = &refusal.errors[..] else {
        panic!("{refusal}")
    };
    assert_eq!((error.line, error.key.as_str()), (0, ""));
    assert_eq!(error.file, "/nonexistent/forebay.toml");
    assert!(error.found.contains("No such file"), "{error}");
    assert_eq!(error.expected, "a readable file");
    assert_eq!(error.message, "create it, or name another with --config");
}

#[test]
fn a_folder_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = load(folder.path()).unwrap_err();
    assert_eq!(
        refusal.errors[0].message,
        "this is a folder; name the file in it"
    );
}

#[test]
fn bytes_that_are_no_text_have_a_line() {
    let file = file(b"# one\n# caf\xe9\n");
    let refusal = load(file.path()).unwrap_err();
    assert_eq!(refusal.errors[0].line, 2);
    assert_eq!(refusal.errors[0].found, "the byte 0xe9");
    assert_eq!(refusal.errors[0].expected, "text in UTF-8");
}
