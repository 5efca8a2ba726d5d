//! pubsub.disk on a disk that loses power, and on one that fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use testkit::sqlite_disk::{Fault, SqliteDisk};
use tokio::sync::{mpsc, oneshot};
use wasi_pubsub::backends::disk::{self, DiskStorage, Options};
use wasi_pubsub::broker::{Event, Qos, Topic, TopicFilter};
use wasi_pubsub::builtin::Publication;
use wasi_pubsub::builtin::storage::{
    Appended, Delta, Fetch, Position, Progress, Storage, StorageError, Stored, SubscriptionRecord,
    Trim, Which,
};

/// How often the power fails.
const CRASHES: usize = 150;
const EVENTS: u64 = 400;
const PUBLISHERS: u64 = 8;

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + millis)
}

fn open(path: &Path, disk: &SqliteDisk) -> DiskStorage {
    let options = Options { vfs: Some(disk.name().to_owned()), ..Options::default() };
    DiskStorage::open(path, &options).unwrap()
}

async fn publish(storage: &DiskStorage, topic: &str, id: u64) -> Result<u64, StorageError> {
    let data = vec![b'x'; 1 + (id as usize * 7919) % 20_000];
    let event = Event { id: id.to_string(), data: data.into(), ..Event::default() };
    let topic = Topic::new(topic).unwrap();
    match storage.append(Publication::unrouted(topic, Arc::new(event), Qos::AtLeastOnce, at(id))) {
        Appended::Later(reply) => reply.await.unwrap(),
        _ => panic!("the disk is waited for"),
    }
}

async fn all(storage: &DiskStorage) -> Vec<Stored> {
    all_of(storage, "#", 1).await
}

/// What a store has of some topics from a number on.
pub(crate) async fn all_of(storage: &DiskStorage, filter: &str, mut from: u64) -> Vec<Stored> {
    let filter = TopicFilter::new(filter).unwrap();
    let mut found = Vec::new();
    loop {
        let which = Which::Range { filter: filter.clone(), from, end: None };
        let (reply, page) = oneshot::channel();
        let fetch = Fetch { which, events_max: 100, bytes_max: 1 << 20 };
        storage.fetch(fetch, Box::new(|page| reply.send(page).unwrap()));
        let page = page.await.unwrap().unwrap();
        found.extend(page.events);
        if page.is_last {
            return found;
        }
        from = page.next;
    }
}

fn record() -> SubscriptionRecord {
    SubscriptionRecord {
        id: 1,
        name: "one".to_owned(),
        filter: TopicFilter::new("#").unwrap(),
        group: None,
        event_filter: None,
        qos: Qos::AtLeastOnce,
        not_from: None,
        created: at(0),
        used: at(0),
        expiry: None,
    }
}

/// A subscription that acknowledges every number as it comes, but each tenth, which
/// stays open.
struct Acknowledging {
    next: Mutex<(u64, u64)>,
    kept: mpsc::UnboundedSender<(u64, bool)>,
}

impl Acknowledging {
    fn advance(&self, number: u64) {
        let mut next = self.next.lock().unwrap();
        next.1 = next.1.max(number + 1);
    }
}

impl Progress for Acknowledging {
    fn id(&self) -> u64 {
        1
    }

    fn collect(&self) -> Option<Delta> {
        let mut next = self.next.lock().unwrap();
        let opened = (next.0..next.1).filter(|number| number % 10 == 0).map(|number| (number, 1));
        let delta =
            Delta { next: next.1, opened: opened.collect(), closed: vec![], ticket: next.0 };
        next.0 = next.1;
        Some(delta)
    }

    fn kept(&self, delta: Delta, durable: bool) {
        if !durable {
            let mut next = self.next.lock().unwrap();
            next.0 = next.0.min(delta.ticket);
        }
        // The test may be over.
        let _gone = self.kept.send((delta.next, durable));
    }
}

/// What was confirmed, each with how much had happened on the disk by then.
#[derive(Default)]
struct Confirmed {
    events: BTreeMap<u64, (usize, u64)>,
    positions: Vec<(usize, u64)>,
    ready: usize,
}

