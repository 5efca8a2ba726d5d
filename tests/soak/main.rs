//! A soak, run by hand: a great number of events through a real mosquitto and
//! the real program, both of which are ended at random moments. At the end it
//! says what was lost and what came twice.
//!
//! ```sh
//! cargo run --release -p wasi-pubsub-tests --bin soak -- --events 1000000
//! ```
//!
//! Each event is published at qos 2 until the broker has confirmed it. One
//! component subscribes at qos 1 and one at qos 2, and each writes the number of
//! every event that it handles. The guests have to be built: `cargo xtask test`
//! does that.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it talks to who started it, and a failure here ends it"
)]

mod faults;
mod host;
mod options;
mod publish;
mod report;
mod tally;

use faults::Faults;
use host::{Host, Scene};
use options::Options;
use publish::Publisher;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
use testkit::Mosquitto;

/// How long nothing may arrive, once all is published and nothing fails any more,
/// before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => run(options).await,
        Ok(None) => {
            println!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}

async fn run(options: Options) -> ExitCode {
    println!("{options}");
    let broker = mosquitto().await;
    let scene = Scene::new(&broker);
    let tally = Arc::new(Tally::new(options.events));
    let host = Host::start(&scene, &tally).await;
    let publisher = Publisher::start(&broker, &options, &tally);
    let mut faults = Faults::new(&options, scene, broker, host, tally.clone());

    let mut told = Instant::now();
    while !publisher.is_done() {
        faults.next(&publisher).await;
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            println!("{}; {}", tally.progress(), faults.count());
        }
    }
    let published = publisher.end().await;
    println!("all is published, nothing fails any more; {}", tally.progress());
    settle(&tally).await;
    let count = faults.end().await;
    report::print(&options, &tally, &published, &count)
}

/// Keeps sessions and events in a file that it writes when it is stopped.
async fn mosquitto() -> Mosquitto {
    // Every packet in its log would be kept in memory.
    let log = "log_type none\nlog_type error\nlog_type warning\nlog_type information";
    Mosquitto::builder().persistence().line(log).start().await
}

/// Waits until all has arrived, or nothing comes any more.
async fn settle(tally: &Tally) {
    let (mut handled, mut since) = (tally.handled(), Instant::now());
    while !tally.is_complete() && since.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if tally.handled() != handled {
            (handled, since) = (tally.handled(), Instant::now());
        }
    }
}
