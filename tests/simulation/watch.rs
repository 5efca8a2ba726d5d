//! Sits between the core and a broker, and shows the checker what passes. One
//! belongs to one life of one host; when that is killed, nothing passes any more.

use crate::belief::Belief;
use crate::checker::{Checker, Opening};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Event, Qos, Topic};

/// What was opened, by its label.
type Opened = BTreeMap<String, (Opening, Arc<dyn Source>)>;

/// A connection whose traffic is checked.
pub(crate) struct Watch {
    inner: Arc<dyn Connection>,
    checker: Arc<Checker>,
    dead: Arc<AtomicBool>,
    /// What is going to be opened, by its label.
    beliefs: BTreeMap<String, Belief>,
    opened: Mutex<Opened>,
}

impl Watch {
    pub(crate) fn new(
        inner: Arc<dyn Connection>,
        checker: Arc<Checker>,
        beliefs: BTreeMap<String, Belief>,
    ) -> Arc<Self> {
        let opened = Mutex::default();
        Arc::new(Self { inner, checker, dead: Arc::default(), beliefs, opened })
    }

    /// From now on nothing passes.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// The number of a subscription that was opened.
    pub(crate) fn opening(&self, label: &str) -> Opening {
        self.lock()[label].0
    }

    /// How many events the source has dropped at qos 0.
    pub(crate) fn dropped(&self, label: &str) -> u64 {
        self.lock()[label].1.dropped()
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// The subscription whose dead letters go to a topic of its own.
    fn opening_of(&self, topic: &Topic) -> Option<Opening> {
        let label = topic.as_str().strip_prefix("$dead/")?;
        self.lock().get(label).map(|(opening, _)| *opening)
    }
}

#[async_trait]
impl Connection for Watch {
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
        if self.is_dead() {
            return Err(killed());
        }
        self.inner.publish(topic, event, qos, from).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        if self.is_dead() {
            return Err(killed());
        }
        let Some(opening) = self.opening_of(topic) else {
            self.checker.report(format!("a dead letter goes to {topic}"));
            return Err(BrokerError::Other("nobody's dead letter".into()));
        };
        let mut outcome =
            Outcome { checker: &self.checker, opening, letter: &event, stored: false };
        let result = self.inner.publish_dead_letter(topic, event.clone(), qos, from).await;
        outcome.stored = result.is_ok();
        result
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let label = request.label.clone();
        let opening = self.checker.open(self.beliefs[&label].clone());
        let inner = self.inner.subscribe(request).await?;
        self.lock().insert(label, (opening, inner.clone()));
        let (checker, dead) = (self.checker.clone(), self.dead.clone());
        Ok(Arc::new(WatchedSource { inner, opening, checker, dead }))
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}

/// Tells the checker how storing a dead letter ended, also when it was given up.
struct Outcome<'a> {
    checker: &'a Checker,
    opening: Opening,
    letter: &'a Event,
    stored: bool,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.checker.letter(self.opening, self.letter, self.stored);
    }
}

struct WatchedSource {
    inner: Arc<dyn Source>,
    opening: Opening,
    checker: Arc<Checker>,
    dead: Arc<AtomicBool>,
}

impl WatchedSource {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Source for WatchedSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        if self.is_dead() {
            return Ok(());
        }
        let before = into.len();
        let taken = self.inner.take(max, into);
        if taken.is_err() {
            self.checker.stopping(self.opening);
        }
        for incoming in &into[before..] {
            self.checker.arrived(self.opening, incoming);
        }
        taken
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        if !self.is_dead() {
            self.checker.settled(self.opening, token, settlement);
            self.inner.settle(token, settlement);
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.inner.confirmed(token).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn stop(&self) {
        if !self.is_dead() {
            self.inner.stop();
        }
    }
}

fn killed() -> BrokerError {
    BrokerError::Closed("the host was killed".into())
}
