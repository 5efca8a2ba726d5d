//! Where a built-in broker keeps its events: what a storage implements.
//!
//! The broker decides what is kept, for whom and how long; a storage keeps it. It
//! gives each event its number: one sequence for the whole broker, so that a
//! subscription to many topics has an order too. An event goes to its
//! subscriptions once it is kept, and in the order of the numbers where the
//! storage [holds the backlog](Storage::holds_backlog).

use super::publication::{Notices, Publication};

use crate::broker::driver::Records;
use crate::broker::{Event, EventFilter, Qos, Retention, Topic, TopicFilter};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// Keeps events, and how far each subscription is.
///
/// What is asked for takes effect in the order of the calls. No call waits for
/// the disk, but those that are `async`.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Whether all that subscriptions wait for is kept here and can be fetched
    /// again: a subscription then buffers some of it only, and outlives the
    /// process. Otherwise what is fetched is what retention and snapshots keep,
    /// and subscriptions hold what they wait for themselves.
    fn holds_backlog(&self) -> bool;

    /// What is there at the start. Called once, before anything else; may block.
    ///
    /// # Errors
    /// What is there cannot be read.
    fn load(&self) -> Result<Contents, StorageError>;

    /// Changes the most bytes of events that are kept, for a storage that has such a
    /// bound. What is there already stays.
    fn set_bytes_max(&self, _bytes: u64) {}

    /// What else can be kept here; `None`: nothing.
    fn records(&self) -> Option<Arc<dyn Records>> {
        None
    }

    /// Keeps an event and then delivers it, at once or when it is durable. One
    /// that nobody wants to be kept only gets its number.
    fn append(&self, publication: Publication) -> Appended;

    /// The highest number that was given so far.
    fn last_number(&self) -> u64;

    /// Every event up to this number is durable and delivered, or will never be.
    fn durable_number(&self) -> u64;

    /// How many events the topics of a filter have from a number on.
    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError>;

    /// Fetches events for a subscription. The reply comes at once or from another
    /// thread; it is never called while a lock of the storage is held.
    fn fetch(&self, fetch: Fetch, reply: FetchReply);

    /// The number of the first event that was published at a time or after it;
    /// one above the last number where there is none.
    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError>;

    /// Says that a subscription has progress to keep, which is collected before
    /// the next commit. A storage that keeps none does nothing. `soon`: somebody
    /// waits for it.
    fn progressed(&self, subscription: &Arc<dyn Progress>, soon: bool);

    /// Adds a subscription, or changes all of it but its progress.
    async fn put_subscription(&self, subscription: SubscriptionRecord) -> Result<(), StorageError>;

    /// Sets how far a subscription is: for seeking. What it has open is forgotten
    /// but what is given here.
    async fn set_position(&self, id: u64, position: Position) -> Result<(), StorageError>;

    /// Forgets a subscription. One that is not there is no error.
    async fn remove_subscription(&self, id: u64) -> Result<(), StorageError>;

    /// Adds or replaces a snapshot.
    async fn put_snapshot(&self, snapshot: SnapshotRecord) -> Result<(), StorageError>;

    /// Forgets a snapshot. One that is not there is no error.
    async fn remove_snapshot(&self, name: &str) -> Result<(), StorageError>;

    /// The topics that have events here, each with what it has.
    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError>;

    /// Deletes what is not needed any more from one topic.
    async fn trim(&self, trim: Trim) -> Result<Trimmed, StorageError>;

    /// Waits until all that was asked for before is durable, and ends.
    async fn close(&self);
}

/// What became of an event that was to be kept.
pub enum Appended {
    /// It is kept and delivered: its number, and whom the caller is to tell.
    Now(u64, Notices),
    /// It is on its way. A sender that is dropped without a word has failed.
    Later(oneshot::Receiver<Result<u64, StorageError>>),
    /// There is no room, until something is trimmed. Here it is again.
    Full(Publication),
}

/// What is in a storage when it is opened.
#[derive(Debug, Default)]
pub struct Contents {
    /// The subscriptions, with how far each is.
    pub subscriptions: Vec<(SubscriptionRecord, Position)>,
    /// The snapshots.
    pub snapshots: Vec<SnapshotRecord>,
    /// What may not be published a second time, and until when: see
    /// [`Publication::once`].
    pub once: Vec<(u128, SystemTime)>,
}

