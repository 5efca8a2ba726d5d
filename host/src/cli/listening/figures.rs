//! What listeners count, as metrics.

use super::Listening;
use crate::listener;
use crate::telemetry::{Figure, Figures};
use parking_lot::Mutex;
use std::sync::Arc;

/// The listeners of the version that runs, each with the name of its broker.
#[derive(Clone, Default)]
pub(in crate::cli) struct Shown(Arc<Mutex<Vec<Named>>>);

type Named = (String, Arc<Listening>);

impl Shown {
    /// These run from now on.
    pub(in crate::cli) fn set(&self, listening: Vec<Named>) {
        *self.0.lock() = listening;
    }

    /// What those count that run when it is asked for.
    pub(in crate::cli) fn figures(&self) -> Figures {
        let shown = self.0.clone();
        Arc::new(move || {
            let named = shown.lock().clone();
            let counted = named
                .into_iter()
                .filter_map(|(name, listening)| Some((name, listening.listener.get()?.figures())));
            figures(&counted.collect::<Vec<_>>())
        })
    }
}

/// The name after `wasi_pubsub_listener_`, what it means, whether it is a counter.
type Described = (&'static str, &'static str, bool);
/// One value of a listener.
type Single = (Described, fn(&listener::Figures) -> u64);
/// Values by reason.
type ByReason = (Described, fn(&listener::Figures) -> &[(&'static str, u64)]);

const SINGLE: [Single; 13] = [
    (
        (
            "wasi_pubsub_listener_connections",
            "Connections there are, with those that have not said who they are.",
            false,
        ),
        |f| f.connections as u64,
    ),
    (("wasi_pubsub_listener_clients", "Clients that are accepted.", false), |f| f.clients as u64),
    (
        (
            "wasi_pubsub_listener_kept_sessions",
            "Sessions that are kept for clients that are away.",
            false,
        ),
        |f| f.sessions_kept as u64,
    ),
    (
        (
            "wasi_pubsub_listener_subscriptions",
            "Subscriptions of clients, also of those that are away.",
            false,
        ),
        |f| f.subscriptions as u64,
    ),
    (("wasi_pubsub_listener_retained", "Retained messages.", false), |f| f.retained as u64),
    (("wasi_pubsub_listener_retained_bytes", "The size of retained messages.", false), |f| {
        f.retained_bytes as u64
    }),
    (("wasi_pubsub_listener_accepted", "Connections that were taken.", true), |f| {
        f.connections_total
    }),
    (
        (
            "wasi_pubsub_listener_authentication_failures",
            "Clients that did not know the password.",
            true,
        ),
        |f| f.authentication_failures_total,
    ),
    (("wasi_pubsub_listener_published", "Publishes of clients.", true), |f| {
        f.publishes_received_total
    }),
    (("wasi_pubsub_listener_sent", "Publishes to clients.", true), |f| f.publishes_sent_total),
    (("wasi_pubsub_listener_received_bytes", "Bytes of clients.", true), |f| {
        f.bytes_received_total
    }),
    (("wasi_pubsub_listener_sent_bytes", "Bytes to clients.", true), |f| f.bytes_sent_total),
    (
        ("wasi_pubsub_listener_throttled", "How often clients had to wait for their rate.", true),
        |f| f.throttled_total,
    ),
];

const BY_REASON: [ByReason; 3] = [
    (("wasi_pubsub_listener_refused", "Connections that came to no session, by why.", true), |f| {
        &f.refused_total
    }),
    (("wasi_pubsub_listener_ended", "Clients that have gone, by why.", true), |f| &f.ended_total),
    (
        (
            "wasi_pubsub_listener_dropped",
            "Events that were to be sent to a client and were not, by why.",
            true,
        ),
        |f| &f.publishes_dropped_total,
    ),
];

/// Nothing where nobody listens.
fn figures(counted: &[(String, listener::Figures)]) -> Vec<Figure> {
    if counted.is_empty() {
        return Vec::new();
    }
    let broker = |name: &String| ("broker", name.clone());
    let single = SINGLE.into_iter().map(|((name, help, is_counter), value)| {
        let values = counted.iter().map(|(of, figures)| (vec![broker(of)], value(figures)));
        Figure { name, help, is_counter, values: values.collect() }
    });
    let by_reason = BY_REASON.into_iter().map(|((name, help, is_counter), values)| {
        let values = counted.iter().flat_map(|(of, figures)| {
            let labels = |why: &str| vec![broker(of), ("reason", why.to_owned())];
            values(figures).iter().map(move |(why, count)| (labels(why), *count))
        });
        Figure { name, help, is_counter, values: values.collect() }
    });
    single.chain(by_reason).collect()
}
