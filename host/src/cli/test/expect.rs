//! What a test found, beside what was found before.

use super::super::delivered::{Delivered, Outcome, Published};
use super::super::lines::shown;
use super::input::Entry;
use super::report::describe;
use crate::broker::Event;
use std::fmt::Write as _;

/// Attributes of published events that differ each time.
const VOLATILE: [&str; 3] = ["time", "traceparent", "tracestate"];
/// How much of a reason a message repeats, in characters.
const REASON_CHARS_MAX: usize = 200;
/// How many events are told of that are not as expected.
const EVENTS_TOLD: usize = 20;

/// What differs, event by event; `None` where nothing does.
pub(super) fn differences(expected: &[Entry], found: &[Delivered]) -> Option<String> {
    let mut text = String::new();
    let mut count = 0;
    for (number, (expected, found)) in (1..).zip(expected.iter().zip(found)) {
        let lines = compare(expected, found);
        if lines.is_empty() {
            continue;
        }
        count += 1;
        if count <= EVENTS_TOLD {
            let topic = shown(found.topic.as_str(), REASON_CHARS_MAX);
            let _ = write!(text, "\nevent {number}, to {topic} ({}):", expected.place);
            for line in lines {
                let _ = write!(text, "\n  {line}");
            }
        }
    }
    if count > EVENTS_TOLD {
        let _ = write!(text, "\nand {} more", count - EVENTS_TOLD);
    }
    let length = (expected.len() != found.len())
        .then(|| format!("{} events were expected, and {} handled", expected.len(), found.len()));
    let count = (count > 0).then(|| format!("{count} of {} events not as expected", found.len()));
    let head: Vec<String> = count.into_iter().chain(length).collect();
    if head.is_empty() { None } else { Some(format!("{}{text}", head.join("; "))) }
}

fn compare(expected: &Entry, found: &Delivered) -> Vec<String> {
    let (fed, event) = (&expected.fed, &*found.event);
    if fed.topic != found.topic || (&fed.event.source, &fed.event.id) != (&event.source, &event.id)
    {
        return vec![format!(
            "it is another event: expected {} of {} to {}, found {} of {}",
            fed.event.id, fed.event.source, fed.topic, event.id, event.source
        )];
    }
    match &expected.outcome {
        Some(outcome) => outcomes(outcome, &found.outcome),
        None => Vec::new(),
    }
}

fn outcomes(expected: &Outcome, found: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let mut unequal = |name: &str, expected: String, found: String| {
        if expected != found {
            lines.push(format!("{name}: expected {expected}, found {found}"));
        }
    };
    unequal("verdict", expected.verdict.clone(), found.verdict.clone());
    let after = |outcome: &Outcome| match outcome.after_ms {
        Some(after) => format!("{after} ms"),
        None => "none".into(),
    };
    unequal("delay", after(expected), after(found));
    let reason = |outcome: &Outcome| match &outcome.reason {
        Some(reason) => format!("`{}`", shown(reason, REASON_CHARS_MAX)),
        None => "none".into(),
    };
    unequal("reason", reason(expected), reason(found));
    let count =
        |outcome: &Outcome| (outcome.published.len() as u64 + outcome.published_more).to_string();
    unequal("number of publishes", count(expected), count(found));
    let pairs = expected.published.iter().zip(&found.published);
    for (number, (one, other)) in (1..).zip(pairs) {
        if let Some(what) = published(one, &expected.component, other, &found.component) {
            lines.push(format!("publish {number}: {what}"));
        }
    }
    lines
}

/// What differs between two publishes. What the host fills in is not compared:
/// their ids, and the component's name as the source.
fn published(expected: &Published, by: &str, found: &Published, also_by: &str) -> Option<String> {
    let seen = [describe(expected), describe(found)];
    if seen[0] != seen[1] {
        return Some(format!("expected {}\n{:13}found {}", seen[0], "", seen[1]));
    }
    let (one, other) = (stable(&expected.event, by), stable(&found.event, also_by));
    let parts = [
        ("topic", expected.topic == found.topic),
        ("data", one.data == other.data),
        ("type", one.kind == other.kind),
        ("source", one.source == other.source),
        ("content type", one.content_type == other.content_type),
        ("ordering key", one.ordering_key == other.ordering_key),
        ("attributes", one.attributes == other.attributes),
        ("error", expected.error == found.error),
    ];
    let (part, _) = parts.iter().find(|(_, equal)| !equal)?;
    let value = |published: &Published, event: &Event| match *part {
        "type" => event.kind.clone(),
        "source" => event.source.clone(),
        "content type" => event.content_type.clone().unwrap_or_default(),
        "ordering key" => event.ordering_key.clone().unwrap_or_default(),
        "attributes" => format!("{:?}", event.attributes),
        "error" => published.error.clone().unwrap_or_default(),
        _ => describe(published),
    };
    Some(format!(
        "{part}: expected `{}`, found `{}`",
        shown(&value(expected, &one), REASON_CHARS_MAX),
        shown(&value(found, &other), REASON_CHARS_MAX)
    ))
}

fn stable(event: &Event, component: &str) -> Event {
    let mut event = event.clone();
    event.id.clear();
    if event.source == component {
        event.source.clear();
    }
    event.attributes.retain(|(name, _)| !VOLATILE.contains(&name.as_str()));
    event
}
