//! What a store has, for people and for programs.

use crate::broker::cloudevents;
use crate::builtin::storage::{Position, SnapshotRecord, Stored, SubscriptionRecord, TopicStats};
use crate::cli::lines::{self, Data, columns, shown, shown_data};
use crate::telemetry::rfc3339;
use serde_json::{Value, json};
use std::time::SystemTime;

/// How much of a name and of data a row shows, in characters.
const NAME_CHARS_MAX: usize = 80;
const DATA_CHARS_MAX: usize = 120;

/// A subscription, and how many events of its topics it has not been given.
pub(super) struct SubscriptionRow {
    pub(super) record: SubscriptionRecord,
    pub(super) position: Position,
    pub(super) behind: u64,
}

pub(super) fn topics(topics: &[TopicStats]) -> String {
    let headings = ["TOPIC", "EVENTS", "BYTES", "FIRST", "LAST", "FROM", "TO"];
    table(headings, topics.iter(), |topic| {
        [
            shown(topic.topic.as_str(), NAME_CHARS_MAX),
            topic.events.to_string(),
            topic.bytes.to_string(),
            topic.first.0.to_string(),
            topic.last.0.to_string(),
            rfc3339(topic.first.1),
            rfc3339(topic.last.1),
        ]
    })
}

pub(super) fn topics_json(topics: &[TopicStats]) -> String {
    let end = |(number, time): (u64, SystemTime)| json!({"number": number, "time": rfc3339(time)});
    json_lines(topics.iter().map(|topic| {
        json!({
            "topic": topic.topic.as_str(),
            "events": topic.events,
            "bytes": topic.bytes,
            "first": end(topic.first),
            "last": end(topic.last),
        })
    }))
}

pub(super) fn subscriptions(rows: &[SubscriptionRow]) -> String {
    let headings = ["SUBSCRIPTION", "TOPICS", "NEXT", "WAITING", "OPEN", "LAST USED"];
    table(headings, rows.iter(), |row| {
        [
            shown(&row.record.name, NAME_CHARS_MAX),
            shown(row.record.filter.as_str(), NAME_CHARS_MAX),
            row.position.next.to_string(),
            row.behind.to_string(),
            row.position.open.len().to_string(),
            rfc3339(row.record.used),
        ]
    })
}

pub(super) fn subscriptions_json(rows: &[SubscriptionRow]) -> String {
    json_lines(rows.iter().map(|row| {
        let record = &row.record;
        json!({
            "subscription": record.name,
            "topics": record.filter.as_str(),
            "group": record.group,
            "filter": record.event_filter.as_ref().map(ToString::to_string),
            "qos": record.qos.level(),
            "next": row.position.next,
            "waiting": row.behind,
            "open": row.position.open.len(),
            "created": rfc3339(record.created),
            "used": rfc3339(record.used),
        })
    }))
}

pub(super) fn snapshots(snapshots: &[SnapshotRecord]) -> String {
    let headings = ["SNAPSHOT", "TOPICS", "NEXT", "OPEN", "CREATED"];
    table(headings, snapshots.iter(), |snapshot| {
        [
            shown(&snapshot.name, NAME_CHARS_MAX),
            shown(snapshot.filter.as_str(), NAME_CHARS_MAX),
            snapshot.position.next.to_string(),
            snapshot.position.open.len().to_string(),
            rfc3339(snapshot.created),
        ]
    })
}

pub(super) fn snapshots_json(snapshots: &[SnapshotRecord]) -> String {
    json_lines(snapshots.iter().map(|snapshot| {
        json!({
            "snapshot": snapshot.name,
            "topics": snapshot.filter.as_str(),
            "next": snapshot.position.next,
            "open": snapshot.position.open.len(),
            "created": rfc3339(snapshot.created),
        })
    }))
}

/// One line for an event, with its end.
pub(super) fn event(stored: &Stored, json: bool) -> Vec<u8> {
    let (number, time, topic) = (stored.number, rfc3339(stored.time), stored.topic.as_str());
    if !json {
        let data = shown_data(&stored.event.data, DATA_CHARS_MAX);
        return format!("{number} {time} {topic} {data}\n").into_bytes();
    }
    let mut published = Vec::new();
    cloudevents::append_text(&mut published, &time);
    let own = [("number", number.to_string().into_bytes()), ("published", published)];
    let mut line = lines::write(topic, &stored.event, &own, Data::Readable);
    line.push(b'\n');
    line
}

/// Rows under headings; nothing where there is no row.
fn table<T, const N: usize>(
    headings: [&str; N],
    items: impl Iterator<Item = T>,
    row: impl Fn(T) -> [String; N],
) -> String {
    let rows: Vec<_> = std::iter::once(headings.map(String::from)).chain(items.map(row)).collect();
    if rows.len() == 1 { String::new() } else { columns(&rows) }
}

fn json_lines(values: impl Iterator<Item = Value>) -> String {
    values.map(|value| format!("{value}\n")).collect()
}
