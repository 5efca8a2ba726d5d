//! Dead letters for people and for programs.

use super::super::lines::{self, Data, shown};
use super::letter::Letter;
use crate::broker::cloudevents;
use std::fmt::Write as _;

/// How much of an id and of a reason a row shows, in characters.
const ID_CHARS_MAX: usize = 40;
const REASON_CHARS_MAX: usize = 80;
const TOPIC_CHARS_MAX: usize = 60;

/// A row for each letter, under a row of headings.
pub(super) fn table(letters: &[&Letter]) -> String {
    let mut rows =
        vec![["NUMBER", "COLLECTED", "TOPIC", "ATTEMPTS", "ID", "REASON"].map(String::from)];
    rows.extend(letters.iter().map(|letter| {
        [
            letter.number.to_string(),
            letter.collected.clone(),
            shown(letter.origin().unwrap_or("unknown"), TOPIC_CHARS_MAX),
            letter.attempts().to_owned(),
            shown(&letter.event.id, ID_CHARS_MAX),
            shown(letter.reason(), REASON_CHARS_MAX),
        ]
    }));
    lines::columns(&rows)
}

/// One line for a letter, with its end, in the format of all lines of events.
/// `original`: the event as it was, with the topic that it was published to.
pub(super) fn json(letter: &Letter, original: bool) -> Vec<u8> {
    let mut line = if original {
        let topic = letter.origin().unwrap_or(&letter.topic);
        lines::write(topic, &letter.original(), &[], Data::Exact)
    } else {
        let mut collected = Vec::new();
        cloudevents::append_text(&mut collected, &letter.collected);
        let own = [("number", letter.number.to_string().into_bytes()), ("collected", collected)];
        lines::write(&letter.topic, &letter.event, &own, Data::Readable)
    };
    line.push(b'\n');
    line
}

/// All of one letter.
pub(super) fn whole(letter: &Letter) -> String {
    let event = &letter.event;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{}", shown(value, usize::MAX));
    };
    field("number", &letter.number.to_string());
    field("collected", &letter.collected);
    field("dead letter", &letter.topic);
    field("topic", letter.origin().unwrap_or("unknown"));
    field("reason", letter.reason());
    field("attempts", letter.attempts());
    if let Some(subscription) = letter.subscription() {
        field("subscription", subscription);
    }
    field("id", &event.id);
    field("source", &event.source);
    field("type", &event.kind);
    if let Some(content_type) = &event.content_type {
        field("content type", content_type);
    }
    if let Some(key) = &event.ordering_key {
        field("ordering key", key);
    }
    for (name, value) in letter.attributes() {
        field("attribute", &format!("{name}={value}"));
    }
    let _ = match std::str::from_utf8(&event.data) {
        Ok("") => writeln!(text, "no data"),
        Ok(data) => write!(text, "\n{}\n", printable(data)),
        Err(_) => writeln!(text, "data          {} bytes, no text: see --json", event.data.len()),
    };
    text
}

/// Text with its lines, and without what a terminal would obey.
fn printable(data: &str) -> String {
    let lines: Vec<_> = data.lines().map(|line| shown(line, usize::MAX)).collect();
    lines.join("\n")
}
