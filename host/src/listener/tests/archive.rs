//! What is noted is written, and what cannot be written is tried again.

use super::super::archive::{Archive, Promise, RETAINED, SESSION};
use super::super::retained::{RetainedMessage, RetainedStore};
use crate::broker::driver::{RecordChange, Records};
use crate::broker::{BrokerError, Event, Qos, Topic};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;

type Found = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// Records in memory, that can fail, and can be made to wait.
struct Fake {
    found: Mutex<Found>,
    puts: AtomicUsize,
    changes: AtomicUsize,
    fails: AtomicBool,
    /// Each write takes one.
    permits: Semaphore,
}

impl Fake {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            found: Mutex::default(),
            puts: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            permits: Semaphore::new(permits),
        })
    }

    fn value(&self, kind: u8, key: &[u8]) -> Option<Vec<u8>> {
        self.found.lock().get(&(kind, key.to_vec())).cloned()
    }
}

#[async_trait]
impl Records for Fake {
    async fn load(&self, _: u8, _: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, BrokerError> {
        Ok(Vec::new())
    }

    async fn put(&self, changes: Vec<RecordChange>) -> Result<(), BrokerError> {
        self.permits.acquire().await.unwrap().forget();
        self.puts.fetch_add(1, SeqCst);
        if self.fails.load(SeqCst) {
            return Err(BrokerError::Unavailable("the disk is full".into()));
        }
        self.changes.fetch_add(changes.len(), SeqCst);
        let mut found = self.found.lock();
        for RecordChange { kind, key, value } in changes {
            match value {
                Some(value) => found.insert((kind, key), value),
                None => found.remove(&(kind, key)),
            };
        }
        Ok(())
    }
}

fn session(key: u8, value: Option<u8>) -> RecordChange {
    RecordChange { kind: SESSION, key: vec![key], value: value.map(|value| vec![value]) }
}

fn message(topic: &str, data: &str) -> RetainedMessage {
    let event = Event { data: data.to_owned().into(), ..Event::default() };
    let topic = Topic::new(topic).unwrap();
    RetainedMessage { topic, event: Arc::new(event), qos: Qos::AtLeastOnce, from: None }
}

#[tokio::test(start_paused = true)]
async fn of_what_changes_often_the_last_state_is_written() {
    let fake = Fake::new(0);
    let archive = Archive::new(fake.clone());
    let running = tokio::spawn(archive.clone().run());
    let mut last = Promise::default();
    assert!(last.is_kept());
    for round in 0..100 {
        last = archive.note([session(1, Some(round)), session(2, Some(round))]);
        // The first is on its way, and waits.
        tokio::task::yield_now().await;
    }
    assert!(!last.is_kept());
    fake.permits.add_permits(1000);
    last.clone().kept().await.unwrap();
    assert!(last.is_kept());
    assert_eq!(fake.value(SESSION, &[1]), Some(vec![99]));
    assert!(fake.puts.load(SeqCst) <= 3 && fake.changes.load(SeqCst) <= 6);
    archive.note([session(1, None)]).kept().await.unwrap();
    assert_eq!(fake.value(SESSION, &[1]), None);
    // Nothing is written again.
    let puts = fake.puts.load(SeqCst);
    archive.all().kept().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.puts.load(SeqCst), puts);
    archive.close(Duration::from_secs(1)).await;
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_said_and_tried_again() {
    let fake = Fake::new(usize::MAX >> 4);
    let archive = Archive::new(fake.clone());
    let store = RetainedStore::new(100, 10_000, Some(archive.clone()));
    tokio::spawn(archive.clone().run());
    fake.fails.store(true, SeqCst);
    let old = archive.note([session(1, Some(1)), session(2, Some(2))]);
    let retained = store.set(message("a", "old")).unwrap();
    let patient = tokio::spawn(old.clone().kept_at_last());
    for promise in [old, retained] {
        let error = promise.kept().await.unwrap_err();
        assert_eq!(error, BrokerError::Unavailable("the disk is full".into()));
    }
    // What is noted meanwhile is newer.
    let new = archive.note([session(1, Some(7))]);
    let removed = store.set(message("a", "")).unwrap();
    fake.fails.store(false, SeqCst);
    new.kept().await.unwrap();
    removed.kept().await.unwrap();
    patient.await.unwrap().unwrap();
    assert_eq!(fake.value(SESSION, &[1]), Some(vec![7]));
    assert_eq!(fake.value(SESSION, &[2]), Some(vec![2]));
    assert_eq!(fake.value(RETAINED, b"a"), None);
    assert_eq!(archive.removals(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_what_is_noted_and_not_for_ever() {
    let fake = Fake::new(0);
    let archive = Archive::new(fake.clone());
    tokio::spawn(archive.clone().run());
    let (first, begun) = (archive.note([session(1, Some(1))]), archive.clone());
    // Something that goes on beside notes more at its end.
    archive.spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        begun.note([session(2, Some(2))]);
    });
    fake.permits.add_permits(2);
    archive.close(Duration::from_secs(5)).await;
    assert!(first.is_kept());
    assert_eq!(fake.value(SESSION, &[2]), Some(vec![2]));
    let late = archive.note([session(3, Some(3))]);
    assert!(matches!(late.kept_at_last().await, Err(BrokerError::Closed(_))));

    let archive = Archive::new(Fake::new(0));
    tokio::spawn(archive.clone().run());
    let stuck = archive.note([session(1, Some(1))]);
    let began = tokio::time::Instant::now();
    archive.close(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert!(!stuck.is_kept());
}

/// However many topics a client uses in turn, what waits for the disk is bounded.
#[tokio::test(start_paused = true)]
async fn removals_that_are_not_written_take_room() {
    const MAX: usize = 10;
    let fake = Fake::new(0);
    let archive = Archive::new(fake.clone());
    let store = RetainedStore::new(MAX, 10_000, Some(archive.clone()));
    store.is_complete();
    tokio::spawn(archive.clone().run());
    let mut refused = 0;
    for round in 0..1000 {
        // The first write is under way, and does not end.
        tokio::task::yield_now().await;
        let topic = format!("t/{round}");
        refused += usize::from(store.set(message(&topic, "x")).is_none());
        assert!(store.set(message(&topic, "")).is_some());
        assert!(archive.removals() <= MAX);
    }
    assert_eq!(refused, 1000 - MAX);
    fake.permits.add_permits(1000);
    archive.all().kept().await.unwrap();
    assert_eq!(archive.removals(), 0);
    assert!(store.set(message("t", "x")).is_some());
    archive.all().kept().await.unwrap();
    assert_eq!(fake.found.lock().len(), 1);
    // What the server says of itself is not kept.
    assert!(store.set(message("$SYS/broker/x", "x")).unwrap().is_kept());
    archive.all().kept().await.unwrap();
    assert_eq!(fake.found.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn much_is_written_in_steps() {
    let fake = Fake::new(usize::MAX >> 4);
    let archive = Archive::new(fake.clone());
    let store = RetainedStore::new(100, 1 << 30, Some(archive.clone()));
    for n in 0..10 {
        store.set(message(&format!("t/{n}"), &"x".repeat(1 << 20))).unwrap();
    }
    tokio::spawn(archive.clone().run());
    archive.all().kept().await.unwrap();
    assert_eq!(fake.found.lock().len(), 10);
    assert_eq!(fake.puts.load(SeqCst), 3);
    let bytes = fake.value(RETAINED, b"t/7").unwrap();
    let read = RetainedMessage::from_bytes(b"t/7", bytes).unwrap();
    assert_eq!((read.event.data.len(), read.qos), (1 << 20, Qos::AtLeastOnce));
}