/// Publishes, acknowledges and trims, on a disk that takes notes; `ready` is called
/// once the store is there.
async fn busy(path: &Path, disk: &'static SqliteDisk, ready: impl FnOnce()) -> Confirmed {
    let storage = Arc::new(open(path, disk));
    storage.put_subscription(record()).await.unwrap();
    storage.set_position(1, Position { next: 1, open: vec![] }).await.unwrap();
    let (kept, mut told) = mpsc::unbounded_channel();
    let subscription = Arc::new(Acknowledging { next: Mutex::new((1, 1)), kept });
    let mut confirmed = Confirmed { ready: disk.operations(), ..Confirmed::default() };
    ready();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (storage, subscription) = (storage.clone(), subscription.clone());
            tokio::spawn(async move {
                let mut events = Vec::new();
                for id in (publisher..EVENTS).step_by(PUBLISHERS as usize) {
                    let number = publish(&storage, &format!("t/{}", id % 3), id).await.unwrap();
                    events.push((number, (disk.operations(), id)));
                    subscription.advance(number);
                    storage.progressed(&(subscription.clone() as Arc<dyn Progress>), id % 5 == 0);
                    if id % 50 == 0 {
                        // What is below 100 goes, but what is open.
                        let needed = (1..10).map(|tenth| tenth * 10).collect();
                        let topic = Topic::new("t/0").unwrap();
                        let (needed_from, retention) = (100.min(number), None);
                        let trim = Trim { topic, needed_from, needed, retention, now: at(id) };
                        storage.trim(trim).await.unwrap();
                    }
                }
                events
            })
        })
        .collect();
    for publisher in publishers {
        confirmed.events.extend(publisher.await.unwrap());
        while let Ok((next, durable)) = told.try_recv() {
            assert!(durable);
            confirmed.positions.push((disk.operations(), next));
        }
    }
    storage.close().await;
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_when_the_power_fails() {
    let folder = TempDir::new().unwrap();
    let disk = SqliteDisk::new();
    let confirmed = busy(&folder.path().join("events.db"), disk, || {}).await;
    assert_eq!(confirmed.events.len() as u64, EVENTS);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut unsynced = 0;
    let before_syncs: Vec<_> =
        disk.before_syncs().into_iter().filter(|n| *n >= confirmed.ready).collect();
    for crash in 0..CRASHES {
        // Now and then when all of a commit is written, and nobody has heard of it.
        // Often all of it or nothing: the order is then as the system likes it.
        let (operations, share) = match crash % 10 {
            0 => (before_syncs[random.usize(..before_syncs.len())], 10),
            _ => (random.usize(confirmed.ready..=disk.operations()), [0, 5, 10][random.usize(..3)]),
        };
        let after = TempDir::new().unwrap();
        disk.crash(operations, after.path(), || random.u8(..10) < share);
        let path = after.path().join("events.db");
        let words = format!("seed {seed}, {operations} operations, {share} of 10");
        unsynced += usize::from(is_sound(&path, &confirmed, operations, &words).await);
    }
    assert!(unsynced > 0, "the power failed while something was under way");
}

/// The same with a disk that says it has synced and has not: what the test above looks
/// at does show what is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_sync_is_found_out() {
    let folder = TempDir::new().unwrap();
    let disk = SqliteDisk::new();
    let confirmed = busy(&folder.path().join("events.db"), disk, || disk.lie()).await;
    let confirmed = Arc::new(confirmed);
    let after = TempDir::new().unwrap();
    let operations = disk.operations();
    disk.crash(operations, after.path(), || false);
    let path = after.path().join("events.db");
    let look = async move { is_sound(&path, &confirmed, operations, "without syncs").await };
    let found = tokio::spawn(look).await.unwrap_err().into_panic();
    let found = found.downcast_ref::<String>().unwrap();
    assert!(found.contains("is lost"), "{found}");
}

/// Each kind of failure, again and again, and then the power.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_when_the_power_fails_on_a_disk_that_fails() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = TempDir::new().unwrap();
    let disk = SqliteDisk::new();
    let storage = open(&folder.path().join("events.db"), disk);
    let ready = disk.operations();
    let (mut confirmed, mut refused) = (BTreeMap::new(), 0);
    for id in 0..EVENTS {
        if random.u8(..3) == 0 {
            let faults = [Fault::Full, Fault::Short, Fault::Write, Fault::Sync];
            disk.fail(faults[random.usize(..4)], random.u64(..3));
        }
        match publish(&storage, &format!("t/{}", id % 3), id).await {
            Ok(number) => drop(confirmed.insert(number, (disk.operations(), id.to_string()))),
            Err(_) => refused += 1,
        }
        if random.bool() {
            disk.heal();
        }
    }
    disk.heal();
    storage.close().await;
    assert!(refused > 20 && confirmed.len() > 20, "seed {seed}: {refused} were refused");
    for _ in 0..CRASHES {
        let operations = random.usize(ready..=disk.operations());
        let after = TempDir::new().unwrap();
        let share = [0, 5, 10][random.usize(..3)];
        disk.crash(operations, after.path(), || random.u8(..10) < share);
        let path = after.path().join("events.db");
        let words = format!("seed {seed}, {operations} operations, {share} of 10");
        let storage = DiskStorage::open(&path, &Options::default())
            .unwrap_or_else(|error| panic!("{words}: {error}"));
        let found: BTreeMap<_, _> = all(&storage)
            .await
            .into_iter()
            .map(|event| (event.number, event.event.id.clone()))
            .collect();
        for (number, (by, id)) in &confirmed {
            match found.get(number) {
                Some(found) => assert_eq!(found, id, "{words}"),
                None => assert!(*by > operations, "{words}: {number} is lost"),
            }
        }
        storage.close().await;
        assert_eq!(disk::check(&path).unwrap(), Vec::<String>::new(), "{words}");
    }
}

