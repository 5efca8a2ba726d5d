//! What is read from the state of the service for each scrape.

use super::figure::{Figure, Figures};
use super::histogram::Counted;
use super::recorder::Recorder;
use crate::broker::Stats;
use crate::runtime::{ComponentStatus, Phase, Status, SubscriptionStatus};
use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt::{Debug, Formatter, Result};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads everything when it is asked, so that the way of an event pays for
/// nothing but the counters that it has in any case.
pub(super) struct Collector {
    pub(super) status: Arc<Status>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) started: SystemTime,
    /// What others bring.
    pub(super) figures: Figures,
}

/// Names and values.
type Labels = Vec<(&'static str, String)>;

/// A counter or gauge of subscriptions: name, help, value.
type OfSubscription = (&'static str, &'static str, fn(&Stats) -> u64);
/// The same of components.
type OfComponent = (&'static str, &'static str, fn(&ComponentStatus) -> u64);

const SUBSCRIPTION_COUNTERS: [OfSubscription; 8] = [
    ("received", "Deliveries taken for handling, each attempt counted.", |s| s.received),
    ("acked", "Events acknowledged by a verdict, or as a repetition at qos 2.", |s| s.acked),
    ("filtered", "Events that the filter did not want.", |s| s.filtered),
    ("retried", "Deliveries that failed and are tried again.", |s| s.retried),
    ("rejected", "Events rejected by a verdict.", |s| s.rejected),
    ("dead_lettered", "Events stored on the dead-letter topic.", |s| s.dead_lettered),
    ("dropped", "Events given up: at qos 0, or without a dead-letter topic.", |s| s.dropped),
    ("expired", "Leases whose acknowledgement deadline passed.", |s| s.expired),
];

const SUBSCRIPTION_GAUGES: [OfSubscription; 3] = [
    ("in_flight", "Events in handling now.", |s| s.in_flight as u64),
    (
        "waiting",
        "Events that wait for a retry, their turn, or their dead letter to be stored.",
        |s| s.waiting as u64,
    ),
    ("queued", "Events that have arrived and that nobody has taken.", |s| s.queued as u64),
];

const COMPONENT_COUNTERS: [OfComponent; 3] = [
    ("instance_starts", "Instances started.", ComponentStatus::started),
    ("instance_start_failures", "Instances that could not be started.", |c| c.failed_starts()),
    ("instance_restarts", "Instances given up after a trap, a timeout or too much memory.", |c| {
        c.replaced()
    }),
];

const COMPONENT_GAUGES: [OfComponent; 2] = [
    ("instances", "Instances there are now.", |c| c.instances() as u64),
    ("component_healthy", "Whether instances can be started: 1 or 0.", |c| {
        u64::from(c.failing().is_none())
    }),
];

impl collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut families = Families { encoder };
        self.service(&mut families)?;
        self.subscriptions(&mut families)?;
        self.components(&mut families)?;
        self.handlings(&mut families)?;
        self.publishes(&mut families)?;
        for Figure { name, help, is_counter, values } in (self.figures)() {
            match is_counter {
                true => families.counters(name, help, values)?,
                false => families.gauges(name, help, values)?,
            }
        }
        Ok(())
    }
}

impl Collector {
    fn service(&self, families: &mut Families<'_>) -> Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        families.info("wasi_pubsub_build", "The program.", &version)?;
        let help = "When the program was started, in seconds since 1970.";
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        families.gauge("process_start_time_seconds", help, started)?;
        let help = "Whether every subscription is confirmed and nothing stops: 1 or 0.";
        let ready = u64::from(self.status.phase() == Phase::Ready);
        families.gauge("wasi_pubsub_ready", help, ready)
    }

