//! What changes a store. No host may have it meanwhile.

use super::store::Store;
use crate::backends::disk;
use crate::broker::{BrokerError, TopicFilter};
use crate::builtin::{BuiltIn, SeekTo};
use crate::cli::failure::Failure;
use crate::cli::lines;
use std::io::{IsTerminal, Write};

pub(super) async fn remove(store: &Store, name: &str) -> Result<(), Failure> {
    let opened = store.open()?;
    let result = async {
        known_subscription(&opened.broker, name)?;
        opened.broker.remove_subscription(name).await.map_err(failed)
    }
    .await;
    opened.close().await;
    result?;
    say(&format!("removed {name}"))
}

pub(super) async fn seek(store: &Store, name: &str, to: &SeekTo) -> Result<(), Failure> {
    let opened = store.open()?;
    let broker = &opened.broker;
    let result = async {
        known_subscription(broker, name)?;
        if let SeekTo::Snapshot(snapshot) = to {
            known_snapshot(broker, snapshot)?;
        }
        broker.seek(name, to).await.map_err(failed)?;
        let found = broker.subscriptions().into_iter().find(|found| found.name == name);
        Ok::<_, Failure>(found.map_or(0, |found| found.next))
    }
    .await;
    opened.close().await;
    let next = result?;
    say(&format!("{name} goes on at {next}"))
}

pub(super) async fn snapshot(store: &Store, name: &str, subscription: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::input("a snapshot needs a name"));
    }
    let opened = store.open()?;
    let result = async {
        known_subscription(&opened.broker, subscription)?;
        opened.broker.snapshot(name, subscription).await.map_err(failed)
    }
    .await;
    opened.close().await;
    result?;
    say(&format!("created {name}"))
}

pub(super) async fn delete_snapshot(store: &Store, name: &str) -> Result<(), Failure> {
    let opened = store.open()?;
    let result = async {
        known_snapshot(&opened.broker, name)?;
        opened.broker.remove_snapshot(name).await.map_err(failed)
    }
    .await;
    opened.close().await;
    result?;
    say(&format!("deleted {name}"))
}

pub(super) async fn purge(store: &Store, filter: &TopicFilter, yes: bool) -> Result<(), Failure> {
    let opened = store.open()?;
    let broker = &opened.broker;
    let result = async {
        let topics = broker.topics().await.map_err(|error| failed(error.into()))?;
        let topics: Vec<_> = topics.iter().filter(|topic| filter.matches(&topic.topic)).collect();
        let events: u64 = topics.iter().map(|topic| topic.events).sum();
        let question = format!("delete {events} events of `{filter}`?");
        if events > 0 && !yes && !confirmed(&question)? {
            return Ok(None);
        }
        broker.purge(filter).await.map(Some).map_err(|error| failed(error.into()))
    }
    .await;
    opened.close().await;
    match result? {
        Some(purged) => say(&format!("deleted {} events, {} bytes", purged.events, purged.bytes)),
        None => say("nothing was deleted"),
    }
}

pub(super) async fn compact(store: &Store) -> Result<(), Failure> {
    if store.retention.is_some() {
        let opened = store.open()?;
        let trimmed = opened.broker.trim().await;
        opened.close().await;
        let trimmed = trimmed.map_err(|error| failed(error.into()))?;
        if trimmed.events > 0 {
            let (events, bytes) = (trimmed.events, trimmed.bytes);
            say(&format!("deleted {events} events that nobody needs, {bytes} bytes"))?;
        }
    }
    let path = store.settings.path.clone();
    let compacted = tokio::task::spawn_blocking(move || disk::compact(&path)).await;
    let compacted = compacted.map_err(|error| Failure::run(error.to_string()))?;
    let compacted = compacted.map_err(|error| Failure::input(error.to_string()))?;
    say(&format!("the file had {} bytes, and has {}", compacted.before, compacted.after))
}

/// That a name is wrong is a fault of the arguments, and known before anything
/// happens.
fn known_subscription(broker: &BuiltIn, name: &str) -> Result<(), Failure> {
    let known: Vec<_> = broker.subscriptions().into_iter().map(|found| found.name).collect();
    known_name("subscription", name, &known)
}

fn known_snapshot(broker: &BuiltIn, name: &str) -> Result<(), Failure> {
    let known: Vec<_> = broker.snapshots().into_iter().map(|found| found.name).collect();
    known_name("snapshot", name, &known)
}

fn known_name(kind: &str, name: &str, known: &[String]) -> Result<(), Failure> {
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
    let there = match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    };
    Err(Failure::input(format!("there is no {kind} `{name}`: {there}")))
}

/// Asks on the terminal. Where there is none, nobody could have meant it.
fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input(format!("{question} Without a terminal, say so with --yes")));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn say(text: &str) -> Result<(), Failure> {
    Ok(lines::print(format!("{text}\n").as_bytes())?)
}

fn failed(error: BrokerError) -> Failure {
    Failure::run(error.to_string())
}
