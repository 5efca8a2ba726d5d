//! The storage beside a plain model of it, through a random life.

use super::progress::{Counted, record};
use super::*;
use crate::broker::Retention;
use crate::builtin::storage::{Delta, Position, Progress, SnapshotRecord, Trim, Trimmed};
use std::collections::BTreeMap;

const SEEDS: u64 = 12;
const STEPS: usize = 60;
const TOPICS: [&str; 12] =
    ["a", "a/b", "a/c", "b/b", "b/c/d", "$x/b", "é", "c/1", "c/2", "c/3", "c/4", "c/5"];
const FILTERS: [&str; 10] = ["a", "a/+", "+/b", "#", "+", "$x/#", "b/#", "c/+", "none", "c/5"];

/// What a storage is, without anything that makes it one.
#[derive(Default)]
struct Model {
    last: u64,
    last_time: u64,
    events: BTreeMap<u64, Kept>,
    subscriptions: BTreeMap<u64, Position>,
    snapshots: BTreeMap<String, Position>,
}

struct Kept {
    topic: &'static str,
    time: u64,
    size: u64,
}

impl Model {
    fn of(&self, text: &str) -> impl Iterator<Item = (u64, &Kept)> {
        let filter = filter(text);
        let matches = move |kept: &Kept| filter.matches(&topic(kept.topic));
        self.events
            .iter()
            .filter(move |(_, kept)| matches(kept))
            .map(|(number, kept)| (*number, kept))
    }

    fn trim(&mut self, trim: &Trim) -> Trimmed {
        let all: Vec<u64> = self.of(trim.topic.as_str()).map(|(number, _)| number).collect();
        let mut trimmed = Trimmed::default();
        for (rank, number) in all.iter().enumerate() {
            let newer = &all[rank..];
            let bytes: u64 = newer.iter().map(|number| self.events[number].size).sum();
            let age = trim.now.duration_since(at(self.events[number].time)).unwrap_or_default();
            let is_remembered = trim.retention.is_some_and(|retention| {
                retention.age.is_none_or(|max| age <= max)
                    && retention.events.is_none_or(|max| newer.len() as u64 <= max)
                    && retention.bytes.is_none_or(|max| bytes <= max)
            });
            if *number < trim.needed_from && !trim.needed.contains(number) && !is_remembered {
                trimmed.events += 1;
                trimmed.bytes += self.events[number].size;
            }
        }
        // The oldest go first: what goes is what was counted, from the front.
        let gone = all.iter().filter(|number| !trim.needed.contains(number));
        for number in gone.take(trimmed.events as usize) {
            self.events.remove(number);
        }
        trimmed
    }
}

struct World {
    folder: Folder,
    storage: Option<DiskStorage>,
    model: Model,
    random: fastrand::Rng,
}

impl World {
    fn storage(&self) -> &DiskStorage {
        self.storage.as_ref().unwrap()
    }

    fn number(&mut self) -> u64 {
        self.random.u64(1..=self.model.last + 2)
    }

    /// Where a position may be: no further than what comes next.
    fn next(&mut self) -> u64 {
        self.random.u64(1..=self.model.last + 1)
    }

    fn open_numbers(&mut self) -> Vec<(u64, u32)> {
        let mut open = BTreeMap::new();
        for _ in 0..self.random.usize(..4) {
            open.insert(self.number(), self.random.u32(1..9));
        }
        open.into_iter().collect()
    }

    fn position(&mut self) -> Position {
        Position { next: self.next(), open: self.open_numbers() }
    }

    async fn step(&mut self) {
        match self.random.u8(..20) {
            0..8 => self.publish().await,
            8..11 => self.trim().await,
            11 => self.seek().await,
            12..14 => self.progress().await,
            14 => self.snapshot().await,
            15 => self.reopen().await,
            _ => {}
        }
        self.look().await;
    }

    async fn publish(&mut self) {
        let mut waiting = Vec::new();
        for _ in 0..self.random.usize(1..30) {
            let topic = TOPICS[self.random.usize(..TOPICS.len())];
            let time = (self.model.last_time + 10 * self.random.u64(..3)).saturating_sub(5);
            let data = vec![b'x'; self.random.usize(..300)];
            let mut publication = publication(topic, event("x", data), at(time));
            publication.qos = Qos::from_level(self.random.u8(..3)).unwrap();
            publication.is_kept = self.random.u8(..10) > 0;
            self.model.last += 1;
            self.model.last_time = self.model.last_time.max(time);
            if publication.is_kept {
                let (time, size) = (self.model.last_time, publication.size as u64);
                self.model.events.insert(self.model.last, Kept { topic, time, size });
            }
            waiting.push((self.model.last, self.storage().append(publication)));
        }
        for (number, appended) in waiting {
            assert_eq!(answer(appended).await.unwrap(), number);
        }
        // Those of qos 0 are not waited for.
        let end = publication("end", event("x", ""), at(self.model.last_time));
        self.model.last += 1;
        let (time, size) = (self.model.last_time, end.size as u64);
        self.model.events.insert(self.model.last, Kept { topic: "end", time, size });
        assert_eq!(answer(self.storage().append(end)).await.unwrap(), self.model.last);
    }

    async fn trim(&mut self) {
        let name = TOPICS[self.random.usize(..TOPICS.len())];
        let mut needed: Vec<u64> = (0..self.random.usize(..5)).map(|_| self.number()).collect();
        needed.sort_unstable();
        needed.dedup();
        let mut some = |max: u64| self.random.bool().then(|| self.random.u64(..max));
        let retention = Retention {
            age: some(500).map(Duration::from_millis),
            events: some(8),
            bytes: some(1500),
        };
        let trim = Trim {
            topic: topic(name),
            needed_from: self.number(),
            needed,
            retention: self.random.bool().then_some(retention),
            now: at(self.model.last_time + 5),
        };
        let expected = self.model.trim(&trim);
        assert_eq!(self.storage().trim(trim).await.unwrap(), expected);
    }

