//! Resident memory with one idle component, and with a hundred.

use crate::guest;
use crate::start::host;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

pub fn run() -> Result<()> {
    let (one, hundred) = (resident(1)?, resident(100)?);
    println!("resident memory: one idle component {one} KiB, a hundred {hundred} KiB");
    println!("each further one: {} KiB", (hundred - one) / 99);
    Ok(())
}

/// Resident memory in KiB, when all components have handled one event.
fn resident(components: usize) -> Result<u64> {
    let mut config =
        String::from("specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n");
    config.push_str("[[capability.config]]\ntopic = \"orders/#\"\ndelivery = \"push\"\n");
    writeln!(
        config,
        "[[component]]\nname = \"publisher\"\npath = {:?}\nargs = [\"orders/new\", \"1\"]",
        guest("publisher")
    )?;
    for number in 0..components {
        writeln!(config, "[[component]]\nname = \"c{number}\"\npath = {:?}", guest("receiver"))?;
    }
    let path = std::env::temp_dir().join(format!("wasi-pubsub-memory-{}.toml", std::process::id()));
    std::fs::write(&path, config)?;
    let mut child = Command::new(host()?)
        .arg("run")
        .arg("--config")
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().context("no output")?;
    let received = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("received"))
        .take(components)
        .count();
    anyhow::ensure!(received == components, "{received} of {components} events were handled");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    child.kill()?;
    child.wait()?;
    std::fs::remove_file(path)?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
}
