//! `wasi-pubsub check`

use super::failure::Failure;
use super::{ConfigArgs, plan};
use crate::runtime::Host;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Validate the configuration and the components, run nothing
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub check
  wasi-pubsub check -c plant.toml billing.wasm

All problems are reported at once, each with file, line, key, what was found and
what is allowed. Exit code 0: `run` would start.")]
pub(super) struct CheckArgs {
    /// Components to check, beside those of the configuration
    #[arg(value_name = "COMPONENT")]
    components: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let host = Host::new().map_err(|error| Failure::run(format!("{error:#}")))?;
    let planned = plan::load(&host, &args.config, &args.components, None, None)?;
    write!(std::io::stdout(), "{}", planned.summary())?;
    Ok(())
}
