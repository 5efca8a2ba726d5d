//! From the start of the process to the first event handled.

use crate::guest;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The host, built for release beside this program.
pub fn host() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("wasi-pubsub");
    if !path.exists() {
        bail!("build the host first: cargo build --release");
    }
    Ok(path)
}

pub fn run(runs: u32) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("wasi-pubsub-start-{}", std::process::id()));
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let _ = std::fs::remove_dir_all(&folder);
        cold.push(once(&folder)?);
        cached.push(once(&folder)?);
    }
    std::fs::remove_dir_all(&folder)?;
    println!("process start → first event handled, publisher and receiver, median of {runs}");
    println!("cold {:?}, with the cache {:?}", median(cold), median(cached));
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn once(cache: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = Command::new(host()?)
        .arg("run")
        .arg(guest("publisher"))
        .arg(guest("receiver"))
        .env("XDG_CACHE_HOME", cache)
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().context("no output")?;
    let mut handled = None;
    for line in BufReader::new(stdout).lines() {
        if line?.contains("received") {
            handled = Some(begun.elapsed());
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    handled.context("no event was handled")
}
