//! A durable storage without a disk: maps, and a list of what was asked for.
//!
//! It commits some simulated time after it was asked, fetches after some time too,
//! in pages as small as the seed wants them, and fails when it is told to. After a
//! crash there is what was committed, and nothing else.

use async_trait::async_trait;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, yield_now};
use wasi_pubsub::broker::{Retention, Topic, TopicFilter};
use wasi_pubsub::builtin::Publication;
use wasi_pubsub::builtin::storage::{
    Appended, Contents, Delta, Fetch, FetchReply, Page, Position, Progress, SnapshotRecord,
    Storage, StorageError, Stored, SubscriptionRecord, TopicStats, Trim, Trimmed, Which,
};

/// How it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// The longest time until a commit, in milliseconds.
    pub(crate) commit_millis: u64,
    /// The longest time until a page is there, in milliseconds; 0: at once.
    pub(crate) fetch_millis: u64,
    /// The most events of a page, whatever is asked for.
    pub(crate) page_events_max: usize,
    /// The most events that there is room for.
    pub(crate) events_max: usize,
}

/// What survives a crash.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    events: BTreeMap<u64, Stored>,
    subscriptions: BTreeMap<u64, (SubscriptionRecord, Position)>,
    snapshots: BTreeMap<String, SnapshotRecord>,
    once: Vec<(u128, SystemTime)>,
    last_number: u64,
}

type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What was asked for and is not committed yet.
enum Asked {
    Append(u64, Box<Publication>, Reply<u64>),
    Put(Box<SubscriptionRecord>, Reply<()>),
    Position(u64, Position, Reply<()>),
    Remove(u64, Reply<()>),
    PutSnapshot(Box<SnapshotRecord>, Reply<()>),
    RemoveSnapshot(String, Reply<()>),
    Trim(Box<Trim>, Reply<Trimmed>),
    Nothing(Reply<()>),
}

struct State {
    kept: Kept,
    asked: Vec<Asked>,
    /// The numbers of what is being committed or delivered.
    under_way: Vec<u64>,
    progress: Vec<Arc<dyn Progress>>,
    last_number: u64,
    last_time: SystemTime,
    rng: Rng,
    is_failing: bool,
}

struct Shared {
    manner: Manner,
    state: Mutex<State>,
    was_asked: Notify,
}

/// See the head of this file.
pub(crate) struct Plain {
    shared: Arc<Shared>,
    committer: JoinHandle<()>,
}

impl Plain {
    /// Opens what was kept.
    pub(crate) fn open(kept: Kept, manner: Manner, rng: Rng) -> Self {
        let last_number = kept.last_number;
        let last_time = kept.events.values().map(|stored| stored.time).max();
        let state = State {
            kept,
            asked: Vec::new(),
            under_way: Vec::new(),
            progress: Vec::new(),
            last_number,
            last_time: last_time.unwrap_or(SystemTime::UNIX_EPOCH),
            rng,
            is_failing: false,
        };
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { manner, state, was_asked: Notify::new() });
        let committer = tokio::spawn(commit_again_and_again(shared.clone()));
        Self { shared, committer }
    }

    /// What survives now.
    pub(crate) fn kept(&self) -> Kept {
        self.shared.state().kept.clone()
    }

    /// Whether it fails from now on.
    pub(crate) fn fail(&self, is_failing: bool) {
        self.shared.state().is_failing = is_failing;
    }

    async fn ask<T>(&self, asked: impl FnOnce(Reply<T>) -> Asked) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.shared.state().asked.push(asked(reply));
        self.shared.was_asked.notify_one();
        answer.await.unwrap_or_else(|_| Err(failed("it was closed")))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.committer.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(why: &str) -> StorageError {
    StorageError { message: format!("simulated: {why}"), is_temporary: true }
}