/// Returns whether something is there that was not confirmed.
async fn is_sound(path: &Path, confirmed: &Confirmed, operations: usize, words: &str) -> bool {
    let storage = DiskStorage::open(path, &Options::default())
        .unwrap_or_else(|error| panic!("{words}: {error}"));
    let found: BTreeMap<u64, String> = all(&storage)
        .await
        .into_iter()
        .map(|event| (event.number, event.event.id.clone()))
        .collect();
    let mut more = found.len();
    for (number, (by, id)) in &confirmed.events {
        let may_be_trimmed = id % 3 == 0 && *number < 100 && number % 10 > 0;
        match found.get(number) {
            Some(found) => assert_eq!(*found, id.to_string(), "{words}: event {number}"),
            None => assert!(*by > operations || may_be_trimmed, "{words}: {number} is lost"),
        }
        more -= usize::from(*by <= operations && found.contains_key(number));
    }
    let contents = storage.load().unwrap();
    let (subscription, position) = &contents.subscriptions[0];
    assert_eq!(*subscription, record(), "{words}");
    let next = confirmed.positions.iter().filter(|(by, _)| *by <= operations);
    let next = next.map(|(_, next)| *next).max().unwrap_or(0);
    assert!(position.next >= next, "{words}: at {}, and it was at {next}", position.next);
    let open: Vec<u64> = position.open.iter().map(|(number, _)| *number).collect();
    let tenths: Vec<u64> = (1..position.next).filter(|number| number % 10 == 0).collect();
    assert_eq!(open, tenths, "{words}");
    // It goes on.
    assert!(publish(&storage, "after", 0).await.unwrap() >= position.next, "{words}");
    storage.close().await;
    let findings = disk::check(path).unwrap();
    assert!(findings.is_empty(), "{words}: {findings:#?}");
    more > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_fails_publishes_and_nothing_else() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for fault in [Fault::Full, Fault::Short, Fault::Write, Fault::Sync] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events.db");
        let disk = SqliteDisk::new();
        let storage = open(&path, disk);
        storage.put_subscription(record()).await.unwrap();
        let (kept, mut told) = mpsc::unbounded_channel();
        let subscription = Arc::new(Acknowledging { next: Mutex::new((1, 1)), kept });
        let progress: Arc<dyn Progress> = subscription.clone();
        let (mut confirmed, mut refused) = (BTreeMap::new(), 0);
        for id in 0..300 {
            match id % 10 {
                3 => disk.fail(fault, random.u64(..4)),
                8 => disk.heal(),
                _ => {}
            }
            match publish(&storage, "t", id).await {
                Ok(number) => {
                    confirmed.insert(number, id.to_string());
                    subscription.advance(number);
                    storage.progressed(&progress, true);
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.is_temporary, "{error}");
                    let is_full = [Fault::Full, Fault::Short].contains(&fault);
                    let reason = if is_full { "is full" } else { "disk failed" };
                    assert!(error.message.contains(reason), "{error}");
                    assert!(error.message.contains("events.db"), "{error}");
                }
            }
        }
        disk.heal();
        assert!(refused > 0 && disk.failures() >= refused, "{fault:?} {refused}");
        let last = publish(&storage, "t", 300).await.unwrap();
        confirmed.insert(last, "300".to_owned());
        subscription.advance(last);
        storage.progressed(&progress, false);
        // What could not be kept is kept now, by itself.
        let deadline = tokio::time::sleep(Duration::from_secs(20));
        tokio::pin!(deadline);
        let mut given_back = 0;
        loop {
            tokio::select! {
                kept = told.recv() => match kept.unwrap() {
                    (next, true) if next == last + 1 => break,
                    (_, durable) => given_back += u32::from(!durable),
                },
                () = &mut deadline => panic!("seed {seed}: the progress is not kept"),
            }
        }
        assert!(given_back > 0, "seed {seed}: {fault:?} hit progress too");
        let check = async |storage: &DiskStorage| {
            let found: BTreeMap<_, _> = all(storage)
                .await
                .into_iter()
                .map(|event| (event.number, event.event.id.clone()))
                .collect();
            assert_eq!(found, confirmed, "seed {seed}, {fault:?}");
        };
        check(&storage).await;
        storage.close().await;
        drop(storage);
        let storage = DiskStorage::open(&path, &Options::default()).unwrap();
        check(&storage).await;
        assert_eq!(storage.load().unwrap().subscriptions[0].1.next, last + 1);
        storage.close().await;
        assert_eq!(disk::check(&path).unwrap(), Vec::<String>::new());
    }
}
