//! One broker, as the rest of the host sees it.

use super::driver::{Connection, Features};
use super::{
    BrokerError, Budget, Event, Limits, Qos, RetentionRule, StoreBounds, Subscription,
    SubscriptionSettings, Topic,
};
use parking_lot::RwLock;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// One broker: checks, limits and timeouts, once for all backends.
pub struct Broker {
    name: String,
    connection: Arc<dyn Connection>,
    limits: RwLock<Limits>,
    budget: Arc<Budget>,
    seed: u64,
    /// What all ids begin with that are filled in.
    id_prefix: String,
    ids: AtomicU64,
}

impl Broker {
    /// A broker behind a connection. `name` is the capability's id, for logs.
    /// What its subscriptions hold together is not bounded.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        connection: Arc<dyn Connection>,
        limits: Limits,
    ) -> Arc<Self> {
        Self::with_budget(name, connection, limits, Budget::unbounded())
    }

    /// As [`new`](Self::new); what its subscriptions hold counts against a budget,
    /// which it may share with other brokers.
    #[must_use]
    pub fn with_budget(
        name: impl Into<String>,
        connection: Arc<dyn Connection>,
        limits: Limits,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        // The keys of a RandomState come from the operating system.
        let seed = RandomState::new().build_hasher().finish();
        Self::with_seed(name, connection, limits, budget, seed)
    }

    /// As [`with_budget`](Self::with_budget); all randomness comes from the seed:
    /// the ids that are filled in and the jitter of back-offs.
    #[must_use]
    pub fn with_seed(
        name: impl Into<String>,
        connection: Arc<dyn Connection>,
        limits: Limits,
        budget: Arc<Budget>,
        seed: u64,
    ) -> Arc<Self> {
        let (name, ids, limits) = (name.into(), AtomicU64::new(0), RwLock::new(limits));
        let id_prefix = format!("{seed:016x}-");
        Arc::new(Self { name, connection, limits, budget, seed, id_prefix, ids })
    }

    /// Changes the limits of what is published from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// Says what topics are to remember, instead of what was said before. A broker
    /// without [`Features::replay`] ignores it.
    pub fn set_retention(&self, rules: Vec<RetentionRule>) {
        self.connection.set_retention(rules);
    }

    /// Changes the bounds of what is kept. A broker that does not keep it inside the
    /// process ignores it.
    pub fn set_store_bounds(&self, bounds: StoreBounds) {
        self.connection.set_store_bounds(bounds);
    }

    /// The capability's id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the broker can do by itself.
    #[must_use]
    pub fn features(&self) -> Features {
        self.connection.features()
    }

    /// Publishes an event and returns once the broker has taken responsibility:
    /// at qos 0 at once, at qos 1 and 2 after its acknowledgement. An empty id
    /// is filled in with a unique one, an empty source with `publisher`.
    ///
    /// # Errors
    /// `TooLarge` and `Unsupported` where the event breaks a limit,
    /// `Unavailable` where the broker has not answered within `timeout`, and
    /// whatever the broker refuses with. After `Unavailable` the event may
    /// have arrived nevertheless.
    pub async fn publish(
        &self,
        publisher: &str,
        topic: &Topic,
        mut event: Event,
        qos: Qos,
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        self.check_qos(qos)?;
        self.complete(publisher, &mut event);
        self.limits.read().check(&event)?;
        let publish = self.connection.publish(topic, Arc::new(event), qos, Some(publisher));
        let mut publish = std::pin::pin!(publish);
        // Most are taken at once, and need no timer.
        let at_once = poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await;
        let result = match at_once {
            Poll::Ready(result) => Ok(result),
            Poll::Pending => tokio::time::timeout(timeout, publish).await,
        };
        match result {
            Ok(Err(BrokerError::Timeout)) | Err(_) => Err(BrokerError::Unavailable(format!(
                "broker `{}` did not take the event within {timeout:?}",
                self.name
            ))),
            Ok(result) => result,
        }
    }

    /// Fills in an empty id with a unique one, and an empty source with
    /// `publisher`. [`publish`](Self::publish) does so too.
    pub fn complete(&self, publisher: &str, event: &mut Event) {
        if event.id.is_empty() {
            event.id = self.unique_id();
        }
        if event.source.is_empty() {
            event.source.push_str(publisher);
        }
    }

    /// Opens a subscription, and returns once the broker has confirmed it: waits
    /// without limit while the broker cannot be reached.
    ///
    /// # Errors
    /// What the broker cannot do or refuses.
    pub async fn subscribe(
        self: &Arc<Self>,
        settings: SubscriptionSettings,
    ) -> Result<Arc<Subscription>, BrokerError> {
        self.check_qos(settings.qos)?;
        if settings.group.is_some() && !self.features().queue {
            return Err(BrokerError::Unsupported(format!("broker `{}` has no queues", self.name)));
        }
        Subscription::open(settings, self).await
    }

    /// Ends the connection after what was settled and published has been sent,
    /// within `grace`.
    pub async fn close(&self, grace: Duration) {
        self.connection.close(grace).await;
    }

    pub(super) fn connection(&self) -> &Arc<dyn Connection> {
        &self.connection
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A source of randomness for the subscription of this label.
    pub(super) fn rng(&self, label: &str) -> fastrand::Rng {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(label.as_bytes());
        fastrand::Rng::with_seed(hasher.finish())
    }

    fn check_qos(&self, qos: Qos) -> Result<(), BrokerError> {
        let qos_max = self.features().qos_max;
        if qos <= qos_max {
            return Ok(());
        }
        Err(BrokerError::Unsupported(format!(
            "broker `{}` keeps qos {qos_max} at most, not {qos}",
            self.name
        )))
    }

    fn unique_id(&self) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(self.id_prefix.len() + 10);
        id.push_str(&self.id_prefix);
        id.push_str(&number.to_string());
        id
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("name", &self.name).finish_non_exhaustive()
    }
}