async fn commit_again_and_again(shared: Arc<Shared>) {
    loop {
        shared.was_asked.notified().await;
        let wait = {
            let mut state = shared.state();
            // What fails is not tried again at once.
            let least = if state.is_failing { 5 } else { 0 };
            state.rng.u64(0..=shared.manner.commit_millis).max(least)
        };
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        commit(&shared).await;
    }
}

async fn commit(shared: &Shared) {
    let progress = std::mem::take(&mut shared.state().progress);
    // Called without the lock: who is asked may ask back.
    let deltas: Vec<_> = progress.iter().map(|of| (of.clone(), of.collect())).collect();
    let (asked, is_failing, waits) = {
        let mut state = shared.state();
        let asked = std::mem::take(&mut state.asked);
        let numbers = asked.iter().filter_map(|asked| match asked {
            Asked::Append(number, ..) => Some(*number),
            _ => None,
        });
        state.under_way = numbers.collect();
        if !state.is_failing {
            // A position may be behind numbers of what was not kept.
            state.kept.last_number = state.last_number;
        }
        (asked, state.is_failing, state.rng.bool())
    };
    let mut effects: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (of, delta) in deltas {
        let Some(delta) = delta else { continue };
        if !is_failing {
            shared.state().kept.apply(of.id(), &delta);
        }
        if is_failing {
            let mut state = shared.state();
            state.progress.retain(|other| other.id() != of.id());
            state.progress.push(of.clone());
            shared.was_asked.notify_one();
        }
        effects.push(Box::new(move || of.kept(delta, !is_failing)));
    }
    for asked in asked {
        let effect = match is_failing {
            true => asked.fail(),
            false => asked.apply(&mut shared.state().kept),
        };
        effects.push(effect);
    }
    if waits {
        // What is committed can be fetched before it is delivered.
        yield_now().await;
    }
    effects.into_iter().for_each(|effect| effect());
    shared.state().under_way.clear();
}

impl Asked {
    fn fail(self) -> Box<dyn FnOnce() + Send> {
        let error = failed("it fails");
        Box::new(move || match self {
            Self::Append(_, publication, reply) => {
                drop(publication);
                let _gone = reply.send(Err(error));
            }
            Self::Put(_, reply)
            | Self::Position(_, _, reply)
            | Self::Remove(_, reply)
            | Self::PutSnapshot(_, reply)
            | Self::RemoveSnapshot(_, reply)
            | Self::Nothing(reply) => {
                let _gone = reply.send(Err(error));
            }
            Self::Trim(_, reply) => {
                let _gone = reply.send(Err(error));
            }
        })
    }

    fn apply(self, kept: &mut Kept) -> Box<dyn FnOnce() + Send> {
        let reply = match self {
            Self::Append(number, publication, reply) => {
                kept.append(number, &publication);
                return Box::new(move || {
                    publication.deliver(number).send();
                    let _gone = reply.send(Ok(number));
                });
            }
            Self::Trim(trim, reply) => {
                let trimmed = kept.trim(&trim);
                return Box::new(move || {
                    let _gone = reply.send(Ok(trimmed));
                });
            }
            Self::Put(record, reply) => {
                let next = kept.last_number + 1;
                let position = kept.subscriptions.remove(&record.id).map(|(_, position)| position);
                let position = position.unwrap_or(Position { next, open: Vec::new() });
                kept.subscriptions.insert(record.id, (*record, position));
                reply
            }
            Self::Position(id, position, reply) => {
                if let Some((_, held)) = kept.subscriptions.get_mut(&id) {
                    *held = position;
                }
                reply
            }
            Self::Remove(id, reply) => {
                kept.subscriptions.remove(&id);
                reply
            }
            Self::PutSnapshot(snapshot, reply) => {
                kept.snapshots.insert(snapshot.name.clone(), *snapshot);
                reply
            }
            Self::RemoveSnapshot(name, reply) => {
                kept.snapshots.remove(&name);
                reply
            }
            Self::Nothing(reply) => reply,
        };
        Box::new(move || {
            let _gone = reply.send(Ok(()));
        })
    }
}

