//! Subscriptions, how far they are, and snapshots.

use super::*;
use crate::broker::EventFilter;
use crate::builtin::storage::{
    Contents, Delta, Position, Progress, SnapshotRecord, SubscriptionRecord,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(super) fn record(id: u64, name: &str) -> SubscriptionRecord {
    SubscriptionRecord {
        id,
        name: name.to_owned(),
        filter: filter("a/+"),
        group: Some("g".to_owned()),
        event_filter: Some(EventFilter::new("attributes.a = \"x\"").unwrap()),
        qos: Qos::EffectivelyOnce,
        not_from: Some("me".to_owned()),
        created: at(1),
        used: at(2),
        expiry: Some(Duration::from_secs(60)),
    }
}

fn position(next: u64, open: &[(u64, u32)]) -> Position {
    Position { next, open: open.to_vec() }
}

/// A subscription that collects what the test puts there.
pub(super) struct Counted {
    id: u64,
    deltas: Mutex<Vec<Delta>>,
    kept: mpsc::UnboundedSender<(u64, bool)>,
}

impl Counted {
    pub(super) fn new(id: u64, delta: Delta) -> (Arc<Self>, mpsc::UnboundedReceiver<(u64, bool)>) {
        let (kept, told) = mpsc::unbounded_channel();
        (Arc::new(Self { id, deltas: Mutex::new(vec![delta]), kept }), told)
    }
}

impl Progress for Counted {
    fn id(&self) -> u64 {
        self.id
    }

    fn collect(&self) -> Option<Delta> {
        self.deltas.lock().pop()
    }

    fn kept(&self, delta: Delta, durable: bool) {
        self.kept.send((delta.ticket, durable)).unwrap();
    }
}

async fn reopened(folder: &Folder, storage: DiskStorage) -> Contents {
    storage.close().await;
    drop(storage);
    let storage = folder.open();
    let contents = storage.load().unwrap();
    storage.close().await;
    contents
}

#[tokio::test]
async fn subscriptions_keep_all_of_themselves() {
    let folder = Folder::new();
    let storage = folder.open();
    let plain = SubscriptionRecord {
        group: None,
        event_filter: None,
        not_from: None,
        expiry: None,
        qos: Qos::AtMostOnce,
        ..record(9, "plain")
    };
    storage.put_subscription(record(1, "one")).await.unwrap();
    storage.put_subscription(plain.clone()).await.unwrap();
    storage.set_position(1, position(7, &[(2, 1), (5, 3)])).await.unwrap();
    // A change leaves the progress.
    let changed = SubscriptionRecord { used: at(99), ..record(1, "one") };
    storage.put_subscription(changed.clone()).await.unwrap();
    storage.put_subscription(record(3, "gone")).await.unwrap();
    storage.set_position(3, position(7, &[(2, 1)])).await.unwrap();
    storage.remove_subscription(3).await.unwrap();
    storage.remove_subscription(77).await.unwrap();
    storage.set_position(77, position(7, &[(2, 1)])).await.unwrap();
    let error = storage.put_subscription(record(4, "one")).await.unwrap_err();
    assert_eq!(error.message, "there is another subscription of the name `one`");

    let found = reopened(&folder, storage).await.subscriptions;
    let expected = [(changed, position(7, &[(2, 1), (5, 3)])), (plain, position(0, &[]))];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn snapshots_are_put_replaced_and_removed() {
    let folder = Folder::new();
    let storage = folder.open();
    let snapshot = |name: &str, next| SnapshotRecord {
        name: name.to_owned(),
        filter: filter("a/#"),
        position: position(next, &[(1, 1), (2, 9)]),
        created: at(next),
    };
    storage.put_snapshot(snapshot("b", 1)).await.unwrap();
    storage.put_snapshot(snapshot("a", 2)).await.unwrap();
    storage.put_snapshot(snapshot("gone", 2)).await.unwrap();
    storage.put_snapshot(snapshot("b", 3)).await.unwrap();
    storage.remove_snapshot("gone").await.unwrap();
    storage.remove_snapshot("gone").await.unwrap();
    let found = reopened(&folder, storage).await.snapshots;
    assert_eq!(found, [snapshot("a", 2), snapshot("b", 3)]);
}

#[tokio::test]
async fn progress_is_kept_by_itself_or_at_once() {
    let folder = Folder::new();
    let storage = folder.open();
    for number in 1..=6 {
        publish(&storage, "a/b", number).await;
    }
    storage.put_subscription(record(1, "one")).await.unwrap();
    storage.set_position(1, position(2, &[(1, 1)])).await.unwrap();
    let delta = Delta { next: 5, opened: vec![(2, 1), (4, 2)], closed: vec![1, 3], ticket: 8 };
    let (one, mut told) = Counted::new(1, delta);
    let progress: Arc<dyn Progress> = one.clone();
    storage.progressed(&progress, false);
    assert_eq!(told.recv().await, Some((8, true)));
    one.deltas.lock().push(Delta {
        next: 6,
        opened: vec![(5, 1), (4, 3)],
        closed: vec![2],
        ticket: 9,
    });
    storage.progressed(&progress, true);
    assert_eq!(told.recv().await, Some((9, true)));
    // Nothing to collect is nothing to keep.
    storage.progressed(&progress, true);
    // One that is not there any more leaves nothing behind.
    let delta = Delta { next: 6, opened: vec![(5, 1)], closed: vec![], ticket: 1 };
    let (gone, mut told_gone) = Counted::new(5, delta);
    storage.progressed(&(gone as Arc<dyn Progress>), true);
    assert_eq!(told_gone.recv().await, Some((1, true)));
    let found = reopened(&folder, storage).await.subscriptions;
    assert_eq!(found[0].1, position(6, &[(4, 3), (5, 1)]));
    assert_sound(&folder.path());
}

#[tokio::test]
async fn the_last_number_is_not_below_what_was_handed_out() {
    let folder = Folder::new();
    let storage = folder.open();
    storage.put_subscription(record(1, "one")).await.unwrap();
    for _ in 0..5 {
        let mut unkept = publication("a", event("x", ""), at(0));
        unkept.is_kept = false;
        answer(storage.append(unkept)).await.unwrap();
    }
    let (one, mut told) = Counted::new(1, Delta { next: 6, ..Delta::default() });
    storage.progressed(&(one as Arc<dyn Progress>), true);
    told.recv().await.unwrap();
    drop(storage);
    assert_eq!(folder.open().last_number(), 5);
}
