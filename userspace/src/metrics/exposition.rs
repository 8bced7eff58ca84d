//! The text: OpenMetrics 1.0, or what Prometheus read before (text format 0.0.4), which names a counter by its lines.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

use super::families::{PREFIX, Page};
use super::{SUBJECTS, Values};

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4.
    Plain,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that a reader gets who accepts this.
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Plain,
        }
    }

    /// What it calls itself.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Debug)]
struct Everything(Arc<Values>);

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::of(encoder);
        let mut subjects = SUBJECTS.iter();
        subjects.try_for_each(|subject| (subject.write)(&self.0, &mut page))
    }
}

/// The text of all values.
///
/// # Errors
/// Never, as long as there is memory.
pub fn text(values: Arc<Values>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Everything(values)));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    match format {
        Format::Plain => Ok(plain(&text)),
        Format::OpenMetrics => encode_eof(&mut text).map(|()| text),
    }
}

/// The same in the older format: counters are described under the name of their lines, and units not at all.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let described = |line: &str, what: &str| {
            let rest = line.strip_prefix(what)?;
            let (name, rest) = rest.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        };
        if line.starts_with("# UNIT ") {
            continue;
        }
        let Some((name, help)) = described(line, "# HELP ") else {
            plain.push_str(line);
            continue;
        };
        let kind = lines.peek().and_then(|next| described(next, "# TYPE "));
        let kind = kind.map_or_else(|| "untyped\n".to_owned(), |(_, kind)| kind);
        lines.next();
        let end = if kind.trim_end() == "counter" {
            "_total"
        } else {
            ""
        };
        plain.push_str(&format!(
            "# HELP {name}{end} {help}# TYPE {name}{end} {kind}"
        ));
    }
    plain
}
