//! What only looks. A host may go on with the store meanwhile.

use super::print::{self, SubscriptionRow};
use super::store::Store;
use crate::backends::disk;
use crate::broker::{Start, TopicFilter};
use crate::builtin::storage::{Storage, StorageError};
use crate::builtin::{BuiltIn, Settings};
use crate::cli::failure::Failure;
use crate::cli::lines;

/// How many events are read at a time.
const PAGE_EVENTS: usize = 1000;

pub(super) async fn topics(store: &Store, json: bool) -> Result<(), Failure> {
    let storage = store.read_only()?;
    let mut topics = storage.topics().await.map_err(failed)?;
    storage.close().await;
    topics.sort_by(|one, two| one.topic.as_str().cmp(two.topic.as_str()));
    let text = if json { print::topics_json(&topics) } else { print::topics(&topics) };
    print_or_say(&text, "no topic has an event")
}

pub(super) async fn subscriptions(store: &Store, json: bool) -> Result<(), Failure> {
    let storage = store.read_only()?;
    let mut rows = Vec::new();
    for (record, position) in storage.load().map_err(failed)?.subscriptions {
        let behind = storage.count(&record.filter, position.next).await.map_err(failed)?;
        rows.push(SubscriptionRow { record, position, behind });
    }
    storage.close().await;
    rows.sort_by(|one, two| one.record.name.cmp(&two.record.name));
    let text = if json { print::subscriptions_json(&rows) } else { print::subscriptions(&rows) };
    print_or_say(&text, "there are no subscriptions")
}

pub(super) async fn snapshots(store: &Store, json: bool) -> Result<(), Failure> {
    let storage = store.read_only()?;
    let mut snapshots = storage.load().map_err(failed)?.snapshots;
    storage.close().await;
    snapshots.sort_by(|one, two| one.name.cmp(&two.name));
    let text = if json { print::snapshots_json(&snapshots) } else { print::snapshots(&snapshots) };
    print_or_say(&text, "there are no snapshots")
}

/// Prints page by page: there may be more than memory holds.
pub(super) async fn peek(
    store: &Store,
    filter: &TopicFilter,
    from: Start,
    count: usize,
    json: bool,
) -> Result<(), Failure> {
    let storage = store.read_only()?;
    let broker = BuiltIn::open(storage.clone(), Settings::default()).map_err(failed)?;
    let (mut from, mut left) = (from, count);
    while left > 0 {
        let page = broker.peek(filter, from, left.min(PAGE_EVENTS)).await;
        let page = page.map_err(|error| Failure::run(error.to_string()))?;
        let Some(last) = page.last() else { break };
        from = Start::Number(last.number + 1);
        left -= page.len();
        for event in &page {
            lines::print(&print::event(event, json))?;
        }
    }
    drop(broker);
    storage.close().await;
    Ok(())
}

pub(super) async fn check(store: &Store) -> Result<(), Failure> {
    let path = store.settings.path.clone();
    let found = tokio::task::spawn_blocking(move || disk::check(&path)).await;
    let found = found.map_err(|error| Failure::run(error.to_string()))?;
    let found = found.map_err(|error| Failure::input(error.to_string()))?;
    let path = store.settings.path.display();
    if found.is_empty() {
        return Ok(lines::print(format!("{path}: ok\n").as_bytes())?);
    }
    for finding in &found {
        lines::print(format!("{finding}\n").as_bytes())?;
    }
    let help = "restore a back-up, or move the file away to begin anew";
    Err(Failure::run(format!("`{path}` is not whole\n  help: {help}")))
}

fn print_or_say(text: &str, nothing: &str) -> Result<(), Failure> {
    if text.is_empty() {
        tracing::info!("{nothing}");
    }
    Ok(lines::print(text.as_bytes())?)
}

fn failed(error: StorageError) -> Failure {
    Failure::run(error.to_string())
}