    fn subscriptions(&self, families: &mut Families<'_>) -> Result {
        let subscriptions = self.status.subscriptions();
        let open = subscriptions.iter().map(|subscription| {
            let open = subscription.subscription().is_some();
            (subscription_labels(subscription), u64::from(open))
        });
        let help = "Whether the broker has confirmed the subscription: 1 or 0.";
        families.gauges("wasi_pubsub_subscription_open", help, open)?;
        let connected = subscriptions.iter().map(|subscription| {
            let connected = subscription.subscription().is_some_and(|open| open.is_connected());
            (subscription_labels(subscription), u64::from(connected))
        });
        let help = "Whether the broker of the subscription is reached: 1 or 0.";
        families.gauges("wasi_pubsub_subscription_connected", help, connected)?;
        let stats: Vec<_> = subscriptions
            .iter()
            .map(|subscription| {
                let stats = subscription.subscription().map(|open| open.stats());
                (subscription_labels(subscription), stats.unwrap_or_default())
            })
            .collect();
        for (name, help, value) in SUBSCRIPTION_COUNTERS {
            let values = stats.iter().map(|(labels, stats)| (labels.clone(), value(stats)));
            families.counters(&format!("wasi_pubsub_{name}"), help, values)?;
        }
        for (name, help, value) in SUBSCRIPTION_GAUGES {
            let values = stats.iter().map(|(labels, stats)| (labels.clone(), value(stats)));
            families.gauges(&format!("wasi_pubsub_{name}"), help, values)?;
        }
        Ok(())
    }

    fn components(&self, families: &mut Families<'_>) -> Result {
        let components = self.status.components();
        let labels = |c: &ComponentStatus| vec![("component", c.name().to_owned())];
        for (name, help, value) in COMPONENT_COUNTERS {
            let values = components.iter().map(|component| (labels(component), value(component)));
            families.counters(&format!("wasi_pubsub_{name}"), help, values)?;
        }
        for (name, help, value) in COMPONENT_GAUGES {
            let values = components.iter().map(|component| (labels(component), value(component)));
            families.gauges(&format!("wasi_pubsub_{name}"), help, values)?;
        }
        Ok(())
    }

    fn handlings(&self, families: &mut Families<'_>) -> Result {
        let handlings = self.recorder.handlings();
        let labelled = || {
            handlings.iter().map(|((component, subscription), handlings)| {
                let labels: Labels =
                    vec![("component", component.clone()), ("subscription", subscription.clone())];
                (labels, handlings)
            })
        };
        let ended = labelled().flat_map(|(labels, handlings)| {
            handlings.by_outcome().map(move |(outcome, count)| {
                let verdict = ("verdict", outcome.word().to_owned());
                ([labels.clone(), vec![verdict]].concat(), count)
            })
        });
        let help = "Handlings that ended, by how.";
        families.counters("wasi_pubsub_handled", help, ended)?;
        let times = labelled().map(|(labels, handlings)| (labels, handlings.times.counted()));
        families.histograms("wasi_pubsub_handling_seconds", "How long handlings took.", times)
    }

    fn publishes(&self, families: &mut Families<'_>) -> Result {
        let publishes = self.recorder.publishes();
        let failed = publishes.iter().flat_map(|(component, publishes)| {
            publishes.by_error().map(|(error, count)| {
                (vec![("component", component.clone()), ("error", error.to_owned())], count)
            })
        });
        let help = "Publishes of components that failed, by why.";
        families.counters("wasi_pubsub_publish_failures", help, failed)?;
        let times = publishes.iter().map(|(component, publishes)| {
            (vec![("component", component.clone())], publishes.times.counted())
        });
        let help = "How long publishes of components took, until the broker had answered.";
        families.histograms("wasi_pubsub_publish_seconds", help, times)
    }
}

/// Who shares a queue cannot be told apart here, so that it has no component.
fn subscription_labels(subscription: &SubscriptionStatus) -> Labels {
    let mut labels = Labels::new();
    if let [only] = subscription.members.as_slice() {
        labels.push(("component", only.clone()));
    }
    labels.push(("subscription", subscription.label.clone()));
    labels
}

/// Writes metric by metric.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) -> Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, Counted)>,
    ) -> Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Counted { sum, count, buckets }) in values {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl Debug for Collector {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}
