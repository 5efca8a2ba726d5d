//! The built-in broker, in memory: nothing outlives the process.
//!
//! A topic subscription has a queue of its own, which ends with it, or passes to
//! the subscription that replaces it. The members of a group share one queue. It
//! lasts as long as the broker: while nobody is in the group it goes on collecting
//! events, up to its bound.
//!
//! At qos 1 and 2 no event is lost: a publisher waits while one of the queues
//! that the event belongs to is full, and the event goes into all or none.

mod entry;
mod member;
mod queue;
mod section;
mod slab;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod trie;

pub use section::MemorySection;

use crate::broker::driver::{Connection, Features, Source, SubscribeRequest};
use crate::broker::{BrokerError, Event, Qos, Topic, TopicFilter};
use async_trait::async_trait;
use member::Member;
use parking_lot::RwLock;
use queue::{Full, Queue};
use source::QueueSource;
use state::{Admission, Publication};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use timer::Timer;
use tokio::runtime::Handle;
use trie::Trie;

/// The bounds of each queue, that is, of each topic subscription and each group.
/// One event above a bound in bytes is taken when nothing else is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events of qos 1 and 2 that are not acknowledged. At the bound publishers
    /// wait.
    pub queue_events_max: usize,
    /// Likewise, in bytes.
    pub queue_bytes_max: usize,
    /// How many dead letters are taken beyond the bound.
    pub dead_letter_events_reserved: usize,
    /// Likewise, in bytes.
    pub dead_letter_bytes_reserved: usize,
    /// Events of qos 0 that wait. At the bound the newest are dropped.
    pub qos0_events_max: usize,
    /// Likewise, in bytes.
    pub qos0_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            queue_events_max: 100_000,
            queue_bytes_max: 256 * MIB,
            dead_letter_events_reserved: 10_000,
            dead_letter_bytes_reserved: 32 * MIB,
            qos0_events_max: 10_000,
            qos0_bytes_max: 32 * MIB,
        }
    }
}

/// What this broker can do by itself.
pub const FEATURES: Features = Features {
    queue: true,
    ordered_queue: true,
    pins_keys: false,
    filters: false,
    qos_max: Qos::EffectivelyOnce,
    delayed_redelivery: true,
    replay: false,
    group_limits: false,
    network: false,
};

/// Opens a broker of its own, with the default bounds. Whoever shares it shares
/// its topics.
#[must_use]
pub fn open() -> Arc<dyn Connection> {
    open_with(Settings::default())
}

/// Opens a broker of its own with these bounds.
#[must_use]
pub fn open_with(settings: Settings) -> Arc<dyn Connection> {
    Arc::new(MemoryBroker { shared: Arc::new(Shared::new(settings)) })
}

struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    routes: RwLock<Routes>,
    timer: Timer,
    last_number: AtomicU64,
    closed: AtomicBool,
}

#[derive(Default)]
struct Routes {
    queues: Trie<Arc<Queue>>,
    groups: HashMap<(TopicFilter, String), Arc<Queue>>,
    /// The queues of topic subscriptions that are being replaced, by label. They
    /// go on collecting events until their successors come.
    bequeathed: HashMap<String, Arc<Queue>>,
}

/// The queues that a topic belongs to. There is mostly one.
#[derive(Default)]
struct Matches {
    first: Option<Arc<Queue>>,
    others: Vec<Arc<Queue>>,
}

#[async_trait]
impl Connection for MemoryBroker {
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
        let (event, size, is_dead_letter) = (&event, event.size(), false);
        self.shared.store(Publication { topic, event, size, qos, from, is_dead_letter }).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        let (event, size, is_dead_letter) = (&event, event.size(), true);
        self.shared.store(Publication { topic, event, size, qos, from, is_dead_letter }).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.shared.timer.start();
        let queue = self.shared.route(&request)?;
        let member = Arc::new(Member::new(self.shared.next_number(), request));
        queue.join(member.clone());
        let runtime = Handle::current();
        let (shared, replaced) = (self.shared.clone(), AtomicBool::new(false));
        Ok(Arc::new(QueueSource { queue, member, shared, runtime, replaced }))
    }

    async fn close(&self, _grace: Duration) {
        self.shared.close();
    }
}

