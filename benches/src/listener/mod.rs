//! MQTT through the host's listener, beside mosquitto: deliveries a second, what an
//! idle connection takes, and how soon many clients are connected.

mod client;
mod load;
mod pace;

use crate::measure::{median, process_time_of, ratios, resident_of};
use crate::{guest, memory};
use anyhow::{Context, Result, anyhow};
use client::Client;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use load::{Load, Measured};
use pace::Way;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use testkit::Mosquitto;
use tokio::runtime::{self, Runtime};
use wasi_pubsub::broker::Qos;

/// Publishers and subscribers.
const SHAPES: [(usize, usize); 3] = [(1, 1), (10, 10), (1, 100)];
const SIZES: [usize; 2] = [100, 4096];
/// Events a second of one publisher, for latencies.
const RATES: [u64; 2] = [1_000, 20_000];
const DIRECT: Way = Way { to: "pace/direct", from: "pace/direct", head: "" };
/// The handler does as it is told.
const THROUGH_A_COMPONENT: Way =
    Way { to: "pace/there", from: "pace/back", head: "publish pace/back 1 " };
const NAMES: [&str; 2] = ["mosquitto", "listener"];
/// How many connections are opened at a time.
const AT_ONCE: usize = 64;

/// A broker in a process of its own.
#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    process: u32,
}

/// What is measured.
pub struct Plan {
    /// Connections that do nothing.
    pub connections: usize,
    /// How long each turn of a broker is.
    pub turn: Duration,
    pub rounds: usize,
    /// How many events of each publisher are under way.
    pub window: usize,
}

pub async fn run(plan: Plan) -> Result<()> {
    let in_flight = format!("max_inflight_messages {}", plan.window);
    let mosquitto = Mosquitto::builder()
        .line("max_queued_messages 0")
        .line(&in_flight)
        // Those of tests log every packet; that it runs is information.
        .line("log_type none")
        .line("log_type information")
        .start()
        .await;
    let process = mosquitto.process_id().context("mosquitto has ended")?;
    let there = Target { address: loopback(mosquitto.port()), process };
    let port = TcpListener::bind(loopback(0))?.local_addr()?.port();
    let host = memory::start(&configuration(port))?;
    let here = Target { address: loopback(port), process: host.id() };
    // A thread of its own, so that the load takes one core at most.
    let measuring = std::thread::spawn(move || measure([there, here], &plan));
    let measured = tokio::task::block_in_place(|| measuring.join());
    host.stop()?;
    measured.map_err(|_| anyhow!("the load panicked"))?
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn configuration(port: u16) -> String {
    format!(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n\
         [[capability.config]]\nlisten = [\"mqtt://127.0.0.1:{port}\"]\n\
         publish = [\"pace/back\"]\ntopic = \"pace/there\"\ndelivery = \"push\"\n\
         [[component]]\nname = \"relay\"\npath = \"{}\"\n",
        guest("faulty").display()
    )
}

fn measure(targets: [Target; 2], plan: &Plan) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    for (target, name) in targets.iter().zip(NAMES) {
        let (took, bytes) = runtime.block_on(connect_many(target, plan.connections))?;
        let count = plan.connections;
        println!("{name}: {count} clients connected in {took:?}, {bytes} bytes for each");
    }
    println!(
        "deliveries a second, {} events of each publisher under way, median of {} rounds; \
         `cpu`: in a second of the broker's processor time",
        plan.window, plan.rounds
    );
    for rate in RATES {
        compare_latencies(&runtime, targets, rate, plan.turn * 5)?;
    }
    for (publishers, subscribers) in SHAPES {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::EffectivelyOnce] {
            for data_bytes in SIZES {
                let load = Load { publishers, subscribers, qos, data_bytes, window: plan.window };
                runtime.block_on(compare(targets, &load, plan))?;
            }
        }
    }
    Ok(())
}

/// Connects clients that stay and do nothing: how long it took, and what each has
/// added to the broker's resident memory, in bytes.
async fn connect_many(target: &Target, count: usize) -> Result<(Duration, u64)> {
    let before = resident_of(target.process)?;
    let begun = Instant::now();
    let clients: Vec<Client> = stream::iter(0..count)
        .map(|number| Client::connect(target.address, format!("idle-{number}")))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let took = begun.elapsed();
    let grown = resident_of(target.process)?.saturating_sub(before);
    Ok((took, grown / clients.len().max(1) as u64))
}

fn compare_latencies(
    runtime: &Runtime,
    [there, here]: [Target; 2],
    rate: u64,
    time: Duration,
) -> Result<()> {
    let ways = [
        (NAMES[0], there, &DIRECT),
        (NAMES[1], here, &DIRECT),
        ("listener, through a component", here, &THROUGH_A_COMPONENT),
    ];
    for (name, target, way) in ways {
        let found = pace::measure(runtime, target.address, way, rate, time).context(name)?;
        let (median, p99, most) = (found.part(0.5), found.part(0.99), found.part(1.0));
        println!("{rate}/s qos 1: {name}: median {median:?}, 99 % {p99:?}, most {most:?}");
    }
    Ok(())
}

async fn compare(targets: [Target; 2], load: &Load, plan: &Plan) -> Result<()> {
    let mut measured: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..plan.rounds {
        for ((target, name), measured) in targets.iter().zip(NAMES).zip(&mut measured) {
            let processor = || process_time_of(target.process);
            let turn = load.run(target.address, plan.turn, processor).await;
            measured.push(turn.context(name)?);
        }
    }
    let [there, here] = measured;
    let rates = |of: &[Measured]| of.iter().map(|one| one.rate).collect::<Vec<_>>();
    let costs = |of: &[Measured]| of.iter().map(|one| one.cpu_rate).collect::<Vec<_>>();
    println!(
        "{} → {} qos {} {} B: mosquitto {:.0}, listener {:.0}, ratio {:.2}; \
         cpu: mosquitto {:.0}, listener {:.0}, ratio {:.2}",
        load.publishers,
        load.subscribers,
        load.qos,
        load.data_bytes,
        median(rates(&there)),
        median(rates(&here)),
        ratios(&rates(&here), &rates(&there)),
        median(costs(&there)),
        median(costs(&here)),
        ratios(&costs(&here), &costs(&there)),
    );
    Ok(())
}
