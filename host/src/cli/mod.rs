//! The command line: one file for each command.
//!
//! Only this module touches the terminal, the environment and the folders of
//! the user; and only here the list of backends meets the runtime.

#[cfg(feature = "disk")]
mod broker;
mod check;
mod completions;
mod dead;
mod delivered;
mod failure;
mod files;
mod grants;
mod inspect;
mod lines;
#[cfg(feature = "listener")]
mod listening;
#[cfg(not(feature = "listener"))]
#[path = "listening/absent.rs"]
mod listening;
mod logs;
#[cfg(feature = "listener")]
mod passwd;
mod plan;
mod publish;
mod record;
mod reload;
mod run;
mod signals;
mod subscribe;
mod telemetry;
mod test;
mod tool;
mod watch;

use clap::{Args, Parser, Subcommand};
use failure::Failure;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs WebAssembly components as publish/subscribe services.
///
/// A component imports `wasi:pubsub-data/basic` to publish and to pull events,
/// or exports `wasi:pubsub-data/on-message` to have events pushed to it. The file
/// capabilities.toml says which broker, which topics or queues, which quality of
/// service, and push or pull. Without one, the built-in broker is used.
#[derive(Parser)]
#[command(name = "wasi-pubsub", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    logs: logs::LogArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  wasi-pubsub run publisher.wasm receiver.wasm   two components on the built-in broker
  wasi-pubsub run                                what capabilities.toml says
  wasi-pubsub check                              validate capabilities.toml, run nothing
  wasi-pubsub publish orders/new -m '{\"id\": 7}'  one event to the broker it names
  wasi-pubsub subscribe 'orders/#' --json        print what is published there
  wasi-pubsub test handler.wasm < events.jsonl   feed events to a handler, no broker
  wasi-pubsub dead list                          what nobody could handle, and why
  wasi-pubsub broker subscriptions               who waits for what in a store

Exit codes: 0 done, 1 failed while running, 2 the arguments, the configuration
or a component is wrong.";

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    #[command(alias = "pub")]
    Publish(Box<publish::PublishArgs>),
    #[command(alias = "sub")]
    Subscribe(subscribe::SubscribeArgs),
    Inspect(inspect::InspectArgs),
    Test(test::TestArgs),
    Dead(dead::DeadArgs),
    #[cfg(feature = "disk")]
    Broker(broker::BrokerArgs),
    #[cfg(feature = "listener")]
    Passwd(passwd::PasswdArgs),
    Completions(completions::CompletionsArgs),
}

/// Which configuration.
#[derive(Args)]
struct ConfigArgs {
    /// The configuration file [default: capabilities.toml, where there is one]
    #[arg(short, long, value_name = "FILE", env = "WASI_PUBSUB_CONFIG")]
    config: Option<PathBuf>,
}

/// Parses the arguments of the process, does what they say, and reports errors
/// on standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let coloured = cli.logs.is_coloured();
    let default = match cli.command {
        Command::Test(_) => test::LOG,
        _ => logs::DEFAULT,
    };
    let result = logs::start(&cli.logs, default).and_then(|()| cli.command.execute());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done where standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}", failure.render(coloured));
            failure.exit_code()
        }
    }
}

impl Command {
    fn execute(self) -> Result<(), Failure> {
        match self {
            Self::Run(args) => in_runtime(run::run(args)),
            Self::Check(args) => check::check(&args),
            Self::Publish(args) => in_runtime(publish::publish(*args)),
            Self::Subscribe(args) => in_runtime(subscribe::subscribe(args)),
            Self::Inspect(args) => inspect::inspect(&args),
            Self::Test(args) => in_runtime(test::test(args)),
            Self::Dead(args) => in_runtime(dead::dead(args)),
            #[cfg(feature = "disk")]
            Self::Broker(args) => in_runtime(broker::broker(args)),
            #[cfg(feature = "listener")]
            Self::Passwd(args) => passwd::passwd(&args),
            Self::Completions(args) => completions::completions(&args),
        }
    }
}

fn in_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::run(format!("the runtime cannot be started: {error}")))?;
    let result = runtime.block_on(command);
    // A guest that does not yield must not hold up the end.
    runtime.shutdown_background();
    result
}
