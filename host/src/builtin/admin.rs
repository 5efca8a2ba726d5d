//! For people who need to look, and to set things right.

use super::broker::{BuiltIn, Shared, Snapshot};
use super::queue::{Entry, Queue, Told, tell};
use super::storage::{
    Fetch, Page, Position, SnapshotRecord, StorageError, Stored, TopicStats, Trim, Trimmed, Which,
};
use crate::broker::{BrokerError, EventFilter, Qos, Start, TopicFilter};
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The most events, and bytes, of a page that is peeked at.
const PEEK_EVENTS_MAX: usize = 1000;
const PEEK_BYTES_MAX: usize = 4 << 20;

/// A subscription, as it is now.
#[derive(Clone, Debug)]
pub struct SubscriptionInfo {
    /// Its name.
    pub name: String,
    /// The topics.
    pub filter: TopicFilter,
    /// The group that shares it.
    pub group: Option<String>,
    /// The events that it wants.
    pub event_filter: Option<EventFilter>,
    /// The highest quality of service that a subscriber asked for.
    pub qos: Qos,
    /// Whether it outlives its subscribers and the process.
    pub is_durable: bool,
    /// How many subscribers it has.
    pub subscribers: usize,
    /// The lowest number that was never handed out.
    pub next: u64,
    /// How many events wait, as far as is known.
    pub queued: usize,
    /// How many events are with subscribers.
    pub unsettled: usize,
    /// When it was made.
    pub created: SystemTime,
    /// When the last subscriber went away; of no meaning while there is one.
    pub used: SystemTime,
}

/// Where a subscription is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// At a place.
    Start(Start),
    /// Where another or the same subscription was when the snapshot of this name
    /// was made.
    Snapshot(String),
}

impl BuiltIn {
    /// The topics that have events in the storage.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        self.shared.storage.topics().await
    }

    /// All subscriptions, by name.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let durable = self.shared.storage.durable_number();
        let routes = self.shared.routes.read();
        let mut all: Vec<_> = routes.by_name.values().map(|queue| info(queue, durable)).collect();
        drop(routes);
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }

    /// Forgets a subscription, and what waits for it.
    ///
    /// # Errors
    /// There is none of that name, somebody takes from it, or the storage fails;
    /// then it is still there.
    pub async fn remove_subscription(&self, name: &str) -> Result<(), BrokerError> {
        let queue = self.shared.named(name)?;
        if queue.members() > 0 {
            return Err(BrokerError::Unsupported(format!(
                "the subscription `{name}` has subscribers: it is removed when they have stopped"
            )));
        }
        let shared = self.shared.clone();
        undisturbed(async move { Ok(shared.remove(&queue).await?) }).await?;
        self.shared.activity.note();
        Ok(())
    }

    /// Lets a subscription go on at another place. What is in hand at the moment is
    /// void: settling it has no effect, and it is delivered again where the new
    /// place includes it. Everything before the place counts as acknowledged.
    ///
    /// # Errors
    /// There is no such subscription or snapshot, or the storage fails; then
    /// nothing has changed.
    pub async fn seek(&self, name: &str, to: &SeekTo) -> Result<(), BrokerError> {
        let (shared, name, to) = (self.shared.clone(), name.to_owned(), to.clone());
        undisturbed(async move { shared.seek(&name, &to).await }).await
    }

    /// Gives the place where a subscription is a name. What it would deliver is
    /// kept until the snapshot is removed. One of the same name is replaced.
    ///
    /// # Errors
    /// There is no such subscription, or the storage fails.
    pub async fn snapshot(&self, name: &str, subscription: &str) -> Result<(), BrokerError> {
        self.shared.snapshot(name, subscription).await
    }

    /// The snapshots, by name.
    #[must_use]
    pub fn snapshots(&self) -> Vec<SnapshotRecord> {
        let snapshots = self.shared.snapshots.lock();
        let mut all: Vec<_> = snapshots.iter().map(|snapshot| snapshot.record.clone()).collect();
        drop(snapshots);
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// There is none of that name, or the storage fails.
    pub async fn remove_snapshot(&self, name: &str) -> Result<(), BrokerError> {
        let shared = &self.shared;
        if !shared.snapshots.lock().iter().any(|snapshot| snapshot.record.name == name) {
            return Err(no_snapshot(name));
        }
        shared.storage.remove_snapshot(name).await?;
        shared.snapshots.lock().retain(|snapshot| snapshot.record.name != name);
        shared.pin();
        shared.activity.note();
        Ok(())
    }

    /// Deletes everything that the topics of a filter have, also what
    /// subscriptions wait for and what snapshots keep. What subscribers have in
    /// hand they can still settle.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn purge(&self, filter: &TopicFilter) -> Result<Trimmed, StorageError> {
        self.shared.purge(filter).await
    }

    /// Reads events of topics, oldest first, without any effect.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn peek(
        &self,
        filter: &TopicFilter,
        from: Start,
        max: usize,
    ) -> Result<Vec<Stored>, BrokerError> {
        let shared = &self.shared;
        // Also what was confirmed just now, and is being delivered.
        let end = shared.storage.last_number() + 1;
        let mut from = shared.number_of(from).await?.unwrap_or(end);
        let mut found = Vec::new();
        while found.len() < max {
            let which = Which::Range { filter: filter.clone(), from, end: Some(end) };
            let events_max = (max - found.len()).min(PEEK_EVENTS_MAX);
            let page = shared.page(Fetch { which, events_max, bytes_max: PEEK_BYTES_MAX }).await?;
            found.extend(page.events);
            if page.is_last || page.next >= end {
                break;
            }
            from = page.next;
        }
        Ok(found)
    }

    /// Deletes now what nobody needs any more, which happens by itself otherwise,
    /// within a second or so.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn trim(&self) -> Result<Trimmed, StorageError> {
        self.shared.trim().await
    }
}

