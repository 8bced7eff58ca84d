//! What is said about a mistake in the file.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One error or warning, as `check --json` prints it.
///
/// `key` names the place in the operator's words: `node.interfaces`, `rule "web".port`,
/// `pool "web".members[2].weight`. A table without a usable name and an element of a list are
/// counted from 1, as in `rule[3].port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file as it was named on the command line.
    pub file: String,
    /// Line of the file, from 1; 0 when the file could not be read.
    pub line: usize,
    /// What is wrong; empty for the file as a whole.
    pub key: String,
    /// The text of the file, shortened; `nothing` when something is missing.
    pub found: String,
    /// What would have been right.
    pub expected: String,
    /// Why, and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(
            f,
            " found {}, expected {}: {}",
            self.found, self.expected, self.message
        )
    }
}

/// A file that is refused: at least one error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// Every error, by line.
    pub errors: Vec<Diagnostic>,
    /// Every warning, by line.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Display for Diagnostics {
    /// One line for each error; warnings are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            file: "forebay.toml".into(),
            line: 12,
            key: "rule \"web\".port".into(),
            found: "\"x\"".into(),
            expected: "a port".into(),
            message: "correct it".into(),
        }
    }

    #[test]
    fn is_one_line_that_names_file_line_key_found_and_expected() {
        assert_eq!(
            diagnostic().to_string(),
            "forebay.toml:12: rule \"web\".port: found \"x\", expected a port: correct it"
        );
    }

    #[test]
    fn leaves_out_a_line_and_a_key_that_do_not_exist() {
        let whole_file = Diagnostic {
            line: 0,
            key: String::new(),
            ..diagnostic()
        };
        assert_eq!(
            whole_file.to_string(),
            "forebay.toml: found \"x\", expected a port: correct it"
        );
    }

    #[test]
    fn serializes_with_the_field_names_of_the_check_command() {
        let json = serde_json::to_value(diagnostic()).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            ["file", "line", "key", "found", "expected", "message"]
        );
    }
}
