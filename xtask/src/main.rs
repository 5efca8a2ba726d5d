//! Builds, demonstrates and tests the project: `cargo xtask --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers, whose terminal it speaks to"
)]

mod demo;
mod guests;
mod lint;
mod packages;
mod shell;
mod test;
mod tools;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use tools::Tools;

/// Builds, demonstrates and tests wasi-pubsub.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                   three components on the built-in broker
  cargo xtask test                   everything
  cargo xtask test delivery::        the tests whose name contains this
  cargo xtask test --no-install      say what is missing, install nothing
  cargo xtask ci                     what has to pass before a change is merged";

#[derive(Subcommand)]
enum Task {
    /// Build everything, and watch events go through three components
    Demo(InstallArgs),
    /// Install what the tests need, and run them
    Test(TestArgs),
    /// Check format, lints, licences and the origin of dependencies
    Lint(InstallArgs),
    /// Check the lints of the host without any of its features. Its dependencies are
    /// checked once more for it, which takes minutes: so `lint` leaves it out
    LintBare,
    /// All of `lint`, then all of `test`
    Ci(InstallArgs),
    /// Build the example guests and those of the tests
    Guests(InstallArgs),
}

#[derive(Args)]
struct InstallArgs {
    /// Install nothing; say what is missing
    #[arg(long)]
    no_install: bool,
}

#[derive(Args)]
struct TestArgs {
    #[command(flatten)]
    install: InstallArgs,
    /// Which tests: parts of their names, or options of the test runner. The
    /// tests of the documentation and of the guest SDK run only without
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILTER")]
    filters: Vec<String>,
}

impl InstallArgs {
    fn tools(&self) -> Tools {
        Tools::new(!self.no_install)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo(args) => demo::demo(&args.tools()),
        Task::Test(args) => test::test(&args.install.tools(), &args.filters),
        Task::Lint(args) => lint::lint(&args.tools()),
        Task::LintBare => lint::without_features(),
        Task::Ci(args) => {
            let tools = args.tools();
            lint::lint(&tools).and_then(|()| test::test(&tools, &[]))
        }
        Task::Guests(args) => guests::build(&args.tools()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