impl Shared {
    fn named(&self, name: &str) -> Result<Arc<Queue>, BrokerError> {
        let routes = self.routes.read();
        routes.by_name.get(name).cloned().ok_or_else(|| {
            let mut names: Vec<_> = routes.by_name.keys().map(|name| format!("`{name}`")).collect();
            names.sort();
            let known = match names.is_empty() {
                true => "there are none".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            BrokerError::Other(format!("there is no subscription `{name}`; {known}"))
        })
    }

    async fn seek(&self, name: &str, to: &SeekTo) -> Result<(), BrokerError> {
        let queue = self.named(name)?;
        let _alone = queue.placing.lock().await;
        let number = match to {
            SeekTo::Start(start) => self.number_of(*start).await?,
            SeekTo::Snapshot(_) => None,
        };
        let place = self.place_of(to, number)?;
        queue.pause();
        if queue.is_durable() {
            // First of all: where this fails, the queue goes on where it is.
            let kept = self.storage.set_position(queue.number, place.position.clone()).await;
            if let Err(error) = kept {
                queue.resume();
                return Err(error.into());
            }
        }
        let next = place.position.next;
        self.go_to(&queue, place);
        queue.resume();
        self.count_behind(&queue, next, &Handle::current());
        self.activity.note();
        Ok(())
    }

    fn place_of(&self, to: &SeekTo, number: Option<u64>) -> Result<Place, BrokerError> {
        // Nobody publishes meanwhile: what comes later is behind `end`.
        let _routes = self.routes.write();
        let end = self.storage.last_number() + 1;
        let (position, unkept) = match to {
            SeekTo::Start(_) => {
                let next = number.unwrap_or(end).min(end);
                (Position { next, open: Vec::new() }, Vec::new())
            }
            SeekTo::Snapshot(name) => self.place(name)?,
        };
        Ok(Place { position, unkept, end })
    }

    /// Lets a queue that is paused begin at a place.
    fn go_to(&self, queue: &Arc<Queue>, place: Place) {
        let Place { position, unkept, end: asked } = place;
        let _routes = self.routes.write();
        let (next, end) = (position.next, self.storage.last_number() + 1);
        let before = queue.begin(position, end, asked);
        // What came since it was asked for, and what nobody keeps but the queue.
        let holds = self.storage.holds_backlog();
        let before = before.into_iter().filter(|entry| match entry.qos {
            Qos::AtMostOnce => entry.number >= asked,
            _ => entry.number >= next && !holds,
        });
        // A snapshot may be that of another subscription.
        let unkept = unkept.into_iter().filter(|entry| queue.wants(entry));
        let entries: BTreeMap<u64, Entry> =
            unkept.chain(before).map(|entry| (entry.number, entry)).collect();
        queue.restore(entries.into_values());
    }

    /// The place that a snapshot names, and what the storage does not have of it.
    fn place(&self, name: &str) -> Result<(Position, Vec<Entry>), BrokerError> {
        let snapshots = self.snapshots.lock();
        let found = snapshots.iter().find(|snapshot| snapshot.record.name == name);
        let snapshot = found.ok_or_else(|| no_snapshot(name))?;
        Ok((snapshot.record.position.clone(), snapshot.unkept.clone()))
    }

    async fn snapshot(&self, name: &str, subscription: &str) -> Result<(), BrokerError> {
        let queue = self.named(subscription)?;
        let record = {
            let mut routes = self.routes.write();
            let durable = self.storage.durable_number();
            let mut position = queue.position(durable);
            if !self.storage.holds_backlog() {
                // What is here is taken along; the rest is kept from now on.
                let end = self.storage.last_number() + 1;
                position.next = queue.needs(durable).map_or(end, |needed| needed.next);
                position.open.clear();
            }
            let record = SnapshotRecord {
                name: name.to_owned(),
                filter: queue.filter.clone(),
                position,
                created: self.time(),
            };
            let mut snapshots = self.snapshots.lock();
            // One of the same name stays until this one is kept.
            snapshots.push(Snapshot { record: record.clone(), unkept: queue.unkept() });
            routes.pinned.push(queue.filter.clone());
            record
        };
        let kept = self.storage.put_snapshot(record.clone()).await;
        {
            let mut snapshots = self.snapshots.lock();
            let this = snapshots.iter().rposition(|snapshot| snapshot.record == record);
            let this = this.map(|this| snapshots.remove(this));
            if kept.is_ok() {
                snapshots.retain(|snapshot| snapshot.record.name != name);
                snapshots.extend(this);
            }
        }
        self.pin();
        Ok(kept?)
    }

    /// What is published to the topics of snapshots is kept.
    fn pin(&self) {
        let mut routes = self.routes.write();
        let snapshots = self.snapshots.lock();
        routes.pinned = snapshots.iter().map(|snapshot| snapshot.record.filter.clone()).collect();
    }

    async fn purge(&self, filter: &TopicFilter) -> Result<Trimmed, StorageError> {
        let mut told = Told::new();
        let end = {
            let routes = self.routes.write();
            routes.for_each(|queue| told.extend(queue.purge(filter)));
            self.storage.last_number() + 1
        };
        tell(&told);
        for snapshot in &mut *self.snapshots.lock() {
            snapshot.unkept.retain(|entry| !filter.matches(&entry.topic));
        }
        let mut all = Trimmed::default();
        for stats in self.storage.topics().await? {
            if filter.matches(&stats.topic) {
                let (needed, retention, now) = (Vec::new(), None, self.time());
                let trim = Trim { topic: stats.topic, needed_from: end, needed, retention, now };
                let trimmed = self.storage.trim(trim).await?;
                all.events += trimmed.events;
                all.bytes += trimmed.bytes;
            }
        }
        self.trimmed.notify_waiters();
        Ok(all)
    }

    async fn page(&self, fetch: Fetch) -> Result<Page, BrokerError> {
        let (sender, reply) = oneshot::channel();
        self.storage.fetch(
            fetch,
            Box::new(move |page| {
                // Who asked may have gone away.
                let _gone = sender.send(page);
            }),
        );
        match reply.await {
            Ok(page) => Ok(page?),
            Err(_) => Err(super::broker::closed()),
        }
    }
}

/// Where a queue is to begin.
struct Place {
    position: Position,
    /// What the storage does not have of it.
    unkept: Vec<Entry>,
    /// The number that came next when it was asked for.
    end: u64,
}

fn info(queue: &Arc<Queue>, durable: u64) -> SubscriptionInfo {
    let (queued, unsettled) = queue.counts();
    SubscriptionInfo {
        name: queue.name.clone(),
        filter: queue.filter.clone(),
        group: queue.group.clone(),
        event_filter: queue.event_filter().as_deref().cloned(),
        qos: queue.qos(),
        is_durable: queue.is_durable(),
        subscribers: queue.members(),
        next: queue.position(durable).next,
        queued,
        unsettled,
        created: queue.created,
        used: *queue.used.lock(),
    }
}

/// Does something to its end, whether or not somebody waits for that.
async fn undisturbed<T: Send + 'static>(
    done: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
) -> Result<T, BrokerError> {
    let mut done = Box::pin(done);
    if let Some(done) = done.as_mut().now_or_never() {
        return done;
    }
    match tokio::spawn(done).await {
        Ok(done) => done,
        Err(_) => Err(super::broker::closed()),
    }
}

fn no_snapshot(name: &str) -> BrokerError {
    BrokerError::Other(format!("there is no snapshot `{name}`"))
}
