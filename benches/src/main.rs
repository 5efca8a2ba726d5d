//! Figures of the host, each beside what it is measured against, in one run.
//!
//!     cargo run --release -p wasi-pubsub-bench -- dispatch
//!
//! `README.md` says what each one means.
//!
//! The guests are built by `cargo xtask test`, or with `cargo build --release
//! --target wasm32-wasip2` in `guest-examples`.

mod backlog;
mod builtin;
mod counting;
mod disk;
mod dispatch;
mod filters;
mod latency;
mod listener;
mod measure;
mod memory;
mod mqtt;
mod raw;
mod routing;
mod service;
mod start;
mod takers;

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::block_in_place;

#[derive(Parser)]
enum Bench {
    /// pubsub.memory → on-message → acknowledgement, beside the raw call
    Dispatch {
        /// Events for each figure
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// Which figures; without any, all
        #[arg(value_enum)]
        figures: Vec<dispatch::Figure>,
    },
    /// The same through mosquitto, beside a plain rumqttc subscriber
    Mqtt {
        /// Events for each figure
        #[arg(long, default_value_t = 200_000)]
        events: u64,
    },
    /// From the start of the process to the first event handled
    Start {
        /// How often
        #[arg(long, default_value_t = 10)]
        runs: u32,
    },
    /// Resident memory and time to start, with one component and with many
    Memory {
        /// How many
        #[arg(long, default_value_t = 1_000)]
        components: usize,
    },
    /// From publish to handled, through pubsub.memory
    Latency {
        /// Events a second
        #[arg(long, value_delimiter = ',', default_value = "1000,100000")]
        rates: Vec<u64>,
        /// For how many seconds each
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// pubsub.memory without a guest: publish → deliver → acknowledge
    Builtin {
        /// Deliveries of each round
        #[arg(long, default_value_t = 500_000)]
        deliveries: u64,
        /// Events for the memory that each takes
        #[arg(long, default_value_t = 1_000_000)]
        retained: u64,
    },
    /// What a publish costs with many subscriptions, beside ten
    Filters {
        /// Events of each round
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// Subscriptions that each select one value of an attribute
        #[arg(long, default_value_t = 1_000)]
        attributes: usize,
        /// Topic filters with wildcards
        #[arg(long, default_value_t = 100_000)]
        filters: usize,
    },
    /// Users spread over topics: the cost of a message that reaches the right one
    Routing {
        /// Users, each with a subscription that selects its events
        #[arg(long, default_value_t = 1_000)]
        users: usize,
        /// Topics
        #[arg(long, default_value_t = 1_000)]
        topics: usize,
        /// Events of each user on each topic
        #[arg(long, default_value_t = 1)]
        events: usize,
    },
    /// Durable publishes to pubsub.disk, beside a raw file with fdatasync
    Disk {
        /// How many publish at once
        #[arg(long, value_delimiter = ',', default_value = "1,64,1024")]
        publishers: Vec<usize>,
        /// Bytes of an event's data
        #[arg(long, value_delimiter = ',', default_value = "1024,100")]
        bytes: Vec<usize>,
        /// Milliseconds of each turn
        #[arg(long, default_value_t = 500)]
        turn: u64,
        /// Where: a folder on the disk in question
        #[arg(long, default_value = "target/bench-disk")]
        folder: PathBuf,
    },
    /// MQTT through the host's listener, beside mosquitto
    Listener {
        /// Connections for the memory that each takes
        #[arg(long, default_value_t = 2_000)]
        connections: usize,
        /// Milliseconds of each turn
        #[arg(long, default_value_t = 1_000)]
        turn: u64,
        /// How often the brokers take turns
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Events of each publisher that are under way
        #[arg(long, default_value_t = 1_000)]
        window: usize,
    },
    /// A large store of pubsub.disk: filling, opening and reading it
    Backlog {
        /// How many events
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
        /// Bytes of an event's data
        #[arg(long, default_value_t = 100)]
        bytes: usize,
        /// Where: a folder on the disk in question
        #[arg(long, default_value = "target/bench-disk")]
        folder: PathBuf,
        /// Only read a store with so many events that is there
        #[arg(long)]
        open: Option<PathBuf>,
    },
}

/// Where the guests are, once they are built.
fn guest(name: &str) -> PathBuf {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    root.join("guest-examples/target/wasm32-wasip2/release").join(format!("{name}.wasm"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Dispatch { events, figures } => dispatch::run(events, &figures).await,
        Bench::Mqtt { events } => mqtt::run(events).await,
        Bench::Start { runs } => start::run(runs),
        Bench::Memory { components } => memory::run(components),
        Bench::Latency { rates, seconds } => {
            latency::run(&rates, Duration::from_secs(seconds)).await
        }
        Bench::Builtin { deliveries, retained } => {
            block_in_place(|| builtin::run(deliveries, retained))
        }
        Bench::Filters { events, attributes, filters } => {
            filters::run(events, attributes, filters).await
        }
        Bench::Routing { users, topics, events } => {
            block_in_place(|| routing::run(users, topics, events))
        }
        Bench::Disk { publishers, bytes, turn, folder } => {
            disk::run(&folder, &publishers, &bytes, Duration::from_millis(turn)).await
        }
        Bench::Listener { connections, turn, rounds, window } => {
            let turn = Duration::from_millis(turn);
            listener::run(listener::Plan { connections, turn, rounds, window }).await
        }
        Bench::Backlog { events, open: Some(path), .. } => backlog::reopen(&path, events).await,
        Bench::Backlog { events, bytes, folder, .. } => backlog::run(&folder, events, bytes).await,
    }
}
