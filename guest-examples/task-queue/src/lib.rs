//! Does tasks that it shares with other workers. What kind of worker it is stands
//! in the variable WORKER: `slow` takes ten times as long, `crashing` fails in the
//! middle of every third task.

use pubsub::{Event, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const WORK: Duration = Duration::from_millis(5);

/// The tasks that this instance has begun. After a crash there is a new one.
static BEGUN: AtomicU32 = AtomicU32::new(0);

#[pubsub::on_message]
fn on_message(task: Event) -> Result<()> {
    let worker = std::env::var("WORKER").unwrap_or_default();
    let begun = BEGUN.fetch_add(1, Ordering::Relaxed) + 1;
    std::thread::sleep(if worker == "slow" { 10 * WORK } else { WORK });
    if worker == "crashing" && begun == 3 {
        panic!("{} is not done", task.text()?);
    }
    // The task is done with the last thing that is done for it: what crashes after
    // that, and before the verdict, does it again.
    println!("done: {}, attempt {}", task.text()?, task.attempt);
    Ok(())
}
