//! The broker as its users see it: a connection.

use super::janitor::{self, Activity};
use super::once::Once;
use super::publish::{Brought, is_stored};
use super::queue::{Entry, Queue, QueueParts};
use super::routes::Routes;
use super::settings::Settings;
use super::source::QueueSource;
use super::storage::{
    Contents, Position, SnapshotRecord, Storage, StorageError, SubscriptionRecord,
};
use super::timer::Timer;
use crate::broker::driver::{
    Connection, Features, RecordChange, Records, Source, Submitted, SubscribeRequest,
};
use crate::broker::{
    BrokerError, Event, Qos, RetentionRule, Start, StoreBounds, Topic, TopicFilter,
};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What this broker can do by itself.
pub(super) const FEATURES: Features = Features {
    queue: true,
    ordered_queue: true,
    pins_keys: true,
    filters: true,
    qos_max: Qos::EffectivelyOnce,
    delayed_redelivery: true,
    replay: true,
    group_limits: true,
    listener: cfg!(feature = "listener"),
    network: false,
};

/// A built-in broker. Whoever shares it shares its topics.
pub struct BuiltIn {
    pub(super) shared: Arc<Shared>,
    janitor: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) routes: RwLock<Routes>,
    pub(super) snapshots: Mutex<Vec<Snapshot>>,
    pub(super) once: Once,
    pub(super) timer: Timer,
    pub(super) activity: Arc<Activity>,
    /// Tells publishers that something was deleted.
    pub(super) trimmed: Notify,
    /// How long a durable subscription stays without a subscriber.
    pub(super) subscription_expiry: Mutex<Option<Duration>>,
    last_id: AtomicU64,
}

/// A snapshot, with what it would deliver that the storage does not have.
pub(super) struct Snapshot {
    pub(super) record: SnapshotRecord,
    pub(super) unkept: Vec<Entry>,
}

impl BuiltIn {
    /// What such a broker can do.
    pub const FEATURES: Features = FEATURES;

    /// Opens a broker on a storage, with what is in there. May block for as long
    /// as that takes to be read.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn open(storage: Arc<dyn Storage>, settings: Settings) -> Result<Arc<Self>, StorageError> {
        let contents = storage.load()?;
        let subscriptions = contents.subscriptions.clone();
        let broker = Self::with(storage, settings, contents);
        if !subscriptions.is_empty() {
            broker.shared.restore(subscriptions)?;
        }
        Ok(broker)
    }

    /// Opens a broker on a storage that is empty.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, settings: Settings) -> Arc<Self> {
        Self::with(storage, settings, Contents::default())
    }

    fn with(storage: Arc<dyn Storage>, settings: Settings, contents: Contents) -> Arc<Self> {
        let Contents { subscriptions, snapshots, once } = contents;
        let last_id = subscriptions.iter().map(|(record, _)| record.id).max().unwrap_or(0);
        let pinned = snapshots.iter().map(|record| record.filter.clone()).collect();
        let snapshots = snapshots.into_iter().map(|record| Snapshot { record, unkept: Vec::new() });
        let shared = Shared {
            once: Once::new(settings.publish_once_window, once),
            subscription_expiry: Mutex::new(settings.subscription_expiry),
            settings: Arc::new(settings),
            storage,
            routes: RwLock::new(Routes { pinned, ..Routes::default() }),
            snapshots: Mutex::new(snapshots.collect()),
            timer: Timer::default(),
            activity: Arc::default(),
            trimmed: Notify::new(),
            last_id: AtomicU64::new(last_id),
        };
        Arc::new(Self { shared: Arc::new(shared), janitor: Mutex::new(None) })
    }

    /// Starts what goes on in the background, in the runtime of the caller.
    fn start(&self) {
        let mut janitor = self.janitor.lock();
        if janitor.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = &self.shared;
            let run = janitor::run(Arc::downgrade(shared), shared.activity.clone());
            *janitor = Some(tokio::spawn(run));
        }
        self.shared.timer.start();
    }
}

impl Drop for BuiltIn {
    fn drop(&mut self) {
        if let Some(janitor) = self.janitor.get_mut() {
            janitor.abort();
        }
    }
}

#[async_trait]
impl Connection for BuiltIn {
    fn features(&self) -> Features {
        FEATURES
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        let brought =
            Brought { topic, event: &event, qos, from, is_dead_letter: false, records: &[] };
        self.shared.publish(brought).await
    }

    async fn submit(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
        changes: Vec<RecordChange>,
    ) -> Result<Submitted, BrokerError> {
        let (event, records) = (&event, &*changes);
        let brought = Brought { topic, event, qos, from, is_dead_letter: false, records };
        Ok(match self.shared.submit(brought).await? {
            None => Submitted::Done,
            Some(stored) => Submitted::UnderWay(Box::pin(is_stored(stored))),
        })
    }

    fn last_number(&self) -> Option<u64> {
        Some(self.shared.storage.last_number())
    }

