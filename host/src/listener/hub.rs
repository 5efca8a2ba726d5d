//! What all connections of a broker's listeners share.

use super::archive::{Archive, Promise};
use super::figures::{Counters, Figures};
use super::packets::Will;
use super::registry::{Due, Registry};
use super::retained::{RetainedMessage, RetainedStore};
use super::settings::Settings;
use crate::broker::driver::{Connection, RecordChange, Submitted};
use crate::broker::{BacklogBound, BrokerError, Budget, Event, Qos, Topic};
use crate::mqtt::{EXPIRES_AT, Mapping, Packet, Protocol, RETAIN};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the `source` of plain messages begins with.
const SOURCE: &str = "mqtt:";
/// How often retained messages that have expired are removed. Until then nobody is
/// sent them, but they take room.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// A publish whose place among others is not settled.
pub(super) type Submitting = Pin<Box<dyn Future<Output = Result<Submitted, BrokerError>> + Send>>;

/// An event on its way to the broker.
pub(super) struct Outgoing {
    pub(super) topic: Topic,
    pub(super) event: Arc<Event>,
    pub(super) qos: Qos,
    pub(super) from: Arc<str>,
    /// What changes with it.
    pub(super) records: Vec<RecordChange>,
    /// At qos 1 and 2 it counts as published once this is kept too.
    pub(super) retained: Promise,
}

impl Outgoing {
    pub(super) fn new(topic: Topic, event: Arc<Event>, qos: Qos, from: Arc<str>) -> Self {
        let (records, retained) = (Vec::new(), Promise::default());
        Self { topic, event, qos, from, records, retained }
    }
}

/// What all connections share. Those that came before the settings changed go on
/// with the hub that they have: it has all but the settings in common with the next.
pub(super) struct Hub {
    pub(super) broker: Arc<dyn Connection>,
    pub(super) settings: Settings,
    pub(super) mapping: Arc<Mapping>,
    pub(super) registry: Arc<Registry>,
    pub(super) retained: Arc<RetainedStore>,
    /// What outlives the process, where the broker keeps it.
    pub(super) archive: Option<Arc<Archive>>,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
}

impl Hub {
    pub(super) fn new(broker: Arc<dyn Connection>, settings: Settings, unique: u64) -> Arc<Self> {
        let archive = broker.records().map(Archive::new);
        let (messages_max, bytes_max) =
            (settings.limits.retained_max, settings.limits.retained_bytes_max);
        let retained = RetainedStore::new(messages_max, bytes_max, archive.clone());
        Arc::new(Self {
            broker,
            mapping: Arc::new(Mapping::new(settings.format, SOURCE.to_owned(), unique)),
            settings,
            registry: Arc::default(),
            retained: Arc::new(retained),
            archive,
            budget: Budget::unbounded(),
            counters: Arc::default(),
        })
    }

    /// The same with other settings. `unique` as for a new one, and another.
    pub(super) fn with(&self, settings: Settings, unique: u64) -> Arc<Self> {
        let mapping = match settings.format == self.settings.format {
            true => self.mapping.clone(),
            false => Arc::new(Mapping::new(settings.format, SOURCE.to_owned(), unique)),
        };
        Arc::new(Self {
            broker: self.broker.clone(),
            settings,
            mapping,
            registry: self.registry.clone(),
            retained: self.retained.clone(),
            archive: self.archive.clone(),
            budget: self.budget.clone(),
            counters: self.counters.clone(),
        })
    }

    /// What may wait for a group of clients, of whom no one is to blame.
    pub(super) fn group_bound(&self) -> Arc<BacklogBound> {
        let (limits, counters) = (&self.settings.limits, self.counters.clone());
        let on_discard = Box::new(move |events| {
            counters.publishes_dropped.overflow.fetch_add(events, Relaxed);
        });
        BacklogBound::new(limits.queued_max, limits.queued_bytes_max, on_discard)
    }

    /// The event of a packet.
    pub(super) fn event(&self, protocol: Protocol, packet: Packet) -> Arc<Event> {
        let (retain, expiry) = (packet.retain, packet.properties.message_expiry);
        let mut event = self.mapping.read(protocol, packet).event;
        if let Some(seconds) = expiry {
            let at = self.millis() + u64::from(seconds) * 1000;
            event.attributes.push((EXPIRES_AT.to_owned(), at.to_string()));
        }
        if retain && !event.attributes.iter().any(|(name, _)| name == RETAIN) {
            event.attributes.push((RETAIN.to_owned(), "true".to_owned()));
        }
        Arc::new(event)
    }

