//! Logs: to standard error, coloured on a terminal, JSON on request.

use super::failure::Failure;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How the host logs.
#[derive(Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true, env = "WASI_PUBSUB_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: error, warn, info (the default), debug or trace, or a list by module, as
    /// wasi_pubsub::backends=debug,info
    #[arg(long, value_name = "FILTER", global = true, env = "WASI_PUBSUB_LOG")]
    log: Option<String>,
    /// When to use colours
    #[arg(long, value_enum, default_value_t = Color::Auto, global = true)]
    color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, where NO_COLOR is not set
    Auto,
    Always,
    Never,
}

impl LogArgs {
    /// Whether what goes to standard error is coloured.
    pub(super) fn is_coloured(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// What is logged where nobody says what.
pub(super) const DEFAULT: &str = "info";

/// Starts logging for the process; `default` is the filter where none is given.
///
/// # Errors
/// The filter is none.
pub(super) fn start(args: &LogArgs, default: &str) -> Result<(), Failure> {
    let filter = args.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::input(format!(
            "--log: `{filter}` is no filter: {error}\n  help: one of error, warn, info, debug, trace, or \
             a list such as wasi_pubsub::backends=debug,info"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // Where standard error is closed, there is nowhere to say so.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second call in one process, as tests make it, keeps the first logger.
    let _ = match args.log_format {
        LogFormat::Text => builder.with_ansi(args.is_coloured()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