impl Kept {
    fn append(&mut self, number: u64, publication: &Publication) {
        let stored = Stored {
            number,
            time: publication.time,
            topic: publication.topic.clone(),
            event: publication.event.clone(),
            qos: publication.qos,
            from: publication.from.clone(),
        };
        if publication.is_kept {
            self.events.insert(number, stored);
        }
        self.once.extend(publication.once);
    }

    fn apply(&mut self, id: u64, delta: &Delta) {
        let Some((_, position)) = self.subscriptions.get_mut(&id) else { return };
        let mut open: BTreeMap<u64, u32> = position.open.iter().copied().collect();
        open.extend(delta.opened.iter().copied());
        open.retain(|number, _| !delta.closed.contains(number));
        *position = Position { next: delta.next, open: open.into_iter().collect() };
    }

    fn trim(&mut self, trim: &Trim) -> Trimmed {
        let of_topic = self.events.values().filter(|stored| stored.topic == trim.topic);
        let (mut newer_events, mut newer_bytes) = (0, 0);
        let mut gone = Vec::new();
        for stored in of_topic.rev() {
            newer_events += 1;
            newer_bytes += stored.event.size() as u64;
            let needed = stored.number >= trim.needed_from || trim.needed.contains(&stored.number);
            let age = trim.now.duration_since(stored.time).unwrap_or_default();
            let retained =
                trim.retention.is_some_and(|Retention { age: oldest, events, bytes }| {
                    oldest.is_none_or(|oldest| age <= oldest)
                        && events.is_none_or(|most| newer_events <= most)
                        && bytes.is_none_or(|most| newer_bytes <= most)
                });
            if !needed && !retained {
                gone.push((stored.number, stored.event.size() as u64));
            }
        }
        for (number, _) in &gone {
            self.events.remove(number);
        }
        let bytes = gone.iter().map(|(_, size)| size).sum();
        Trimmed { events: gone.len() as u64, bytes }
    }

    fn page(&self, fetch: &Fetch, events_max: usize, end_of_all: u64) -> Page {
        let events_max = fetch.events_max.min(events_max).max(1);
        let mut page = Page::default();
        let mut bytes = 0;
        let mut full = |page: &Page, stored: &Stored| {
            bytes += stored.event.size();
            page.events.len() >= events_max || !page.events.is_empty() && bytes > fetch.bytes_max
        };
        match &fetch.which {
            Which::Numbers(numbers) => {
                for number in numbers {
                    let Some(stored) = self.events.get(number) else { continue };
                    if full(&page, stored) {
                        page.next = *number;
                        return page;
                    }
                    page.events.push(stored.clone());
                }
                page.next = numbers.last().map_or(0, |last| last + 1);
            }
            Which::Range { filter, from, end } => {
                let end = end.unwrap_or(u64::MAX);
                let found = self.events.range(from..&end.max(*from)).map(|(_, stored)| stored);
                for stored in found.filter(|stored| filter.matches(&stored.topic)) {
                    if full(&page, stored) {
                        page.next = stored.number;
                        return page;
                    }
                    page.events.push(stored.clone());
                }
                page.next = end_of_all.min(end).max(*from);
            }
        }
        page.is_last = true;
        page
    }

    fn topics(&self) -> Vec<TopicStats> {
        let mut topics: BTreeMap<Topic, TopicStats> = BTreeMap::new();
        for stored in self.events.values() {
            let this = (stored.number, stored.time);
            let stats = topics.entry(stored.topic.clone()).or_insert_with(|| TopicStats {
                topic: stored.topic.clone(),
                events: 0,
                bytes: 0,
                first: this,
                last: this,
            });
            stats.events += 1;
            stats.bytes += stored.event.size() as u64;
            stats.last = this;
        }
        topics.into_values().collect()
    }
}

#[async_trait]
impl Storage for Plain {
    fn holds_backlog(&self) -> bool {
        true
    }

