//! Resident memory and time to start, with few components and with many.

use crate::guest;
use crate::start::host;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

pub fn run(many: usize) -> Result<()> {
    let (one, all) = (measure(1)?, measure(many)?);
    let more = many as u64 - 1;
    println!("idle, no event yet: one component {} KiB, {many} {} KiB", one.idle, all.idle);
    println!("  each further one: {} KiB", all.idle.saturating_sub(one.idle) / more);
    println!("after an event each: one component {} KiB, {many} {} KiB", one.used, all.used);
    println!("  each further one: {} KiB", all.used.saturating_sub(one.used) / more);
    println!("process start → ready: one {:?}, {many} {:?}", one.start, all.start);
    Ok(())
}

struct Figures {
    /// In KiB, when the host is ready.
    idle: u64,
    /// In KiB, when all components have handled one event.
    used: u64,
    start: Duration,
}

fn measure(components: usize) -> Result<Figures> {
    let config = configuration(components)?;
    let publisher = format!(
        "[[component]]\nname = \"publisher\"\npath = {:?}\nargs = [\"orders/new\", \"1\"]\n",
        guest("publisher")
    );
    // Compiling is another figure: the first run fills the cache.
    start(&config)?.stop()?;
    let idle = start(&config)?;
    let (start_time, idle_memory) = (idle.took, resident(&idle.child)?);
    idle.stop()?;
    let mut used = start(&(config + &publisher))?;
    let stdout = used.child.stdout.take().context("no output")?;
    let received = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("received"))
        .take(components)
        .count();
    anyhow::ensure!(received == components, "{received} of {components} events were handled");
    let used_memory = resident(&used.child)?;
    used.stop()?;
    Ok(Figures { idle: idle_memory, used: used_memory, start: start_time })
}

fn configuration(components: usize) -> Result<String> {
    let mut config =
        String::from("specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n");
    config.push_str("[[capability.config]]\ntopic = \"orders/#\"\ndelivery = \"push\"\n");
    for number in 0..components {
        writeln!(config, "[[component]]\nname = \"c{number}\"\npath = {:?}", guest("receiver"))?;
    }
    Ok(config)
}

/// A host that is ready.
pub(crate) struct Running {
    child: Child,
    took: Duration,
    /// Read no further; closed, the host could not log.
    _logs: BufReader<ChildStderr>,
}

impl Running {
    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

pub(crate) fn start(config: &str) -> Result<Running> {
    let path = std::env::temp_dir().join(format!("wasi-pubsub-memory-{}.toml", std::process::id()));
    std::fs::write(&path, config)?;
    let begun = Instant::now();
    let mut child = Command::new(host()?)
        .arg("run")
        .arg("--config")
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut logs = BufReader::new(child.stderr.take().context("no log")?);
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        anyhow::ensure!(logs.read_line(&mut line)? > 0, "never ready");
    }
    let took = begun.elapsed();
    std::fs::remove_file(path)?;
    Ok(Running { child, took, _logs: logs })
}

/// Resident memory in KiB.
fn resident(child: &Child) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
}
