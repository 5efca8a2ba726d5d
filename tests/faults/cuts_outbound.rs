//! The link is cut every 120 ms while 2000 events are published.

use crate::support::*;
use std::time::Duration;
use testkit::{Mosquitto, Proxy, eventually};
use wasi_pubsub::broker::Qos;

const EVENTS: usize = 2000;
const CUTS: usize = 20;
const INTERVAL: Duration = Duration::from_millis(120);
/// Of each direction: at every moment events are on their way.
const LATENCY: Duration = Duration::from_millis(5);
const PUBLISHERS: usize = 16;

async fn cut(version: Version, qos: Qos, clean: bool) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::with_latency(mosquitto.address(), LATENCY).await;
    // Over links that hold: what reached the broker, and, at qos 2, what a
    // handler sees of it. At qos 1 the core hides no repetition.
    let witness = connect(&mosquitto.url(), version, "witness");
    let raw = subscribe(&witness, on("cuts", QOS_1)).await;
    let raw = Tally::of(&raw, 1, Duration::ZERO);
    let handler = connect(&mosquitto.url(), version, "handler");
    let handled = subscribe(&handler, on("cuts", qos)).await;
    let handled = Tally::of(&handled, 1, Duration::ZERO);

    let mut settings = settings(&proxy.url(), version);
    settings.clean_session = clean;
    let publisher = connect_with(settings, "publisher");
    let publishing = Publishing::start(&publisher, "cuts", qos, PUBLISHERS);
    let cutter = proxy.cut_every(INTERVAL, publishing.is_waiting());
    eventually(LONG, "enough events and cuts", || {
        publishing.confirmed() >= EVENTS && cutter.cuts_that_hurt() >= CUTS
    })
    .await;
    let cuts = cutter.cuts_that_hurt();
    let sent = publishing.finish().await;
    drop(cutter);
    assert!(sent.len() >= EVENTS && cuts >= CUTS, "{} events, {cuts} cuts", sent.len());

    publish(&publisher, "cuts", event("last"), qos).await.unwrap();
    raw.wait_for("last").await;
    handled.wait_for("last").await;
    raw.assert_all(&sent);
    handled.assert_all(&sent);
    if qos == QOS_2 {
        handled.assert_once();
    }
    // A clean session has forgotten which events it has taken: a repetition can
    // only be told by its id.
    if qos == QOS_2 && !clean {
        raw.assert_once();
    }
}

async fn qos_1_with_a_kept_session(version: Version) {
    cut(version, QOS_1, false).await;
}

async fn qos_1_with_a_clean_session(version: Version) {
    cut(version, QOS_1, true).await;
}

async fn qos_2_with_a_kept_session(version: Version) {
    cut(version, QOS_2, false).await;
}

async fn qos_2_with_a_clean_session(version: Version) {
    cut(version, QOS_2, true).await;
}

both_versions!(
    qos_1_with_a_kept_session,
    qos_1_with_a_clean_session,
    qos_2_with_a_kept_session,
    qos_2_with_a_clean_session,
);