/// One event that is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub number: u64,
    /// When it was published. Never before that of a lower number.
    pub time: SystemTime,
    /// The topic.
    pub topic: Topic,
    /// The event.
    pub event: Arc<Event>,
    /// The quality of service that it was published with.
    pub qos: Qos,
    /// Who published it, where somebody does not want what he published himself.
    pub from: Option<Arc<str>>,
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Which of the events.
    pub which: Which,
    /// The most events of a page, at least 1.
    pub events_max: usize,
    /// The most bytes of a page ([`Event::size`]). A page has one event at least.
    pub bytes_max: usize,
}

/// Which events to fetch.
#[derive(Clone, Debug)]
pub enum Which {
    /// Those of topics, in order.
    Range {
        /// The topics.
        filter: TopicFilter,
        /// The first number.
        from: u64,
        /// The number to stop before; `None`: as far as there is something.
        end: Option<u64>,
    },
    /// These, in rising order. What is not there is left out.
    Numbers(Vec<u64>),
}

/// Called once with what was fetched.
pub type FetchReply = Box<dyn FnOnce(Result<Page, StorageError>) + Send>;

/// Events that were fetched.
#[derive(Debug, Default)]
pub struct Page {
    /// The events, in the order of their numbers. There may be none even where
    /// there is more to come.
    pub events: Vec<Stored>,
    /// All that was asked for and has a lower number is in here or is not there:
    /// where to go on. At the end of what is there, one above the last number of
    /// an event that is durable; never above [`Which::Range`]'s `end`.
    pub next: u64,
    /// Whether the end was reached: nothing that was asked for and was durable at
    /// the time is behind this page.
    pub is_last: bool,
}

/// A subscription whose progress is kept. Called by the storage alone.
pub trait Progress: Send + Sync {
    /// The subscription.
    fn id(&self) -> u64;
    /// What has changed since it was last collected, if anything has.
    fn collect(&self) -> Option<Delta>;
    /// What was collected is durable, or has failed and is to be collected again.
    fn kept(&self, delta: Delta, durable: bool);
}

/// How far a subscription is: everything below `next` is done, but what is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The lowest number that was never taken.
    pub next: u64,
    /// The numbers below `next` that were taken and are not acknowledged, rising,
    /// each with the attempt that is next.
    pub open: Vec<(u64, u32)>,
}

/// What has changed in a [`Position`].
#[derive(Debug, Default)]
pub struct Delta {
    /// The lowest number that was never taken.
    pub next: u64,
    /// What is open now, or has another attempt.
    pub opened: Vec<(u64, u32)>,
    /// What is not open any more. Some of it may not have been kept as open.
    pub closed: Vec<u64>,
    /// For the subscription to know its own again.
    pub ticket: u64,
}

/// A subscription, without how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionRecord {
    /// Unique, and never used again.
    pub id: u64,
    /// Its name, unique too.
    pub name: String,
    /// The topics.
    pub filter: TopicFilter,
    /// The group that shares it.
    pub group: Option<String>,
    /// The events that it wants.
    pub event_filter: Option<EventFilter>,
    /// The highest quality of service that a subscriber asked for.
    pub qos: Qos,
    /// Whose events it does not want.
    pub not_from: Option<String>,
    /// When it was made.
    pub created: SystemTime,
    /// When the last subscriber went away, or the last moment that one was known
    /// to be there.
    pub used: SystemTime,
    /// How long it stays without a subscriber; `None`: for ever.
    pub expiry: Option<std::time::Duration>,
}

/// A position that was given a name. What it would deliver is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRecord {
    /// Its name.
    pub name: String,
    /// The topics.
    pub filter: TopicFilter,
    /// The position.
    pub position: Position,
    /// When it was made.
    pub created: SystemTime,
}

/// What a topic has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// The topic.
    pub topic: Topic,
    /// How many events.
    pub events: u64,
    /// How many bytes, as [`Event::size`] counts them.
    pub bytes: u64,
    /// The number and time of the oldest event.
    pub first: (u64, SystemTime),
    /// The number and time of the newest event.
    pub last: (u64, SystemTime),
}

/// What to delete from a topic.
#[derive(Clone, Debug)]
pub struct Trim {
    /// The topic.
    pub topic: Topic,
    /// Everything from this number on stays.
    pub needed_from: u64,
    /// These stay too. Rising.
    pub needed: Vec<u64>,
    /// What stays though nobody needs it. `None`: nothing.
    pub retention: Option<Retention>,
    /// What age is counted from.
    pub now: SystemTime,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many events.
    pub events: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Why a storage failed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    /// What was tried and what is wrong, for people.
    pub message: String,
    /// Whether the same may succeed later: the disk is full, say.
    pub is_temporary: bool,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}
