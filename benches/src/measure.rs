//! Clocks, memory and medians.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The processor time that the threads of this process have had. Threads that have
/// ended are not in it, so that those in question must be there at both ends.
pub(crate) fn process_time() -> Result<Duration> {
    std::thread::yield_now();
    of_tasks("/proc/self/task")
}

/// Likewise, of another process.
pub(crate) fn process_time_of(process: u32) -> Result<Duration> {
    of_tasks(&format!("/proc/{process}/task"))
}

fn of_tasks(tasks: &str) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(tasks)? {
        // One may end meanwhile.
        sum += of_task(&task?.path()).unwrap_or_default();
    }
    Ok(sum)
}

/// The processor time that this thread has had.
pub(crate) fn thread_time() -> Result<Duration> {
    // The kernel counts up to now when a thread yields.
    std::thread::yield_now();
    of_task(Path::new("/proc/thread-self"))
}

fn of_task(task: &Path) -> Result<Duration> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    let nanos = text.split_whitespace().next().context("no time in schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// The memory of this process, in bytes.
pub(crate) fn resident() -> Result<u64> {
    resident_in("/proc/self/status")
}

/// The memory of another process, in bytes.
pub(crate) fn resident_of(process: u32) -> Result<u64> {
    resident_in(&format!("/proc/{process}/status"))
}

fn resident_in(status: &str) -> Result<u64> {
    let status = fs::read_to_string(status)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// The one in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One of two, for the other one.
pub(crate) fn ratios(of: &[f64], to: &[f64]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of / to))
}
