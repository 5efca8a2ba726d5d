//! Deleting.

use super::super::trim::TRIM_ROWS_MAX;
use super::*;
use crate::broker::Retention;
use crate::builtin::storage::{Trim, Trimmed};

pub(super) fn everything(name: &str) -> Trim {
    let (needed, retention) = (Vec::new(), None);
    Trim { topic: topic(name), needed_from: u64::MAX, needed, retention, now: at(0) }
}

/// Events 1 to 10 of `a`, one each 10 ms, and one of `b`.
async fn ten() -> (Folder, DiskStorage) {
    let folder = Folder::new();
    let storage = folder.open();
    for number in 1..=10 {
        answer(storage.append(publication("a", event("x", "12345"), at(number * 10))))
            .await
            .unwrap();
    }
    publish(&storage, "b", 200).await;
    (folder, storage)
}

async fn left_of(trim: Trim) -> Vec<u64> {
    let (folder, storage) = ten().await;
    let trimmed = storage.trim(trim).await.unwrap();
    let left = all(&storage, "a").await;
    assert_eq!(trimmed.events, 10 - left.len() as u64);
    assert_eq!(trimmed.bytes, trimmed.events * event("x", "12345").size() as u64);
    assert_eq!(all(&storage, "b").await, [11]);
    storage.close().await;
    assert_sound(&folder.path());
    left
}

#[tokio::test]
async fn what_is_needed_stays() {
    assert_eq!(left_of(everything("a")).await, [0; 0]);
    assert_eq!(left_of(everything("none")).await, Vec::from_iter(1..=10));
    let needed = Trim { needed_from: 8, needed: vec![1, 3, 9], ..everything("a") };
    assert_eq!(left_of(needed).await, [1, 3, 8, 9, 10]);
    let all = Trim { needed_from: 1, ..everything("a") };
    assert_eq!(left_of(all).await, Vec::from_iter(1..=10));
}

#[tokio::test]
async fn what_is_remembered_stays() {
    let size = event("x", "12345").size() as u64;
    let keeping = |retention| Trim { retention: Some(retention), now: at(100), ..everything("a") };
    let none = Retention::default();
    assert_eq!(left_of(keeping(none)).await, Vec::from_iter(1..=10));
    let events = Retention { events: Some(3), ..none };
    assert_eq!(left_of(keeping(events)).await, [8, 9, 10]);
    let bytes = Retention { bytes: Some(4 * size + 1), ..none };
    assert_eq!(left_of(keeping(bytes)).await, [7, 8, 9, 10]);
    let age = Retention { age: Some(Duration::from_millis(10)), ..none };
    assert_eq!(left_of(keeping(age)).await, [9, 10]);
    let both = Retention { events: Some(1), ..age };
    assert_eq!(left_of(keeping(both)).await, [10]);
    // What somebody needs stays beside what the topic remembers.
    let needed = Trim { needed: vec![2], needed_from: 6, ..keeping(events) };
    assert_eq!(left_of(needed).await, [2, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_long_trim_lets_others_in_between() {
    let folder = Folder::new();
    let storage = Arc::new(folder.open());
    let count = 3 * TRIM_ROWS_MAX as u64 + 5;
    publish_all(&storage, (0..count).map(|id| ("a".to_owned(), id))).await;
    let trimming = storage.clone();
    let trim = Trim { needed_from: count + 1, needed: vec![7, 5000], ..everything("a") };
    let trim = tokio::spawn(async move { trimming.trim(trim).await.unwrap() });
    tokio::task::yield_now().await;
    for id in 0..10 {
        publish(&storage, "a", id).await;
    }
    assert_eq!(trim.await.unwrap().events, count - 2);
    let mut left = vec![7, 5000];
    left.extend(count + 1..=count + 10);
    assert_eq!(all(&storage, "a").await, left);
    storage.close().await;
    assert_sound(&folder.path());
}

#[tokio::test]
async fn topics_without_events_are_forgotten() {
    let (folder, storage) = ten().await;
    storage.trim(everything("a")).await.unwrap();
    let names = async |storage: &DiskStorage| -> Vec<String> {
        let topics = storage.topics().await.unwrap();
        topics.iter().map(|stats| stats.topic.as_str().to_owned()).collect()
    };
    assert_eq!(names(&storage).await, ["b"]);
    assert_eq!(storage.trim(everything("a")).await.unwrap(), Trimmed::default());
    storage.close().await;
    drop(storage);
    let storage = folder.open();
    assert_eq!(names(&storage).await, ["b"]);
    // Its number is not given again, and it is a topic as before.
    assert_eq!(publish(&storage, "a", 300).await, 12);
    assert_eq!(all(&storage, "a").await, [12]);
}
