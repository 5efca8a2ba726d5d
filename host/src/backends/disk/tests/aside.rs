//! What is kept beside events.

use super::*;
use crate::broker::driver::{
    Connection, Parting, Ready, RecordChange, Records, Source, SubscribeRequest,
};
use crate::broker::{Budget, Order, Share, Start};
use crate::builtin::{BuiltIn, Settings};

const KIND: u8 = 7;

fn change(key: &[u8], value: Option<&[u8]>) -> RecordChange {
    RecordChange { kind: KIND, key: key.into(), value: value.map(Vec::from) }
}

async fn everything(records: &dyn Records, kind: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        let after = found.last().map_or(Vec::new(), |(key, _)| key.clone());
        let page = records.load(kind, &after).await.unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

#[tokio::test]
async fn records_outlive_the_process() {
    let folder = Folder::new();
    let storage = folder.open();
    let records = storage.records().unwrap();
    let put = vec![
        change(b"b", Some(b"first")),
        change(b"a", Some(&[0, 255])),
        change(b"b", Some(b"second")),
        change(b"c", Some(b"")),
        change(b"c", None),
        change(b"none", None),
        RecordChange { kind: KIND + 1, ..change(b"a", Some(b"of another kind")) },
    ];
    records.put(put).await.unwrap();
    drop((records, storage));

    let storage = folder.open();
    let records = storage.records().unwrap();
    let expected = [(b"a".to_vec(), vec![0, 255]), (b"b".to_vec(), b"second".to_vec())];
    assert_eq!(everything(&*records, KIND).await, expected);
    assert_eq!(everything(&*records, KIND + 1).await.len(), 1);
    assert_eq!(everything(&*records, KIND + 2).await.len(), 0);
    storage.close().await;
    let error = records.put(vec![change(b"x", None)]).await.unwrap_err();
    assert!(error.to_string().contains("is closed"), "{error}");
    assert_sound(&folder.path());
}

#[tokio::test]
async fn many_records_come_by_pages_in_the_order_of_their_keys() {
    const RECORDS: u32 = 10_000;
    let folder = Folder::new();
    let storage = folder.open();
    let records = storage.records().unwrap();
    let all = (0..RECORDS).rev().map(|n| change(&n.to_be_bytes(), Some(&[1])));
    records.put(all.collect()).await.unwrap();
    assert!(records.load(KIND, b"").await.unwrap().len() < RECORDS as usize);
    let found = everything(&*records, KIND).await;
    assert!(
        found.iter().map(|(key, _)| key.clone()).eq((0..RECORDS).map(|n| n.to_be_bytes().to_vec()))
    );
    // Large ones make a page short, and one is always in it.
    let large = vec![9; 5 << 20];
    let two = [b"x", b"y"].map(|key| RecordChange { kind: 1, ..change(key, Some(&large)) });
    records.put(two.into()).await.unwrap();
    assert_eq!(records.load(1, b"").await.unwrap().len(), 1);
    assert_eq!(everything(&*records, 1).await.len(), 2);
}

#[tokio::test]
async fn records_change_in_one_step_with_an_event() {
    let folder = Folder::new();
    let storage = folder.open();
    let mut publication = publication("a", event("1", "x"), at(1));
    publication.records = vec![change(b"with", Some(b"it"))];
    assert_eq!(answer(storage.append(publication)).await.unwrap(), 1);
    // Also where the event itself is for nobody.
    let mut unkept = super::publication("a", event("2", "x"), at(2));
    unkept.is_kept = false;
    unkept.records = vec![change(b"without", Some(b"it"))];
    assert_eq!(answer(storage.append(unkept)).await.unwrap(), 2);
    drop(storage);
    let storage = folder.open();
    let found = everything(&*storage.records().unwrap(), KIND).await;
    assert_eq!(found.len(), 2);
    assert_eq!(all(&storage, "#").await, [1]);
}

/// A broker on a store.
fn broker(folder: &Folder) -> Arc<BuiltIn> {
    BuiltIn::open(Arc::new(folder.open()), Settings::default()).unwrap()
}

async fn publish_with(broker: &BuiltIn, name: &str, key: &[u8]) {
    let event = Arc::new(event(name, "x"));
    let changes = vec![change(key, Some(b"1"))];
    let topic = topic(name);
    let submitted = broker.submit(&topic, event, Qos::EffectivelyOnce, None, changes).await;
    submitted.unwrap().stored().await.unwrap();
}

#[tokio::test]
async fn a_broker_changes_records_whatever_becomes_of_the_event() {
    let folder = Folder::new();
    let broker = broker(&folder);
    let source = broker.subscribe(request("one", None, false)).await.unwrap();
    publish_with(&broker, "a", b"wanted").await;
    publish_with(&broker, "a", b"published before").await;
    publish_with(&broker, "b", b"unwanted").await;
    let found = everything(&*broker.records().unwrap(), KIND).await;
    let keys: Vec<_> = found.iter().map(|(key, _)| String::from_utf8_lossy(key)).collect();
    assert_eq!(keys, ["published before", "unwanted", "wanted"]);
    let mut taken = Vec::new();
    source.take(10, &mut taken).unwrap();
    assert_eq!(taken.len(), 1);
    let number = taken[0].number.unwrap();
    assert!(source.awaits(number));
    source.settle(taken[0].token, crate::broker::driver::Settlement::Ack);
    assert!(!source.awaits(number) && source.awaits(number + 100));
}

fn request(label: &str, group: Option<&str>, is_temporary: bool) -> SubscribeRequest {
    SubscribeRequest {
        label: label.into(),
        filter: filter("a"),
        group: group.map(str::to_owned),
        qos: Qos::EffectivelyOnce,
        order: Order::None,
        event_filter: None,
        start: Start::New,
        is_temporary,
        max_in_flight: 10,
        max_in_flight_bytes: 1 << 20,
        group_max_in_flight: None,
        share: Share::new(&Budget::unbounded()),
        backlog_bound: None,
        not_from: None,
        ready: Ready(Arc::new(|| {})),
    }
}

async fn end(source: &Arc<dyn Source>, parting: Parting) {
    source.part(parting);
    source.stop();
    source.parted().await;
}

/// How many subscriptions a store has.
async fn subscriptions(folder: &Folder, broker: Arc<BuiltIn>) -> usize {
    broker.close(Duration::ZERO).await;
    drop(broker);
    folder.open().load().unwrap().subscriptions.len()
}

/// A group of a component must not end because a client of it goes while the component
/// is replaced, or the host ends.
#[tokio::test]
async fn a_group_stays_for_a_member_that_comes_again() {
    for (leaves, stays) in [(Some(Parting::Removed), 0), (Some(Parting::Replaced), 1), (None, 1)] {
        for is_temporary in [true, false] {
            let folder = Folder::new();
            let broker = broker(&folder);
            let owner = broker.subscribe(request("owner", Some("g"), false)).await.unwrap();
            let other = broker.subscribe(request("other", Some("g"), is_temporary)).await.unwrap();
            if let Some(parting) = leaves {
                owner.part(parting);
            }
            owner.stop();
            owner.parted().await;
            end(&other, Parting::Removed).await;
            drop((owner, other));
            assert_eq!(subscriptions(&folder, broker).await, stays, "{leaves:?} {is_temporary}");
        }
    }
}

#[tokio::test]
async fn a_group_of_temporary_members_leaves_nothing() {
    let folder = Folder::new();
    let broker = broker(&folder);
    let one = broker.subscribe(request("one", Some("g"), true)).await.unwrap();
    publish_with(&broker, "a", b"key").await;
    let mut taken = Vec::new();
    one.take(10, &mut taken).unwrap();
    assert_eq!(taken.len(), 1);
    // As where the process is killed: nobody says that it is over.
    std::mem::forget(one);
    assert_eq!(subscriptions(&folder, broker).await, 0);
}