    /// Keeps a message for later subscribers. `None` where there is no room.
    pub(super) fn retain(
        &self,
        topic: &Topic,
        event: &Arc<Event>,
        qos: Qos,
        from: Option<&Arc<str>>,
    ) -> Option<Promise> {
        self.retained.set(RetainedMessage {
            topic: topic.clone(),
            event: event.clone(),
            qos,
            from: from.cloned(),
        })
    }

    /// Gives an event to the broker, with changes of records that go with it.
    pub(super) fn submit(&self, outgoing: Outgoing) -> Submitting {
        let broker = self.broker.clone();
        let Outgoing { topic, event, qos, from, records, retained } = outgoing;
        if qos == Qos::AtMostOnce || retained.is_kept() {
            // The way of nearly all, with as little as can be.
            return Box::pin(async move {
                broker.submit(&topic, event, qos, Some(&from), records).await
            });
        }
        Box::pin(async move {
            let submitted = broker.submit(&topic, event, qos, Some(&from), records).await?;
            Ok(Submitted::UnderWay(Box::pin(async move {
                let (stored, kept) = tokio::join!(submitted.stored(), retained.kept());
                stored.and(kept)
            })))
        })
    }

    /// Publishes a will, of which nobody waits for the end.
    pub(super) fn publish_will(&self, client_id: &Arc<str>, will: Will) {
        let Some(topic) = topic_of(&will.packet, usize::MAX) else { return };
        let (qos, retain) = (will.packet.qos, will.packet.retain);
        let event = self.event(Protocol::V5, will.packet);
        let mut outgoing = Outgoing::new(topic, event, qos, publisher(client_id));
        if retain {
            let retained = self.retain(&outgoing.topic, &outgoing.event, qos, Some(client_id));
            outgoing.retained = retained.unwrap_or_default();
        }
        let submitting = self.submit(outgoing);
        let publishing = async { submitting.await?.stored().await };
        let client_id = client_id.clone();
        let time_max = self.settings.limits.publish_time_max;
        tokio::spawn(async move {
            if !matches!(tokio::time::timeout(time_max, publishing).await, Ok(Ok(()))) {
                tracing::warn!(%client_id, "the will of an MQTT client could not be published");
            }
        });
    }

    /// Ends sessions and publishes wills when they are due. Never returns.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            match self.registry.next_due().await {
                Due::Will(client_id, will) => self.publish_will(&client_id, *will),
                Due::Expired(session) => drop(session.end()),
            }
        }
    }

    /// Frees the room of retained messages that have expired.
    pub(super) async fn forget_expired(self: Arc<Self>) {
        let mut every = tokio::time::interval(FORGET_INTERVAL);
        loop {
            every.tick().await;
            self.retained.forget(|event| self.expiry(event).is_err());
        }
    }

    /// What is counted, with what the registry and the store know.
    pub(super) fn figures(&self) -> Figures {
        let (clients, sessions_kept) = self.registry.counts();
        let (retained, retained_bytes) = (self.retained.len(), self.retained.bytes());
        let counted = self.counters.figures();
        Figures { clients, sessions_kept, retained, retained_bytes, ..counted }
    }

    /// The time of day, in milliseconds since 1970.
    pub(super) fn millis(&self) -> u64 {
        let now: SystemTime = (self.settings.clock.0)();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long an event is of use, in seconds; an error where it is no more.
    pub(super) fn expiry(&self, event: &Event) -> Result<Option<u32>, Expired> {
        if event.attributes.is_empty() {
            return Ok(None);
        }
        let Some(at) = event.attribute(EXPIRES_AT).and_then(|at| at.parse::<u64>().ok()) else {
            return Ok(None);
        };
        match at.checked_sub(self.millis()) {
            None | Some(0) => Err(Expired),
            // What has begun counts whole, so that what has just come keeps its expiry.
            Some(left) => Ok(Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX))),
        }
    }
}

/// An event is of no more use.
pub(super) struct Expired;

/// The name under which a client publishes: its subscriptions without its own
/// events name it.
pub(super) fn publisher(client_id: &str) -> Arc<str> {
    format!("mqtt/{client_id}").into()
}

/// The topic of a packet, where it is one to publish to.
pub(super) fn topic_of(packet: &Packet, levels_max: usize) -> Option<Topic> {
    let text = std::str::from_utf8(&packet.topic).ok()?;
    Topic::new(text).ok().filter(|_| levels(text) <= levels_max)
}

/// How many levels a topic or filter has.
pub(super) fn levels(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'/').count()
}
