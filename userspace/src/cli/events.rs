//! `forebay events`

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Common, Failure};
use crate::api::{Event, Request};
use crate::control_socket;

/// How often `--follow` asks for what is new.
const INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn events(common: &Common, follow: bool, json: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(runtime.block_on(print_all(&common.socket(), follow, json))?)
}

/// Ends with the daemon when it follows: a new one has events of its own.
async fn print_all(socket: &Path, follow: bool, json: bool) -> Result<()> {
    let mut after = 0;
    loop {
        let answer = control_socket::call(socket, &Request::Events { after }).await?;
        let events: Vec<Event> = serde_json::from_value(answer)
            .context("understand the answer; are command and daemon of one version?")?;
        let mut out = std::io::stdout().lock();
        for event in &events {
            after = event.number;
            if json {
                let line = serde_json::to_string(event).context("print JSON")?;
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{}", line(event))?;
            }
        }
        out.flush()?;
        drop(out);
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// An event for people: columns as wide as the widest word that stands in them, for lines come one by one.
fn line(event: &Event) -> String {
    let Event {
        time,
        severity,
        event,
        message,
        ..
    } = event;
    format!("{time}  {severity:<8}  {event:<26}  {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned() {
        let event = |severity: &str, name: &str| Event {
            time: "2001-09-09T01:46:40.000Z".to_owned(),
            severity: severity.to_owned(),
            event: name.to_owned(),
            message: "why".to_owned(),
            number: 1,
            fields: serde_json::Map::new(),
        };
        let column = |event: &Event| line(event).find("why");
        assert_eq!(
            column(&event("info", "ConfigLoaded")),
            column(&event("critical", "SnatPortExhaustionCleared"))
        );
    }
}
