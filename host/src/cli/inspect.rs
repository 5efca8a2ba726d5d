//! `wasi-pubsub inspect`

use super::failure::Failure;
use super::files;
use crate::capability::Interfaces;
use crate::runtime::{Code, Host, InstanceMode};
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Say what a component imports and exports, and what it would need to run
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub inspect receiver.wasm
  wasi-pubsub inspect receiver.wasm --json")]
pub(super) struct InspectArgs {
    /// The component
    component: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let host = Host::new().map_err(|error| Failure::run(format!("{error:#}")))?;
    let cache = files::code_cache();
    let code = Code::load(&host, cache.as_ref(), &args.component, InstanceMode::Reuse).map_err(
        |error| {
            let help = error.help().map(|help| format!("\n  help: {help}")).unwrap_or_default();
            Failure::input(format!("{}: {error}{help}", args.component.display()))
        },
    )?;
    let problem = problem(&host, &code);
    let text = if args.json {
        json(code.interfaces(), problem.as_ref())
    } else {
        words(&args.component, code.interfaces(), problem.as_ref())
    };
    write!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Why this host cannot run the component, whatever the configuration.
pub(super) fn problem(host: &Host, code: &Code) -> Option<String> {
    let found = code.interfaces();
    if !found.foreign.is_empty() {
        return Some(format!(
            "it imports {}, which this host does not have",
            found.foreign.join(", ")
        ));
    }
    if found.handlers.is_empty() && !found.is_command {
        return Some(
            "it exports neither `on-message` nor `wasi:cli/run`: there is nothing to run".into(),
        );
    }
    code.check(host).err().map(|error| error.to_string())
}

fn json(found: &Interfaces, problem: Option<&String>) -> String {
    let handlers: Vec<_> = found.handlers.iter().map(|version| version.text()).collect();
    let value = serde_json::json!({
        "imports": found.imports,
        "exports": found.exports,
        "functions": found.functions,
        "handlers": handlers,
        "command": found.is_command,
        "runs": problem.is_none(),
        "problem": problem,
    });
    format!("{value:#}\n")
}

fn words(path: &std::path::Path, found: &Interfaces, problem: Option<&String>) -> String {
    let mut text = String::new();
    let mut list = |title: &str, names: &[String]| {
        let _ = writeln!(text, "{title}:");
        for name in names {
            let _ = writeln!(text, "  {name}");
        }
        if names.is_empty() {
            let _ = writeln!(text, "  nothing");
        }
    };
    list("imports", &found.imports);
    list("exports", &found.exports);
    list("needs", &needs(found));
    if let Some(problem) = problem {
        let _ = writeln!(text, "this host cannot run it:\n  {problem}");
    } else {
        let _ = writeln!(text, "try:\n  wasi-pubsub run {}", path.display());
    }
    text
}

/// What capabilities.toml has to say for the component.
fn needs(found: &Interfaces) -> Vec<String> {
    let mut needs = Vec::new();
    for version in &found.handlers {
        let kind = match version {
            crate::capability::Version::V0_2 => "one event at a time in an instance",
            crate::capability::Version::V0_3 => "many events at once in an instance",
        };
        needs.push(format!(
            "a binding with `topic` or `queue` and `delivery = \"push\"` for its handler ({} of {kind})",
            version.text()
        ));
    }
    if found.uses("publish") {
        needs.push("a binding that lets it publish (`publish` absent: anything)".into());
    }
    for function in ["receive", "stream", "pull"] {
        if found.uses(function) {
            needs.push(format!(
                "a binding with `topic` or `queue` and `delivery = \"pull\"` for `{function}`"
            ));
        }
    }
    if found.is_command {
        needs.push("nothing for its `main`, which runs once".into());
    }
    needs
}
