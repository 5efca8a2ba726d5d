//! What topics remember, in memory.

use crate::broker::{Retention, Topic, TopicFilter};
use crate::builtin::Publication;
use crate::builtin::storage::{
    Appended, Contents, Fetch, FetchReply, Page, Position, Progress, SnapshotRecord, Storage,
    StorageError, Stored, SubscriptionRecord, TopicStats, Trim, Trimmed, Which,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// How many events are looked at for one page.
const LOOKED_AT_MAX: usize = 4096;

/// Keeps what retention and snapshots ask for; what subscriptions wait for they
/// hold themselves.
pub struct MemoryStorage {
    last_number: AtomicU64,
    log: Mutex<Log>,
    /// The most that is kept, in bytes: the oldest goes first.
    bytes_max: usize,
}

#[derive(Default)]
struct Log {
    events: BTreeMap<u64, Stored>,
    topics: HashMap<Topic, TopicLog>,
    bytes: usize,
    last_time: Option<SystemTime>,
}

#[derive(Default)]
struct TopicLog {
    /// Rising.
    numbers: VecDeque<u64>,
    bytes: u64,
}

impl MemoryStorage {
    /// An empty one, which keeps no more than this: the oldest goes first.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { last_number: AtomicU64::new(0), log: Mutex::default(), bytes_max }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    fn holds_backlog(&self) -> bool {
        false
    }

    fn load(&self) -> Result<Contents, StorageError> {
        Ok(Contents::default())
    }

    fn append(&self, publication: Publication) -> Appended {
        if !publication.is_kept {
            let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
            return Appended::Now(number, publication.deliver(number));
        }
        // Dropped without the lock.
        let mut forgotten = Vec::new();
        let number = {
            let mut log = self.log.lock();
            let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
            let time = log.last_time.map_or(publication.time, |last| last.max(publication.time));
            log.last_time = Some(time);
            log.push(Stored {
                number,
                time,
                topic: publication.topic.clone(),
                event: publication.event.clone(),
                qos: publication.qos,
                from: publication.from.clone(),
            });
            while log.bytes > self.bytes_max && log.events.len() > 1 {
                forgotten.extend(log.pop_first());
            }
            number
        };
        Appended::Now(number, publication.deliver(number))
    }

    fn last_number(&self) -> u64 {
        self.last_number.load(Ordering::Relaxed)
    }

    fn durable_number(&self) -> u64 {
        self.last_number()
    }

    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError> {
        let log = self.log.lock();
        let topics = log.topics.iter().filter(|(topic, _)| filter.matches(topic));
        let counts = topics.map(|(_, log)| log.numbers.len() - log.index(from));
        Ok(counts.sum::<usize>() as u64)
    }

    fn fetch(&self, fetch: Fetch, reply: FetchReply) {
        let page = self.log.lock().page(&fetch, self.last_number() + 1);
        reply(Ok(page));
    }

    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError> {
        let log = self.log.lock();
        let first = log.events.iter().find(|(_, stored)| stored.time >= time);
        Ok(first.map_or(self.last_number() + 1, |(number, _)| *number))
    }

    fn progressed(&self, _subscription: &Arc<dyn Progress>, _soon: bool) {}

    async fn put_subscription(&self, _: SubscriptionRecord) -> Result<(), StorageError> {
        Ok(())
    }

    async fn set_position(&self, _id: u64, _position: Position) -> Result<(), StorageError> {
        Ok(())
    }

    async fn remove_subscription(&self, _id: u64) -> Result<(), StorageError> {
        Ok(())
    }

    async fn put_snapshot(&self, _snapshot: SnapshotRecord) -> Result<(), StorageError> {
        Ok(())
    }

    async fn remove_snapshot(&self, _name: &str) -> Result<(), StorageError> {
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        let log = self.log.lock();
        let stats = |(topic, of_topic): (&Topic, &TopicLog)| {
            let time = |number: &u64| Some((*number, log.events.get(number)?.time));
            Some(TopicStats {
                topic: topic.clone(),
                events: of_topic.numbers.len() as u64,
                bytes: of_topic.bytes,
                first: of_topic.numbers.front().and_then(time)?,
                last: of_topic.numbers.back().and_then(time)?,
            })
        };
        Ok(log.topics.iter().filter_map(stats).collect())
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed, StorageError> {
        let mut forgotten = Vec::new();
        {
            let mut log = self.log.lock();
            for number in log.unneeded(&trim) {
                forgotten.extend(log.remove(number));
            }
        }
        let bytes = forgotten.iter().map(|stored| stored.event.size() as u64).sum();
        Ok(Trimmed { events: forgotten.len() as u64, bytes })
    }

    async fn close(&self) {}
}

impl Log {
    fn push(&mut self, stored: Stored) {
        let size = stored.event.size();
        let topic = self.topics.entry(stored.topic.clone()).or_default();
        topic.numbers.push_back(stored.number);
        topic.bytes += size as u64;
        self.bytes += size;
        self.events.insert(stored.number, stored);
    }

    fn pop_first(&mut self) -> Option<Stored> {
        let number = *self.events.first_key_value()?.0;
        self.remove(number)
    }

    fn remove(&mut self, number: u64) -> Option<Stored> {
        let stored = self.events.remove(&number)?;
        let size = stored.event.size();
        self.bytes -= size;
        if let Some(topic) = self.topics.get_mut(&stored.topic) {
            topic.bytes -= size as u64;
            if topic.numbers.front() == Some(&number) {
                topic.numbers.pop_front();
            } else {
                let index = topic.index(number);
                topic.numbers.remove(index);
            }
            if topic.numbers.is_empty() {
                self.topics.remove(&stored.topic);
            }
        }
        Some(stored)
    }

    /// The numbers of a topic that are to be deleted.
    fn unneeded(&self, trim: &Trim) -> Vec<u64> {
        let Some(topic) = self.topics.get(&trim.topic) else { return Vec::new() };
        let Retention { age, events, bytes } = trim.retention.unwrap_or_default();
        let (mut count, mut size) = (topic.numbers.len() as u64, topic.bytes);
        let mut found = Vec::new();
        for &number in topic.numbers.iter().take_while(|number| **number < trim.needed_from) {
            let Some(stored) = self.events.get(&number) else { continue };
            let is_old = age.is_some_and(|age| {
                trim.now.duration_since(stored.time).is_ok_and(|since| since >= age)
            });
            let too_many = events.is_some_and(|max| count > max);
            let too_large = bytes.is_some_and(|max| size > max);
            if trim.retention.is_some() && !is_old && !too_many && !too_large {
                break;
            }
            // What is needed counts as well.
            count -= 1;
            size -= stored.event.size() as u64;
            if trim.needed.binary_search(&number).is_err() {
                found.push(number);
            }
        }
        found
    }

    fn page(&self, fetch: &Fetch, end_of_all: u64) -> Page {
        let mut page = Page::default();
        let mut bytes = 0;
        let mut is_full = |page: &Page, stored: &Stored| {
            let size = stored.event.size();
            let full = page.events.len() >= fetch.events_max
                || !page.events.is_empty() && bytes + size > fetch.bytes_max;
            if !full {
                bytes += size;
            }
            full
        };
        match &fetch.which {
            Which::Numbers(numbers) => {
                for number in numbers {
                    let Some(stored) = self.events.get(number) else { continue };
                    if is_full(&page, stored) {
                        page.next = *number;
                        return page;
                    }
                    page.events.push(stored.clone());
                }
                page.next = numbers.last().map_or(end_of_all, |last| last + 1);
            }
            Which::Range { filter, from, end } => {
                let end = end.unwrap_or(end_of_all).min(end_of_all);
                for (looked_at, number) in self.numbers(filter, *from, end).enumerate() {
                    let Some(stored) = self.events.get(&number) else { continue };
                    let matches = filter.matches(&stored.topic);
                    if looked_at >= LOOKED_AT_MAX || matches && is_full(&page, stored) {
                        page.next = number;
                        return page;
                    }
                    if matches {
                        page.events.push(stored.clone());
                    }
                }
                page.next = end.max(*from);
            }
        }
        page.is_last = true;
        page
    }

    /// The numbers of a part of the sequence that are there: of one topic where
    /// the filter names one.
    fn numbers(&self, filter: &TopicFilter, from: u64, end: u64) -> Numbers<'_> {
        if from >= end {
            return Numbers::None;
        }
        if filter.has_wildcard() {
            let range = (Bound::Included(from), Bound::Excluded(end));
            return Numbers::All(self.events.range(range));
        }
        let topic = Topic::new(filter.as_str()).ok();
        match topic.and_then(|topic| self.topics.get(&topic)) {
            Some(topic) => Numbers::One(topic.numbers.range(topic.index(from)..topic.index(end))),
            None => Numbers::None,
        }
    }
}

enum Numbers<'a> {
    None,
    One(std::collections::vec_deque::Iter<'a, u64>),
    All(std::collections::btree_map::Range<'a, u64, Stored>),
}

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::One(numbers) => numbers.next().copied(),
            Self::All(events) => events.next().map(|(number, _)| *number),
        }
    }
}

impl TopicLog {
    /// Where a number is, or would be.
    fn index(&self, number: u64) -> usize {
        self.numbers.partition_point(|other| *other < number)
    }
}