    async fn forget_subscriptions(
        &self,
        is_over: &(dyn for<'a> Fn(&'a str, &'a TopicFilter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        let mut over = Vec::new();
        self.shared.routes.read().for_each(|queue| {
            let is_unused = queue.is_durable() && queue.group.is_none() && queue.members() == 0;
            if is_unused && is_over(&queue.name, &queue.filter) {
                over.push(queue.clone());
            }
        });
        let mut removed = 0;
        for queue in over {
            removed += usize::from(self.shared.remove(&queue).await?);
        }
        Ok(removed)
    }

    fn records(&self) -> Option<Arc<dyn Records>> {
        self.shared.storage.records()
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        let event = &event;
        let brought = Brought { topic, event, qos, from, is_dead_letter: true, records: &[] };
        self.shared.publish(brought).await
    }

    fn has_subscribers(&self, topic: &Topic) -> Option<bool> {
        let mut is_found = false;
        self.shared.routes.read().of_topic(topic, |_| is_found = true);
        Some(is_found)
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.start();
        let (queue, member) = self.shared.join(request).await?;
        Ok(Arc::new(QueueSource {
            queue,
            member,
            shared: self.shared.clone(),
            runtime: Handle::current(),
            replaced: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            late: Mutex::default(),
        }))
    }

    fn set_retention(&self, rules: Vec<RetentionRule>) {
        if let Ok(_runtime) = Handle::try_current() {
            self.start();
        }
        self.shared.routes.write().retention = rules;
        self.shared.activity.note();
    }

    fn set_store_bounds(&self, bounds: StoreBounds) {
        self.shared.storage.set_bytes_max(bounds.bytes_max);
        *self.shared.subscription_expiry.lock() = Some(bounds.subscription_expiry);
        self.shared.activity.note();
    }

    async fn close(&self, _grace: Duration) {
        self.shared.close().await;
    }
}

impl Shared {
    pub(super) fn time(&self) -> SystemTime {
        self.settings.clock.now()
    }

    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes the queues of the subscriptions that the storage has.
    fn restore(&self, found: Vec<(SubscriptionRecord, Position)>) -> Result<(), StorageError> {
        let runtime = Handle::try_current()
            .map_err(|error| StorageError { message: error.to_string(), is_temporary: false })?;
        let mut routes = self.routes.write();
        let end = self.storage.last_number() + 1;
        for (record, position) in found {
            let (from, used) = (position.next, record.used);
            let parts = QueueParts {
                number: record.id,
                name: record.name,
                filter: record.filter,
                group: record.group,
                event_filter: record.event_filter,
                qos: record.qos,
                not_from: record.not_from,
                created: record.created,
                is_durable: true,
            };
            let queue = self.queue(parts, runtime.clone());
            *queue.used.lock() = used;
            // What came at qos 0 before is over.
            queue.begin(position, end, 0);
            self.count_behind(&queue, from, &runtime);
            routes.insert(queue);
        }
        Ok(())
    }

    pub(super) fn count_behind(&self, queue: &Arc<Queue>, from: u64, runtime: &Handle) {
        let (storage, queue) = (self.storage.clone(), queue.clone());
        runtime.spawn(async move {
            if let Ok(events) = storage.count(&queue.filter, from).await {
                queue.count_behind(events);
            }
        });
    }

    pub(super) fn queue(&self, parts: QueueParts, runtime: Handle) -> Arc<Queue> {
        Arc::new(Queue::new(parts, self.settings.clone(), self.storage.clone(), runtime))
    }

    /// The number that a subscription begins at; `None`: with what comes.
    pub(super) async fn number_of(&self, start: Start) -> Result<Option<u64>, BrokerError> {
        Ok(match start {
            Start::New => None,
            Start::Earliest => Some(1),
            Start::Number(number) => Some(number.max(1)),
            Start::Time(time) => Some(self.storage.number_at(time).await?),
        })
    }

    pub(super) fn record(&self, queue: &Queue) -> SubscriptionRecord {
        SubscriptionRecord {
            id: queue.number,
            name: queue.name.clone(),
            filter: queue.filter.clone(),
            group: queue.group.clone(),
            event_filter: queue.event_filter().as_deref().cloned(),
            qos: queue.qos(),
            not_from: queue.not_from(),
            created: queue.created,
            used: *queue.used.lock(),
            expiry: *self.subscription_expiry.lock(),
        }
    }

    /// Takes the queue out that has no member left.
    pub(super) fn unroute_deserted(&self, queue: &Queue) {
        {
            let mut routes = self.routes.write();
            if queue.members() == 0 {
                routes.remove(queue);
            }
        }
        // Who waits for its room needs none any more.
        queue.tell_publishers(true);
    }

    /// Notes that somebody takes from these subscriptions, or did up to now.
    pub(super) async fn note_used(&self, queues: impl Iterator<Item = &Arc<Queue>>) {
        let now = self.time();
        let notes = queues.filter(|queue| queue.is_durable()).map(|queue| {
            if queue.members() > 0 {
                *queue.used.lock() = now;
            }
            self.storage.put_subscription(self.record(queue))
        });
        // All in one commit.
        let noted = futures_util::future::join_all(notes).await;
        if let Some(error) = noted.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "when subscriptions were last used is not noted");
        }
    }

    async fn close(&self) {
        let mut queues = Vec::new();
        {
            let mut routes = self.routes.write();
            if std::mem::replace(&mut routes.is_closed, true) {
                return;
            }
            routes.for_each(|queue| queues.push(queue.clone()));
        }
        self.note_used(queues.iter().filter(|queue| queue.was_used())).await;
        self.storage.close().await;
        for queue in queues {
            queue.close();
        }
    }
}

pub(super) fn closed() -> BrokerError {
    BrokerError::Closed("the broker was closed".into())
}

impl From<StorageError> for BrokerError {
    fn from(error: StorageError) -> Self {
        match error.is_temporary {
            true => Self::Unavailable(error.message),
            false => Self::Other(error.message),
        }
    }
}