    async fn seek(&mut self) {
        let id = self.random.u64(1..4);
        if self.random.u8(..4) == 0 {
            self.storage().remove_subscription(id).await.unwrap();
            self.model.subscriptions.remove(&id);
            return;
        }
        let position = self.position();
        // Both are one commit.
        let put = self.storage().put_subscription(record(id, &id.to_string()));
        let set = self.storage().set_position(id, position.clone());
        let (put, set) = tokio::join!(put, set);
        put.and(set).unwrap();
        self.model.subscriptions.insert(id, position);
    }

    async fn progress(&mut self) {
        let Some(id) = self.random.choice(self.model.subscriptions.keys().copied()) else {
            return;
        };
        let (next, opened) = (self.next(), self.open_numbers());
        let closed: Vec<u64> = (0..3).map(|_| self.number()).collect();
        let position = self.model.subscriptions.get_mut(&id).unwrap();
        let mut open: BTreeMap<u64, u32> = position.open.iter().copied().collect();
        open.retain(|number, _| !closed.contains(number));
        open.extend(opened.iter().copied());
        *position = Position { next, open: open.into_iter().collect() };
        let (subscription, mut told) = Counted::new(id, Delta { next, opened, closed, ticket: 1 });
        let soon = self.random.bool();
        self.storage().progressed(&(subscription as Arc<dyn Progress>), soon);
        assert_eq!(told.recv().await, Some((1, true)));
    }

    async fn snapshot(&mut self) {
        let name = self.random.u8(..3).to_string();
        if self.random.bool() {
            self.storage().remove_snapshot(&name).await.unwrap();
            self.model.snapshots.remove(&name);
            return;
        }
        let position = self.position();
        let (filter, created) = (filter("a/#"), at(0));
        self.model.snapshots.insert(name.clone(), position.clone());
        let snapshot = SnapshotRecord { name, filter, position, created };
        self.storage().put_snapshot(snapshot).await.unwrap();
    }

    async fn reopen(&mut self) {
        let storage = self.storage.take().unwrap();
        if self.random.bool() {
            storage.close().await;
        }
        drop(storage);
        self.storage = Some(self.folder.open());
        let contents = self.storage().load().unwrap();
        let found =
            contents.subscriptions.into_iter().map(|(record, position)| (record.id, position));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), self.model.subscriptions);
        let found = contents.snapshots.into_iter().map(|found| (found.name, found.position));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), self.model.snapshots);
        // What was only a number may be given again.
        let last = self.storage().last_number();
        assert!(last <= self.model.last);
        self.model.last = last;
        let newest = self.model.events.last_key_value().map_or(0, |(number, _)| *number);
        assert!(last >= newest);
    }

    async fn look(&mut self) {
        let text = FILTERS[self.random.usize(..FILTERS.len())];
        let (mut from, max) = (self.number(), self.random.usize(1..20));
        let end = self.random.bool().then(|| self.number());
        let expected: Vec<u64> = self
            .model
            .of(text)
            .map(|(number, _)| number)
            .filter(|number| *number >= from && end.is_none_or(|end| *number < end))
            .collect();
        let counted = self.model.of(text).filter(|(number, _)| *number >= from).count() as u64;
        assert_eq!(self.storage().count(&filter(text), from).await.unwrap(), counted);
        let mut found = Vec::new();
        loop {
            let page = page(self.storage(), of(text, from, end), max).await;
            found.extend(numbers(&page));
            if page.is_last {
                break;
            }
            assert!(page.next > from && end.is_none_or(|end| page.next <= end));
            from = page.next;
        }
        assert_eq!(found, expected, "{text} {end:?}");

        let asked: Vec<u64> =
            (1..=self.model.last + 1).filter(|_| self.random.u8(..9) == 0).collect();
        let there = asked.iter().copied().filter(|number| self.model.events.contains_key(number));
        let found = page(self.storage(), Which::Numbers(asked.clone()), usize::MAX).await;
        assert_eq!(numbers(&found), there.collect::<Vec<_>>());

        let time = self.random.u64(..self.model.last_time + 20);
        let first = self.model.events.iter().find(|(_, kept)| kept.time >= time);
        let found = self.storage().number_at(at(time)).await.unwrap();
        match first {
            Some((number, _)) => assert_eq!(found, *number),
            None => assert!(self.model.events.keys().all(|number| *number < found)),
        }
        self.look_at_topics().await;
    }

    async fn look_at_topics(&self) {
        let mut found = BTreeMap::new();
        for stats in self.storage().topics().await.unwrap() {
            found.insert(
                stats.topic.as_str().to_owned(),
                (stats.events, stats.bytes, stats.first, stats.last),
            );
        }
        let mut expected = BTreeMap::new();
        for (number, kept) in &self.model.events {
            let place = (*number, at(kept.time));
            let stats = expected.entry(kept.topic.to_owned()).or_insert((0, 0, place, place));
            *stats = (stats.0 + 1, stats.1 + kept.size, stats.2, place);
        }
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_random_life_is_that_of_the_model() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + SEEDS {
        let folder = Folder::new();
        let (storage, random) = (Some(folder.open()), fastrand::Rng::with_seed(seed));
        let mut world = World { folder, storage, model: Model::default(), random };
        let life = async {
            for _ in 0..STEPS {
                world.step().await;
            }
            world.reopen().await;
            world.storage().close().await;
        };
        let failed = std::panic::AssertUnwindSafe(life);
        let ended = futures_util::FutureExt::catch_unwind(failed).await;
        assert!(ended.is_ok(), "seed {seed}");
    }
}
