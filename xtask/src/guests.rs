//! Building guests.

use crate::shell::{cargo, heading, root, run};
use crate::tools::{Tools, WASM_TARGET};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace of all guests: the examples, and those of the tests.
pub(crate) const GUESTS: &str = "guest-examples/Cargo.toml";

const WIT: &str = "wit/0.2/pubsub-data.wit";
/// The example in Python.
const PYTHON: &str = "guest-examples/python-receiver";
/// What it is built with, as pip reads it.
pub(crate) const PYTHON_REQUIREMENTS: &str = "guest-examples/python-receiver/requirements.txt";

/// Builds every guest, the one in Python too.
pub(crate) fn build(tools: &Tools) -> Result<()> {
    tools.wasm_target()?;
    heading("Building the guests");
    run(&mut cargo_build(&["--workspace"]))?;
    build_python(tools)
}

fn build_python(tools: &Tools) -> Result<()> {
    let program = tools.componentize_py()?;
    let output = target_dir().join("python_receiver.wasm");
    let sources = [&format!("{PYTHON}/app.py"), PYTHON_REQUIREMENTS, WIT];
    if is_newer(&output, &sources.map(|path| root().join(path)))? {
        return Ok(());
    }
    heading("Building the guest in Python");
    let app = ["componentize", "--python-path", PYTHON, "app", "--output"];
    run(Command::new(program)
        .current_dir(root())
        .args(["--wit-path", "wit/0.2", "--world", "subscriber"])
        .args(app)
        .arg(output))
}

/// Whether a file is there, and was written after all of these.
pub(crate) fn is_newer(file: &Path, sources: &[PathBuf]) -> Result<bool> {
    let Ok(written) = file.metadata().and_then(|data| data.modified()) else { return Ok(false) };
    for source in sources {
        let changed = source.metadata().and_then(|data| data.modified());
        if changed.with_context(|| format!("cannot read {}", source.display()))? >= written {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Builds the named examples.
pub(crate) fn build_examples(tools: &Tools, names: &[&str]) -> Result<()> {
    tools.wasm_target()?;
    heading("Building the guests");
    let packages: Vec<_> = names.iter().flat_map(|name| ["--package", name]).collect();
    run(&mut cargo_build(&packages))
}

/// The target folder of all that is built apart from the host's workspace. It
/// does not follow CARGO_TARGET_DIR: the tests and capabilities.toml name it.
pub(crate) fn target_dir() -> PathBuf {
    root().join("guest-examples/target")
}

fn cargo_build(selection: &[&str]) -> Command {
    let mut command = cargo(["build", "--release", "--target", WASM_TARGET]);
    command.args(["--manifest-path", GUESTS, "--target-dir"]).arg(target_dir()).args(selection);
    command
}
