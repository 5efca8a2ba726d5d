//! `wasi-pubsub completions`

use super::failure::Failure;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes commands and options in a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub completions bash > ~/.local/share/bash-completion/completions/wasi-pubsub
  wasi-pubsub completions zsh > ~/.zfunc/_wasi-pubsub")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = super::Cli::command();
    clap_complete::generate(args.shell, &mut command, "wasi-pubsub", &mut std::io::stdout());
    Ok(())
}