    fn load(&self) -> Result<Contents, StorageError> {
        let state = self.shared.state();
        Ok(Contents {
            subscriptions: state.kept.subscriptions.values().cloned().collect(),
            snapshots: state.kept.snapshots.values().cloned().collect(),
            once: state.kept.once.clone(),
        })
    }

    fn append(&self, mut publication: Publication) -> Appended {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut state = self.shared.state();
            let held = state.kept.events.len() + state.asked.len();
            if publication.is_kept && held >= self.shared.manner.events_max {
                return Appended::Full(publication);
            }
            state.last_number += 1;
            let number = state.last_number;
            if publication.is_kept || publication.once.is_some() {
                publication.time = publication.time.max(state.last_time);
                if publication.is_kept {
                    state.last_time = publication.time;
                }
                state.asked.push(Asked::Append(number, Box::new(publication), reply));
                self.shared.was_asked.notify_one();
                return Appended::Later(answer);
            }
            number
        };
        Appended::Now(number, publication.deliver(number))
    }

    fn last_number(&self) -> u64 {
        self.shared.state().last_number
    }

    fn durable_number(&self) -> u64 {
        let state = self.shared.state();
        let asked = state.asked.iter().filter_map(|asked| match asked {
            Asked::Append(number, ..) => Some(*number),
            _ => None,
        });
        let first = asked.chain(state.under_way.iter().copied()).min();
        first.map_or(state.last_number, |first| first - 1)
    }

    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError> {
        let state = self.shared.state();
        let found = state.kept.events.range(from..).map(|(_, stored)| stored);
        Ok(found.filter(|stored| filter.matches(&stored.topic)).count() as u64)
    }

    fn fetch(&self, fetch: Fetch, reply: FetchReply) {
        let wait = self.shared.state().rng.u64(0..=self.shared.manner.fetch_millis);
        let shared = self.shared.clone();
        let answer = move || {
            let page = {
                let mut state = shared.state();
                let events_max = state.rng.usize(1..=shared.manner.page_events_max);
                match state.is_failing {
                    true => Err(failed("it fails")),
                    false => Ok(state.kept.page(&fetch, events_max, state.kept.last_number + 1)),
                }
            };
            reply(page);
        };
        if wait == 0 && self.shared.manner.fetch_millis == 0 {
            return answer();
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            answer();
        });
    }

    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError> {
        self.ask(Asked::Nothing).await?;
        let state = self.shared.state();
        let found = state.kept.events.values().find(|stored| stored.time >= time);
        Ok(found.map_or(state.kept.last_number + 1, |stored| stored.number))
    }

    fn progressed(&self, subscription: &Arc<dyn Progress>, _soon: bool) {
        let mut state = self.shared.state();
        if state.progress.iter().all(|other| other.id() != subscription.id()) {
            state.progress.push(subscription.clone());
        }
        drop(state);
        self.shared.was_asked.notify_one();
    }

    async fn put_subscription(&self, subscription: SubscriptionRecord) -> Result<(), StorageError> {
        self.ask(|reply| Asked::Put(Box::new(subscription), reply)).await
    }

    async fn set_position(&self, id: u64, position: Position) -> Result<(), StorageError> {
        self.ask(|reply| Asked::Position(id, position, reply)).await
    }

    async fn remove_subscription(&self, id: u64) -> Result<(), StorageError> {
        self.ask(|reply| Asked::Remove(id, reply)).await
    }

    async fn put_snapshot(&self, snapshot: SnapshotRecord) -> Result<(), StorageError> {
        self.ask(|reply| Asked::PutSnapshot(Box::new(snapshot), reply)).await
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.ask(|reply| Asked::RemoveSnapshot(name.to_owned(), reply)).await
    }

    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        self.ask(Asked::Nothing).await?;
        Ok(self.shared.state().kept.topics())
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed, StorageError> {
        self.ask(|reply| Asked::Trim(Box::new(trim), reply)).await
    }

    async fn close(&self) {
        let _durable = self.ask(Asked::Nothing).await;
    }
}