impl Shared {
    fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            routes: RwLock::default(),
            timer: Timer::default(),
            last_number: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The queue of a new member: a new one for a topic subscription that
    /// replaces none.
    fn route(&self, request: &SubscribeRequest) -> Result<Arc<Queue>, BrokerError> {
        let (filter, group) = (&request.filter, &request.group);
        let mut routes = self.routes.write();
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let key = group.clone().map(|group| (filter.clone(), group));
        if let Some(queue) = key.as_ref().and_then(|key| routes.groups.get(key)) {
            return Ok(queue.clone());
        }
        if key.is_none()
            && let Some(queue) = routes.bequeathed.remove(&request.label)
        {
            if queue.filter == *filter {
                return Ok(queue);
            }
            routes.queues.remove(&queue.filter, |other| other.number == queue.number);
        }
        let number = self.next_number();
        let settings = self.settings.clone();
        let queue =
            Arc::new(Queue::new(number, filter.clone(), group.clone(), request.qos, settings));
        routes.queues.insert(filter, queue.clone());
        if let Some(key) = key {
            routes.groups.insert(key, queue.clone());
        }
        Ok(queue)
    }

    /// Takes the queue of a topic subscription out.
    fn unroute(&self, queue: &Queue) {
        self.routes.write().queues.remove(&queue.filter, |other| other.number == queue.number);
    }

    /// Takes the queue of a group out that has no member left.
    fn unroute_deserted(&self, group: &str, queue: &Queue) {
        let mut routes = self.routes.write();
        if queue.is_deserted() {
            routes.queues.remove(&queue.filter, |other| other.number == queue.number);
            routes.groups.remove(&(queue.filter.clone(), group.to_owned()));
        }
    }

    /// Keeps the queue of a topic subscription for the one that replaces it.
    fn bequeath(&self, label: &str, queue: &Arc<Queue>) {
        self.routes.write().bequeathed.insert(label.to_owned(), queue.clone());
    }

    fn close(&self) {
        let mut queues = Vec::new();
        {
            let routes = self.routes.write();
            self.closed.store(true, Ordering::Release);
            routes.queues.for_each(|queue| queues.push(queue.clone()));
        }
        for queue in queues {
            queue.close();
        }
    }

    async fn store(&self, publication: Publication<'_>) -> Result<(), BrokerError> {
        let mut stored = self.try_store(&publication);
        loop {
            match stored {
                Ok(result) => return result,
                // Room at one may mean that another is full now.
                Err(full) => {
                    let try_again = || self.try_store(&publication);
                    stored = full.queue.wait_for_room(full.freed, try_again).await;
                }
            }
        }
    }

    /// Puts an event into all queues it belongs to, or says which one is full.
    fn try_store(&self, publication: &Publication<'_>) -> Result<Result<(), BrokerError>, Full> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(Err(closed()));
        }
        let Matches { first, others } = self.matches(publication.topic);
        let Some(queue) = first else { return Ok(Ok(())) };
        let number = self.next_number();
        if !others.is_empty() {
            return self.store_in_all(publication, number, queue, others);
        }
        match queue.push(publication, number) {
            Admission::Full(freed) => Err(Full { queue, freed }),
            _ => Ok(Ok(())),
        }
    }

    fn store_in_all(
        &self,
        publication: &Publication<'_>,
        number: u64,
        first: Arc<Queue>,
        mut queues: Vec<Arc<Queue>>,
    ) -> Result<Result<(), BrokerError>, Full> {
        queues.push(first);
        // In one order for all, so that of two publishers one is always first.
        queues.sort_unstable_by_key(|queue| queue.number);
        let mut admitted: Vec<(Arc<Queue>, Admission)> = Vec::with_capacity(queues.len());
        for queue in queues {
            let admission = queue.admit(publication);
            if let Admission::Full(freed) = admission {
                for (other, _) in admitted.iter().filter(|(_, a)| *a == Admission::Reserved) {
                    other.release(publication);
                }
                return Err(Full { queue, freed });
            }
            admitted.push((queue, admission));
        }
        for (queue, admission) in admitted {
            queue.put(publication, number, admission);
        }
        Ok(Ok(()))
    }

    fn matches(&self, topic: &Topic) -> Matches {
        let mut matches = Matches::default();
        self.routes.read().queues.find(topic, |queue| {
            if matches.first.is_none() {
                matches.first = Some(queue.clone());
            } else {
                matches.others.push(queue.clone());
            }
        });
        matches
    }
}

fn closed() -> BrokerError {
    BrokerError::Closed("the broker was closed".into())
}

/// The time of tokio, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
