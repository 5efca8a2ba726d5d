//! mosquitto → on-message → acknowledgement, beside a plain rumqttc subscriber.
//!
//! A publisher keeps mosquitto busy for the whole time; what counts is what
//! arrives. The limit is the broker, so the two are alternated.

use crate::guest;
use crate::service::{self, Start};
use anyhow::{Context, Result};
use rumqttc::mqttbytes::QoS;
use rumqttc::{AckMode, AsyncClient, Event, Incoming, MqttOptions, PublishOptions};
use std::time::{Duration, Instant};
use testkit::Mosquitto;
use wasi_pubsub::backends::mqtt;
use wasi_pubsub::broker::Qos;

const DATA_BYTES: usize = 100;
const IN_FLIGHT: u16 = 1_000;
const ROUNDS: usize = 3;

pub async fn run(events: u64) -> Result<()> {
    println!(
        "{DATA_BYTES} B events, {IN_FLIGHT} in flight, one 0.2 handler, best of {ROUNDS} rounds of {events}"
    );
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let (mut plain_best, mut host_best) = (0_f64, 0_f64);
        for _ in 0..ROUNDS {
            plain_best = plain_best.max(plain(events, qos).await?);
            host_best = host_best.max(through_host(events, qos).await?);
        }
        println!(
            "qos {qos}: plain {plain_best:.0}/s, host {host_best:.0}/s, ratio {:.2}",
            host_best / plain_best
        );
    }
    Ok(())
}

async fn broker() -> Mosquitto {
    Mosquitto::builder()
        .line("max_queued_messages 0")
        .line(&format!("max_inflight_messages {IN_FLIGHT}"))
        .start()
        .await
}

/// What the test guest acknowledges at once.
fn data() -> Vec<u8> {
    let mut data = vec![b' '; DATA_BYTES];
    data[..2].copy_from_slice(b"ok");
    data
}

fn level(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::EffectivelyOnce => QoS::ExactlyOnce,
    }
}

fn options(id: &str, mosquitto: &Mosquitto) -> MqttOptions {
    let mut options = MqttOptions::new(id, rumqttc::Broker::tcp("127.0.0.1", mosquitto.port()));
    options.set_receive_maximum(Some(IN_FLIGHT));
    options
}

/// Publishes until it is dropped.
async fn flood(mosquitto: &Mosquitto, qos: Qos) -> tokio::task::JoinHandle<()> {
    let (client, mut events) =
        AsyncClient::builder(options("flood", mosquitto)).capacity(1_000).build();
    tokio::spawn(async move {
        let send = async {
            loop {
                let publish = PublishOptions::new(level(qos));
                if client.publish("bench", data(), publish).await.is_err() {
                    return;
                }
            }
        };
        let poll = async { while events.poll().await.is_ok() {} };
        tokio::join!(send, poll);
    })
}

async fn plain(count: u64, qos: Qos) -> Result<f64> {
    let mosquitto = broker().await;
    let mut options = options("plain", &mosquitto);
    options.set_ack_mode(AckMode::Automatic);
    let (client, mut events) = AsyncClient::builder(options).capacity(1_000).build();
    client.subscribe("bench", level(qos)).await?;
    let mut flood = None;
    let (mut begun, mut received) = (Instant::now(), 0);
    while received < count {
        match events.poll().await? {
            Event::Incoming(Incoming::SubAck(_)) => {
                flood = Some(self::flood(&mosquitto, qos).await);
                begun = Instant::now();
            }
            Event::Incoming(Incoming::Publish(_)) => received += 1,
            _ => {}
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    flood.context("never subscribed")?.abort();
    Ok(rate)
}

async fn through_host(count: u64, qos: Qos) -> Result<f64> {
    let mosquitto = broker().await;
    let mut settings = mqtt::MqttSettings::new(&mosquitto.url())?;
    settings.clean_session = true;
    let connection = mqtt::open(settings, "bench".into())?;
    let start =
        Start { qos, in_flight: IN_FLIGHT.into(), expected: count, ..Start::new(&guest("faulty")) };
    let running = service::start(start, connection).await?;
    let begun = Instant::now();
    let flood = flood(&mosquitto, qos).await;
    tokio::time::timeout(Duration::from_secs(300), running.count.reached()).await?;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    flood.abort();
    running.stop().await?;
    Ok(rate)
}
