//! Unit tests of the storage, on real files.

mod aside;
mod expiry;
mod log;
mod model;
mod opening;
mod pages;
mod progress;
mod roundtrip;
mod trims;

use super::{DiskStorage, Options};
use crate::broker::{Event, Qos, Topic, TopicFilter};
use crate::builtin::Publication;
use crate::builtin::storage::{Appended, Fetch, Page, Storage, StorageError, Which};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A folder with a store.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("events.db")
    }

    fn open(&self) -> DiskStorage {
        self.open_with(&Options::default())
    }

    fn open_with(&self, options: &Options) -> DiskStorage {
        DiskStorage::open(self.path(), options).unwrap()
    }
}

/// So many milliseconds after a fixed time.
fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + millis)
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn event(id: &str, data: impl Into<bytes::Bytes>) -> Event {
    let (id, source, kind) = (id.to_owned(), "test".to_owned(), "tested".to_owned());
    Event { id, source, kind, data: data.into(), ..Event::default() }
}

/// A publication that is kept, at qos 1.
fn publication(name: &str, event: Event, time: SystemTime) -> Publication {
    Publication::unrouted(topic(name), Arc::new(event), Qos::AtLeastOnce, time)
}

async fn answer(appended: Appended) -> Result<u64, StorageError> {
    match appended {
        Appended::Now(number, notices) => {
            notices.send();
            Ok(number)
        }
        Appended::Later(reply) => reply.await.unwrap(),
        Appended::Full(_) => panic!("there is no room"),
    }
}

/// Publishes an event of 100 bytes or so, and waits until it is durable.
async fn publish(storage: &DiskStorage, name: &str, id: u64) -> u64 {
    let event = event(&id.to_string(), vec![b'x'; 100]);
    answer(storage.append(publication(name, event, at(id)))).await.unwrap()
}

/// Publishes many at once.
async fn publish_all(storage: &DiskStorage, names: impl IntoIterator<Item = (String, u64)>) {
    let waiting: Vec<_> = names
        .into_iter()
        .map(|(name, id)| {
            let event = event(&id.to_string(), vec![b'x'; 100]);
            storage.append(publication(&name, event, at(id)))
        })
        .collect();
    for appended in waiting {
        answer(appended).await.unwrap();
    }
}

async fn fetch(storage: &DiskStorage, fetch: Fetch) -> Result<Page, StorageError> {
    let (reply, page) = tokio::sync::oneshot::channel();
    storage.fetch(fetch, Box::new(|page| reply.send(page).unwrap()));
    page.await.unwrap()
}

fn of(filter_text: &str, from: u64, end: Option<u64>) -> Which {
    Which::Range { filter: filter(filter_text), from, end }
}

async fn page(storage: &DiskStorage, which: Which, events_max: usize) -> Page {
    fetch(storage, Fetch { which, events_max, bytes_max: usize::MAX }).await.unwrap()
}

fn numbers(page: &Page) -> Vec<u64> {
    page.events.iter().map(|stored| stored.number).collect()
}

/// All numbers of a filter, by pages.
async fn all(storage: &DiskStorage, filter: &str) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), 1);
    loop {
        let page = page(storage, of(filter, from, None), 100).await;
        found.extend(numbers(&page));
        if page.is_last {
            return found;
        }
        assert!(page.next > from, "it goes on");
        from = page.next;
    }
}

fn assert_sound(path: &std::path::Path) {
    assert_eq!(super::check(path).unwrap(), Vec::<String>::new());
}
