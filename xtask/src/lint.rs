//! Checks that run nothing: format, lints, licences.

use crate::guests::{GUESTS, target_dir};
use crate::shell::{cargo, heading, run, succeeds_within};
use crate::tools::{DENY, Tools, WASM_TARGET, with_tools};
use anyhow::{Result, bail};
use std::process::Command;
use std::time::Duration;

const HOST: &str = "Cargo.toml";
const SDK: &str = "guest-sdk/Cargo.toml";

/// How long the list of known vulnerabilities may take to arrive.
const FETCH_TIME_MAX: Duration = Duration::from_secs(60);

/// Checks all workspaces.
pub(crate) fn lint(tools: &Tools) -> Result<()> {
    tools.rust_component("rustfmt", "fmt")?;
    heading("Checking the format");
    for workspace in [HOST, SDK, GUESTS] {
        run(&mut cargo(["fmt", "--all", "--check", "--manifest-path", workspace]))?;
    }
    tools.rust_component("clippy", "clippy")?;
    tools.wasm_target()?;
    heading("Checking the lints");
    run(&mut clippy(HOST, &[]))?;
    run(&mut guest_clippy(SDK, &[]))?;
    run(&mut guest_clippy(SDK, &["--target", WASM_TARGET]))?;
    run(&mut guest_clippy(GUESTS, &["--target", WASM_TARGET]))?;
    deny(tools)
}

fn clippy(workspace: &str, options: &[&str]) -> Command {
    let mut command = cargo(["clippy", "--manifest-path", workspace, "--workspace"]);
    command.args(["--all-targets", "--locked"]).args(options).args(["--", "-D", "warnings"]);
    command
}

/// Checks the host with none of its features: what only one of them needs is then behind
/// it.
pub(crate) fn without_features() -> Result<()> {
    let mut command = cargo(["clippy", "--manifest-path", "host/Cargo.toml"]);
    command.args(["--no-default-features", "--locked", "--", "-D", "warnings"]);
    run(&mut command)
}

/// As [`clippy`], apart from the host's target folder.
fn guest_clippy(workspace: &str, options: &[&str]) -> Command {
    let mut command = clippy(workspace, options);
    command.env("CARGO_TARGET_DIR", target_dir());
    command
}

fn deny(tools: &Tools) -> Result<()> {
    if !tools.cargo_tool(&DENY)? {
        if std::env::var_os("CI").is_some() {
            bail!("cargo-deny is needed to check licences, and is not there");
        }
        eprintln!(
            "note: licences and origins were not checked: cargo-deny is missing \
             (`cargo install --locked cargo-deny`)"
        );
        return Ok(());
    }
    heading("Checking licences and origins of dependencies");
    for workspace in [HOST, SDK, GUESTS] {
        run(&mut deny_check(workspace, &["licenses", "bans", "sources"])?)?;
    }
    // The list of advisories is fetched from outside; without a network the
    // other checks have to do.
    let mut fetch = with_tools(cargo(["deny", "fetch", "db"]))?;
    fetch.env("GIT_TERMINAL_PROMPT", "0");
    if !succeeds_within(&mut fetch, FETCH_TIME_MAX) {
        eprintln!("note: known vulnerabilities were not checked: their list cannot be fetched");
        return Ok(());
    }
    for workspace in [HOST, SDK, GUESTS] {
        run(&mut deny_check(workspace, &["advisories"])?)?;
    }
    Ok(())
}

fn deny_check(workspace: &str, what: &[&str]) -> Result<Command> {
    let options = ["deny", "--locked", "--config", "deny.toml", "--manifest-path", workspace];
    let mut command = with_tools(cargo(options))?;
    command.args(["check", "--hide-inclusion-graph"]).args(what);
    Ok(command)
}
