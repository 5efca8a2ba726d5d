//! What operators see: metrics, health, and traces.

mod client;
mod clients;
mod collector;
mod context;
mod metrics;
mod pages;
mod samples;
mod spans;

use crate::support::Scene;
use testkit::Host;
use testkit::Stream::Err;

const ANY_PORT: &str = "127.0.0.1:0";

/// Starts `run` with metrics on a port that the system chooses, and waits until
/// it is said; the address.
async fn run_with_metrics(scene: &Scene) -> (Host, String) {
    let mut host = scene.command(&["run", "--metrics", ANY_PORT]).start();
    let address = address_of_metrics(&mut host).await;
    (host, address)
}

async fn address_of_metrics(host: &mut Host) -> String {
    const BEFORE: &str = "metrics on http://";
    host.wait_for(Err, BEFORE).await;
    let lines = host.lines().of(Err);
    let line = lines.iter().find(|line| line.contains(BEFORE)).unwrap();
    let (_, rest) = line.split_once(BEFORE).unwrap();
    rest.strip_suffix("/metrics").unwrap().to_owned()
}
