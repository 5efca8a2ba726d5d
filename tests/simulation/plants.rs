//! Faults that are planted to see whether they are found. They sit outside the
//! core: between it and the broker, between it and its takers, or in what it was
//! configured with.

use crate::belief::Said;
use crate::guest::{Tongue, tell};
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Ready, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{
    BrokerError, DedupeWindow, Event, Lease, Order, Qos, SubscriptionSettings, Topic,
};

/// A fault to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Events are acknowledged when they are taken.
    AcknowledgesEarly,
    /// Acknowledgements now and then do not reach the broker.
    ForgetsToAcknowledge,
    /// What arrives while the bound is reached is thrown away.
    DropsWhenFull,
    /// No verdict is remembered.
    ForgetsVerdicts,
    /// Events are handled as they come.
    IgnoresOrder,
    /// An id counts without its source.
    MistakesIdentity,
    /// More is taken than was asked for.
    TakesTooMuch,
    /// All subscriptions together hold more than they may.
    OverdrawsBudget,
    /// An event is tried once more than it may be.
    TriesTooOften,
    /// `retry-after` is cut short.
    RetriesEarly,
    /// What is given back counts as a failed attempt.
    ChargesGivingBack,
    /// A dead letter counts as stored while it is on its way.
    TrustsDeadLetters,
    /// A dead letter names a wrong number of attempts.
    MiscountsDeadLetters,
    /// Not every time that there is something the takers are woken.
    LosesWakeUps,
    /// Leases of guests that trapped are lost.
    LeaksLeases,
}

impl Plant {
    /// What the core is configured with instead.
    pub(crate) fn settings(self, settings: &mut SubscriptionSettings) {
        match self {
            Self::ForgetsVerdicts => {
                settings.dedupe = DedupeWindow { events: 0, age: Duration::ZERO };
            }
            Self::IgnoresOrder => settings.order = Order::None,
            Self::TakesTooMuch => settings.max_in_flight += 1,
            Self::TriesTooOften => {
                settings.retry.max_attempts = settings.retry.max_attempts.map(|max| max + 1);
            }
            _ => {}
        }
    }

    /// The budget that the core works with instead.
    pub(crate) fn budget(self, bytes_max: usize) -> usize {
        if self == Self::OverdrawsBudget { bytes_max.saturating_mul(2) } else { bytes_max }
    }

    /// What the core is told instead.
    pub(crate) fn tongue(self) -> Tongue {
        match self {
            Self::RetriesEarly => impatient,
            Self::ChargesGivingBack => charging,
            Self::LeaksLeases => leaking,
            _ => tell,
        }
    }

    /// What the core is connected to instead.
    pub(crate) fn connection(self, inner: Arc<dyn Connection>) -> Arc<dyn Connection> {
        Arc::new(Faulty { inner, plant: self })
    }
}

fn impatient(lease: Lease, said: Said) {
    match said {
        Said::Retry { after: Some(after), reason } => {
            tell(lease, Said::Retry { after: Some(after / 2), reason });
        }
        other => tell(lease, other),
    }
}

fn charging(lease: Lease, said: Said) {
    match said {
        Said::GiveBack { isolate: false } => {
            let (after, reason) = (Some(Duration::ZERO), "it was given back".into());
            tell(lease, Said::Retry { after, reason });
        }
        other => tell(lease, other),
    }
}

fn leaking(lease: Lease, said: Said) {
    match said {
        Said::Retry { reason, .. } if reason == "it trapped" => std::mem::forget(lease),
        other => tell(lease, other),
    }
}

struct Faulty {
    inner: Arc<dyn Connection>,
    plant: Plant,
}

#[async_trait]
impl Connection for Faulty {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.inner.publish(topic, event, qos, from).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        mut event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        match self.plant {
            Plant::TrustsDeadLetters => {
                let (inner, topic) = (self.inner.clone(), topic.clone());
                tokio::spawn(
                    async move { inner.publish_dead_letter(&topic, event, qos, None).await },
                );
                Ok(())
            }
            Plant::MiscountsDeadLetters => {
                let attributes = &mut Arc::make_mut(&mut event).attributes;
                let attempts = attributes.iter_mut().find(|(name, _)| name == "deadletterattempts");
                attempts.into_iter().for_each(|(_, value)| "0".clone_into(value));
                self.inner.publish_dead_letter(topic, event, qos, from).await
            }
            _ => self.inner.publish_dead_letter(topic, event, qos, from).await,
        }
    }

    async fn subscribe(
        &self,
        mut request: SubscribeRequest,
    ) -> Result<Arc<dyn Source>, BrokerError> {
        if self.plant == Plant::LosesWakeUps {
            request.ready = deaf(request.ready);
        }
        let (max, plant) = (request.max_in_flight, self.plant);
        let inner = self.inner.subscribe(request).await?;
        Ok(Arc::new(FaultySource { inner, plant, max, count: 0.into(), held: Mutex::default() }))
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}

/// Does not hear every seventh time.
fn deaf(ready: Ready) -> Ready {
    let count = AtomicU64::new(1);
    Ready(Arc::new(move || {
        if !count.fetch_add(1, Ordering::Relaxed).is_multiple_of(7) {
            ready.notify();
        }
    }))
}

struct FaultySource {
    inner: Arc<dyn Source>,
    plant: Plant,
    max: usize,
    count: AtomicU64,
    held: Mutex<Vec<Token>>,
}

impl FaultySource {
    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Token>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for FaultySource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let before = into.len();
        self.inner.take(max, into)?;
        for incoming in into[before..].iter_mut() {
            if incoming.qos == Qos::AtMostOnce {
                continue;
            }
            self.held().push(incoming.token);
            match self.plant {
                Plant::AcknowledgesEarly => self.inner.settle(incoming.token, Settlement::Ack),
                Plant::MistakesIdentity => {
                    "nowhere".clone_into(&mut Arc::make_mut(&mut incoming.event).source);
                }
                _ => {}
            }
        }
        // The last one that there is room for counts as one too many.
        if self.plant == Plant::DropsWhenFull
            && self.held().len() >= self.max
            && let Some(dropped) = into.pop()
        {
            self.settle(dropped.token, Settlement::Ack);
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        self.held().retain(|held| *held != token);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        match self.plant {
            Plant::AcknowledgesEarly => {}
            Plant::ForgetsToAcknowledge if count % 7 == 6 => {}
            _ => self.inner.settle(token, settlement),
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.inner.confirmed(token).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn stop(&self) {
        self.inner.stop();
    }
}
