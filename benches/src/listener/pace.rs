//! How long an event takes from one client to another, at given rates.

use super::client::{self, Client, PUBLISH};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wasi_pubsub::broker::Qos;

const QOS: Qos = Qos::AtLeastOnce;
/// Of the payload, in bytes.
const DATA_BYTES: usize = 100;
/// How long the publisher sleeps at the least: what is due by then is sent at once.
const PAUSE: Duration = Duration::from_micros(50);
const BUFFER_BYTES: usize = 64 * 1024;
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// From where to where.
pub(super) struct Way {
    pub(super) to: &'static str,
    pub(super) from: &'static str,
    /// What stands in the payload before the time.
    pub(super) head: &'static str,
}

/// How long each of the events took, rising.
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The latency that this share of the events did not exceed.
    pub(super) fn part(&self, share: f64) -> Duration {
        let index = (self.0.len() as f64 * share) as usize;
        self.0[index.min(self.0.len() - 1)]
    }
}

/// Publishes at a rate, in events a second, for so long.
pub(super) fn measure(
    runtime: &Runtime,
    address: SocketAddr,
    way: &Way,
    rate: u64,
    time: Duration,
) -> Result<Latencies> {
    let count = rate * u64::try_from(time.as_millis())? / 1000;
    let (subscriber, publisher) = runtime.block_on(async {
        let mut subscriber = Client::connect(address, "pace-to".to_owned()).await?;
        subscriber.subscribe(way.from, QOS).await?;
        let publisher = Client::connect(address, "pace-from".to_owned()).await?;
        anyhow::Ok((subscriber.blocking()?, publisher.blocking()?))
    })?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&publisher, way, begun, (rate, count)));
        scope.spawn(|| acknowledgements(&publisher));
        let received = receive(&subscriber, begun, count);
        let published = publishing.join();
        // Ends who reads from it.
        let _ = publisher.shutdown(Shutdown::Both);
        published.map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        received
    })
}

fn publish(
    mut stream: &TcpStream,
    way: &Way,
    begun: Instant,
    (rate, count): (u64, u64),
) -> Result<()> {
    let mut out = Vec::new();
    let mut sent = 0;
    while sent < count {
        let due = begun.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
        out.clear();
        while sent < count && u128::from(sent) < due {
            let now = begun.elapsed().as_nanos();
            let mut data = format!("{}at{now:020}", way.head);
            data.extend(std::iter::repeat_n('x', DATA_BYTES.saturating_sub(data.len())));
            let id = (sent % 60_000 + 1) as u16;
            client::put_publish(way.to, QOS, id, data.as_bytes(), &mut out);
            sent += 1;
        }
        stream.write_all(&out)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Takes what the broker answers, up to the end.
fn acknowledgements(mut stream: &TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn receive(mut stream: &TcpStream, begun: Instant, count: u64) -> Result<Latencies> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut took = Vec::new();
    let (mut buffer, mut filled, mut out) = (vec![0; BUFFER_BYTES], 0, Vec::new());
    while (took.len() as u64) < count {
        let more = stream.read(&mut buffer[filled..]).context("nothing comes any more")?;
        let now = begun.elapsed();
        ensure!(more > 0, "the broker has closed a connection");
        filled += more;
        let mut begin = 0;
        out.clear();
        while let Some(frame) = client::first(&buffer[begin..filled])? {
            if frame.kind == PUBLISH {
                let packet = &buffer[begin..begin + frame.length];
                took.push(now.saturating_sub(time_in(packet)?));
                client::put_answer(client::PUBACK, frame.id, &mut out);
            }
            begin += frame.length;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
        stream.write_all(&out)?;
    }
    took.sort_unstable();
    Ok(Latencies(took))
}

/// When a packet was published.
fn time_in(packet: &[u8]) -> Result<Duration> {
    let mut times = packet.windows(22).filter_map(|window| window.strip_prefix(b"at"));
    let time = times.find(|time| time.iter().all(u8::is_ascii_digit));
    let time = std::str::from_utf8(time.context("no time in the payload")?)?;
    Ok(Duration::from_nanos(time.parse()?))
}
