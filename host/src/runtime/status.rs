//! What is known of a service while it runs, for whoever watches it.

use super::opening::Opening;
use crate::broker::Subscription;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

/// The state of a service; shared, and read at any time.
#[derive(Default)]
pub struct Status {
    phase: RwLock<Phase>,
    components: RwLock<Vec<Arc<ComponentStatus>>>,
    subscriptions: RwLock<Vec<Arc<SubscriptionStatus>>>,
}

/// How far a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not every subscription is confirmed by its broker yet.
    #[default]
    Starting,
    /// Every subscription is confirmed.
    Ready,
    /// Nothing more is taken.
    Stopping,
}

impl Status {
    /// How far the service is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.read()
    }

    /// The components, in the order of the configuration.
    #[must_use]
    pub fn components(&self) -> Vec<Arc<ComponentStatus>> {
        self.components.read().clone()
    }

    /// The subscriptions, in the order of the configuration.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Arc<SubscriptionStatus>> {
        self.subscriptions.read().clone()
    }

    /// The service is ready, unless it stops already.
    pub(super) fn ready(&self) {
        let mut phase = self.phase.write();
        if *phase == Phase::Starting {
            *phase = Phase::Ready;
        }
    }

    /// The service waits for a broker once more, unless it stops already.
    pub(super) fn starting(&self) {
        let mut phase = self.phase.write();
        if *phase == Phase::Ready {
            *phase = Phase::Starting;
        }
    }

    pub(super) fn stopping(&self) {
        *self.phase.write() = Phase::Stopping;
    }

    pub(super) fn set_components(&self, components: Vec<Arc<ComponentStatus>>) {
        *self.components.write() = components;
    }

    pub(super) fn set_subscriptions(&self, subscriptions: Vec<Arc<SubscriptionStatus>>) {
        *self.subscriptions.write() = subscriptions;
    }
}

/// What is known of a subscription.
#[derive(Debug)]
pub struct SubscriptionStatus {
    /// What it is named by: the text of `topic` or `queue`.
    pub name: String,
    /// Unique among all subscriptions of the process, and the same after a restart.
    pub label: String,
    /// The id of its broker.
    pub broker: String,
    /// The names of the components that share it.
    pub members: Vec<String>,
    pub(super) opening: Arc<Opening>,
}

impl SubscriptionStatus {
    /// The subscription, once its broker has confirmed it.
    #[must_use]
    pub fn subscription(&self) -> Option<Arc<Subscription>> {
        self.opening.subscription()
    }
}

/// What is known of a component, over all of its instances.
#[derive(Debug, Default)]
pub struct ComponentStatus {
    name: String,
    instances: AtomicUsize,
    started: AtomicU64,
    failed_starts: AtomicU64,
    replaced: AtomicU64,
    failing: Mutex<Option<Failing>>,
}

/// Why a component does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: SystemTime,
    /// How many starts in a row have failed.
    pub failures: u32,
    /// The last error.
    pub reason: String,
}

impl ComponentStatus {
    pub(super) fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, ..Self::default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many instances there are now.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }

    /// How many instances were started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many instances could not be started.
    #[must_use]
    pub fn failed_starts(&self) -> u64 {
        self.failed_starts.load(Ordering::Relaxed)
    }

    /// How many instances were given up, because of a trap, of too much memory or
    /// of the timeout.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Why no instance can be started at the moment, if so.
    #[must_use]
    pub fn failing(&self) -> Option<Failing> {
        self.failing.lock().clone()
    }

    /// An instance was started; it counts until the guard is dropped. Says
    /// whether starts had failed before.
    pub(super) fn instance_started(self: &Arc<Self>) -> (Alive, bool) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.instances.fetch_add(1, Ordering::Relaxed);
        let recovered = self.failing.lock().take().is_some();
        (Alive(Arc::clone(self)), recovered)
    }

    /// An instance could not be started. Returns how many failed in a row.
    pub(super) fn start_failed(&self, reason: String) -> u32 {
        self.failed_starts.fetch_add(1, Ordering::Relaxed);
        let mut failing = self.failing.lock();
        let (since, failures) = match &*failing {
            Some(failing) => (failing.since, failing.failures.saturating_add(1)),
            None => (SystemTime::now(), 1),
        };
        *failing = Some(Failing { since, failures, reason });
        failures
    }

    pub(super) fn instance_failed(&self) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts an instance while it is there.
#[derive(Debug)]
pub(super) struct Alive(Arc<ComponentStatus>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}
