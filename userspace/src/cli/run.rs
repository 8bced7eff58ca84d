//! `forebay run` and `forebay detach`.

use std::io::Write;

use anyhow::Context;

use super::{Common, Failure, LogShape, log_format};
use crate::config::{self, model::Log};
use crate::daemon::{self, Options};
use crate::host::facts;

pub(super) fn run(common: &Common, detach_on_exit: bool) -> Result<(), Failure> {
    let loaded = config::load_for(&common.config, facts())
        .map_err(|errors| Failure::Invalid(errors.to_string()))?;
    start_log(&loaded.config.log);
    let options = Options {
        config: common.config.clone(),
        detach_on_exit,
    };
    Ok(runtime()?.block_on(daemon::run(options, loaded))?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")
}

pub(super) fn detach(common: &Common) -> Result<(), Failure> {
    let loaded =
        config::load(&common.config).map_err(|errors| Failure::Invalid(errors.to_string()))?;
    let done = runtime()?.block_on(daemon::detach(&loaded.config))?;
    if done.is_empty() {
        println!(
            "nothing to remove: no pins in {}",
            loaded.config.node.bpf_fs.display()
        );
    }
    for what in done {
        println!("removed or put back: {what}");
    }
    Ok(())
}

/// Logs to standard error; `FOREBAY_LOG` overrides the level of the file, per module if need be.
fn start_log(log: &Log) {
    let mut builder = env_logger::Builder::new();
    // Everything passes here; the level is set below, where a reload can change it.
    builder.filter_level(log::LevelFilter::Trace);
    if let Ok(filter) = std::env::var(daemon::LOG_VARIABLE) {
        builder.parse_filters(&filter);
    }
    match log_format(log.format) {
        LogShape::Text => {
            builder.format_target(false);
        }
        LogShape::Json => {
            builder.format(|out, record| {
                let time =
                    humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
                let line = serde_json::json!({
                    "time": time,
                    "level": record.level().as_str().to_lowercase(),
                    "message": record.args().to_string(),
                });
                writeln!(out, "{line}")
            });
        }
    }
    // A second logger in one process exists in tests only.
    let _ = builder.try_init();
    daemon::set_log_level(log);
}
