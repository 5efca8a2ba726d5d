//! `$SYS` topics: figures of the broker, for MQTT clients.

use super::hub::{Hub, Outgoing};
use crate::broker::{Event, Qos, Topic};
use crate::mqtt::RETAIN;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// Publishes figures again and again, retained. Never returns.
pub(super) async fn tell(hub: Arc<Hub>, interval: Duration) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let version = format!("wasi-pubsub version {}", env!("CARGO_PKG_VERSION"));
    publish(&hub, "version", version).await;
    loop {
        ticks.tick().await;
        for (name, value) in figures(&hub, start.elapsed()) {
            publish(&hub, name, value).await;
        }
    }
}

fn figures(hub: &Hub, uptime: Duration) -> Vec<(&'static str, String)> {
    let counters = &*hub.counters;
    let (connected, kept) = hub.registry.counts();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed).to_string();
    vec![
        ("uptime", format!("{} seconds", uptime.as_secs())),
        ("clients/connected", connected.to_string()),
        ("clients/disconnected", kept.to_string()),
        ("clients/total", (connected + kept).to_string()),
        ("connections/open", counters.connections.load(Relaxed).to_string()),
        ("connections/total", count(&counters.connections_total)),
        ("connections/refused", counters.refused.sum().to_string()),
        ("publish/messages/received", count(&counters.publishes_received)),
        ("publish/messages/sent", count(&counters.publishes_sent)),
        ("publish/messages/dropped", counters.publishes_dropped.sum().to_string()),
        ("bytes/received", count(&counters.bytes_received)),
        ("bytes/sent", count(&counters.bytes_sent)),
        ("retained messages/count", hub.retained.len().to_string()),
    ]
}

async fn publish(hub: &Arc<Hub>, name: &str, value: String) {
    let Ok(topic) = Topic::new(&format!("$SYS/broker/{name}")) else { return };
    let mut event: Event = hub.mapping.plain(topic.as_str().as_bytes(), value.into());
    event.attributes.push((RETAIN.to_owned(), "true".to_owned()));
    let event = Arc::new(event);
    if hub.retain(&topic, &event, Qos::AtMostOnce, None).is_some() {
        // At qos 0 there is nothing to wait for, and nothing to be done about it.
        let _ = hub.submit(Outgoing::new(topic, event, Qos::AtMostOnce, "$SYS".into())).await;
    }
}
