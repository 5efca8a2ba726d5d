//! Events as lines of JSON: the one format of `subscribe --json`, of recorded
//! deliveries, of tests and of dead letters.
//!
//! A line is an event in the CloudEvents JSON format, with members of our own
//! beside it ([`MEMBERS`]). To be written by hand there is a short form, in
//! which everything may be left out: `{"topic": "orders/new", "data": ...}`.

use super::failure::Failure;
use crate::broker::cloudevents::{self, CloudEventError, Members, Object};
use crate::broker::{Event, Topic};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Read, Write};

/// The members of a line that are not the event's. An attribute with such a name
/// goes into `attributes`.
pub(super) const MEMBERS: [&str; 8] =
    ["topic", "attempt", "attributes", "number", "collected", "published", "error", "outcome"];
/// The longest line that is taken, in bytes.
const LINE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The largest input that is taken, in bytes: it is read before anything runs.
const INPUT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What else a line may hold, for those who wrote a wrong one.
const ALLOWED: &str = "a line is an event in the CloudEvents JSON format with its topic in `topic`, or \
                       {\"topic\": \"orders/new\", \"data\": ...}";

/// What was read from a line.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) topic: Option<Topic>,
    /// With nothing filled in.
    pub(super) event: Event,
    /// Which delivery it is, from 1.
    pub(super) attempt: Option<u32>,
    /// The number of a dead letter on this machine, or of an event in a store.
    pub(super) number: Option<u64>,
    /// When a dead letter was collected.
    pub(super) collected: Option<String>,
    /// Why the event was not published.
    pub(super) error: Option<String>,
    /// What became of the delivery, as JSON.
    pub(super) outcome: Option<String>,
}

/// What is wrong with a line.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where, from 1, in bytes.
    column: usize,
    reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.reason)
    }
}

/// How exactly data is written that is JSON on several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Its line breaks, which JSON gives no meaning, become spaces.
    Readable,
    /// It keeps every byte, in base64.
    Exact,
}

/// Writes a line, without its end. `more` are members of our own, as JSON.
pub(super) fn write(topic: &str, event: &Event, more: &[(&str, Vec<u8>)], data: Data) -> Vec<u8> {
    let event = match data {
        Data::Readable => flattened(event),
        Data::Exact => Cow::Borrowed(event),
    };
    let mut object = Object::line(256 + event.size() + event.data.len() / 3);
    object.text("topic", topic);
    let rest = object.event(&event, &MEMBERS);
    let pairs = serde_json::to_vec(rest).unwrap_or_default();
    if !rest.is_empty() {
        object.json("attributes", &pairs);
    }
    for (name, value) in more {
        object.json(name, value);
    }
    object.finish()
}

fn flattened(event: &Event) -> Cow<'_, Event> {
    let is_json = event.content_type.as_deref().is_some_and(cloudevents::is_json);
    if !is_json || !cloudevents::has_line_break(&event.data) {
        return Cow::Borrowed(event);
    }
    let flat = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    let data: Vec<u8> = event.data.trim_ascii().iter().map(flat).collect();
    // In what is no JSON a line break may mean something.
    match serde_json::from_slice::<serde::de::IgnoredAny>(&event.data) {
        Ok(_) => Cow::Owned(Event { data: data.into(), ..event.clone() }),
        Err(_) => Cow::Borrowed(event),
    }
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Result<Line, Fault> {
    let Members(members) = serde_json::from_slice(line).map_err(|error| Fault::json(&error))?;
    let column = |value: &str| (value.as_ptr() as usize).saturating_sub(line.as_ptr() as usize) + 1;
    let column_of = |name: &str| {
        let found = members.iter().find(|(known, _)| known == name);
        found.map_or(1, |(_, value)| column(value.get()))
    };
    let mut read = Line::default();
    let mut attributes = Vec::new();
    for (name, value) in members.iter().filter(|(name, _)| MEMBERS.contains(&name.as_str())) {
        let own = own_member(&mut read, &mut attributes, name, value);
        own.map_err(|reason| Fault { column: column(value.get()), reason })?;
    }
    let events = members.iter().filter(|(name, _)| !MEMBERS.contains(&name.as_str())).cloned();
    let bytes = |raw: &str| Bytes::copy_from_slice(raw.as_bytes());
    let complete = cloudevents::event(events, bytes).and_then(|(event, version)| {
        if version.is_some() {
            cloudevents::check_complete(&event, version.as_deref())?;
        }
        Ok(event)
    });
    read.event = complete
        .map_err(|error| Fault { column: column_of(about(&error)), reason: error.to_string() })?;
    read.event.attributes.extend(attributes);
    let is_value = |(name, value): &(String, &RawValue)| {
        name == "data" && value.get() != "null" && !value.get().starts_with('"')
    };
    if read.event.content_type.is_none() && members.iter().any(is_value) {
        read.event.content_type = Some("application/json".into());
    }
    Ok(read)
}

fn own_member(
    line: &mut Line,
    attributes: &mut Vec<(String, String)>,
    name: &str,
    value: &RawValue,
) -> Result<(), String> {
    let wrong = |allowed: &str| format!("`{name}` is not {allowed}");
    let json = value.get();
    match name {
        "topic" => {
            let text: String = serde_json::from_str(json).map_err(|_| wrong("a string"))?;
            let topic =
                Topic::new(&text).map_err(|error| format!("`{text}` is no topic: {error}"))?;
            line.topic = Some(topic);
        }
        "attempt" => {
            let attempt = serde_json::from_str(json).ok().filter(|attempt| *attempt > 0);
            line.attempt = Some(attempt.ok_or_else(|| wrong("a whole number from 1"))?);
        }
        "attributes" => {
            let pairs: Vec<(String, String)> =
                serde_json::from_str(json).map_err(|_| wrong("a list of [name, value] pairs"))?;
            attributes.extend(pairs);
        }
        "number" => {
            line.number = Some(serde_json::from_str(json).map_err(|_| wrong("a whole number"))?);
        }
        "collected" => {
            line.collected = Some(serde_json::from_str(json).map_err(|_| wrong("a string"))?);
        }
        // Of an event that was printed from a store: it gets another time.
        "published" => {
            serde_json::from_str::<String>(json).map_err(|_| wrong("a string"))?;
        }
        "error" => {
            line.error = Some(serde_json::from_str(json).map_err(|_| wrong("a string"))?);
        }
        _ if json.starts_with('{') => line.outcome = Some(json.to_owned()),
        _ => return Err(wrong("an object")),
    }
    Ok(())
}

/// The member that an error is about.
fn about(error: &CloudEventError) -> &str {
    match error {
        CloudEventError::WrongType { name, .. } => name,
        CloudEventError::Missing(name) => name,
        CloudEventError::Version(_) => "specversion",
        CloudEventError::Base64(_) | CloudEventError::TwoPayloads => "data_base64",
        CloudEventError::Twice(_) | CloudEventError::Taken(_) | CloudEventError::Json(_) => "",
    }
}

impl Fault {
    fn json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // The place is given once.
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        Self { column: error.column().max(1), reason: format!("it is no JSON object: {reason}") }
    }

    /// In words. `name` is the input, `number` the line, from 1.
    pub(super) fn describe(&self, name: &str, number: usize) -> String {
        format!("{name}:{number}:{}: {}", self.column, self.reason)
    }

    /// As the end of a command.
    pub(super) fn failure(&self, name: &str, number: usize) -> Failure {
        Failure::input(format!("{}\n  help: {ALLOWED}", self.describe(name, number)))
    }
}

/// Reads all lines of an input, with their numbers. Empty ones are left out.
/// `name` is what it is called in errors.
pub(super) fn read_all(name: &str, mut input: impl BufRead) -> Result<Vec<(usize, Line)>, Failure> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for number in 1.. {
        let mut line = Vec::new();
        let length = (&mut input)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::input(format!("{name}: {error}")))?;
        bytes += length;
        if length == 0 {
            break;
        }
        if length as u64 > LINE_BYTES_MAX {
            let text = format!("{name}:{number}: the line is longer than {LINE_BYTES_MAX} bytes");
            return Err(Failure::input(text));
        }
        if bytes > INPUT_BYTES_MAX {
            let text = format!("{name}: it is larger than {INPUT_BYTES_MAX} bytes");
            return Err(Failure::input(text));
        }
        // Where a line is too short, its end is the place to look at.
        let line = line.trim_ascii_end();
        if !line.is_empty() {
            let read = read(line).map_err(|fault| fault.failure(name, number))?;
            lines.push((number, read));
        }
    }
    Ok(lines)
}

/// A text on one line that a terminal shows as it is, at most so many characters
/// long.
pub(super) fn shown(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            shown.push('…');
            break;
        }
        match c {
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Data for people: text as [`shown`], of anything else its size.
pub(super) fn shown_data(data: &[u8], chars_max: usize) -> String {
    match std::str::from_utf8(data) {
        Ok(text) => shown(text, chars_max),
        Err(_) => format!("({} bytes)", data.len()),
    }
}

/// Writes to standard output, at once. Who has closed it has seen enough: that is
/// no error.
pub(super) fn print(text: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Rows as a table: each column as wide as its widest cell, two spaces apart.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row: &[String; N]| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &Event, data: Data) -> String {
        String::from_utf8(write("a/b", event, &[("attempt", b"2".to_vec())], data)).unwrap()
    }

    fn event() -> Event {
        Event {
            id: "1".into(),
            source: "/s".into(),
            kind: "t".into(),
            data: "{\n \"a\": 1 }".into(),
            content_type: Some("application/json".into()),
            attributes: [("x", "1"), ("topic", "mine"), ("x", "2"), ("y", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ordering_key: None,
        }
    }

    #[test]
    fn whatever_an_event_has_is_on_the_line() {
        assert_eq!(
            text(&event(), Data::Readable),
            r#"{"topic":"a/b","specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","x":"1","data":{  "a": 1 },"attributes":[["topic","mine"],["x","2"],["y",""]],"attempt":2}"#
        );
        let line = read(text(&event(), Data::Exact).as_bytes()).unwrap();
        assert_eq!(line.event, event());
        assert_eq!(line.topic.unwrap().as_str(), "a/b");
        assert_eq!(line.attempt, Some(2));
        let no_json = Event { data: "a\nb".into(), ..event() };
        assert_eq!(read(text(&no_json, Data::Readable).as_bytes()).unwrap().event, no_json);
    }

    #[test]
    fn the_short_form_needs_nothing() {
        let line = read(br#"{"topic": "orders/new", "data": {"id":  7}}"#).unwrap();
        assert_eq!(line.event.data, "{\"id\":  7}");
        assert_eq!(line.event.content_type.as_deref(), Some("application/json"));
        let line = read(br#"{"data": "text", "region": "eu", "size": 3}"#).unwrap();
        assert_eq!(line.topic, None);
        assert_eq!((line.event.data.as_ref(), line.event.content_type), (&b"text"[..], None));
        assert_eq!(line.event.attributes.len(), 2);
        assert_eq!(read(b"{}").unwrap().event, Event::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (line, expected) in [
            ("{\"topic\": \"a\"", "in:1:13: it is no JSON object: EOF while parsing an object"),
            ("hello", "in:1:1: it is no JSON object: expected value"),
            ("[]", "in:1:1: it is no JSON object: invalid type: sequence, expected an object"),
            (r#"{"topic": 7}"#, "in:1:11: `topic` is not a string"),
            (r#"{"topic": "a/#"}"#, "in:1:11: `a/#` is no topic: it contains a wildcard"),
            (r#"{"attempt": 0}"#, "in:1:13: `attempt` is not a whole number from 1"),
            (r#"{"outcome": "ack"}"#, "in:1:13: `outcome` is not an object"),
            (r#"{"specversion": "1.0", "id": "7"}"#, "in:1:1: the attribute `source` is missing"),
            (
                r#"{"a": "", "x": [1]}"#,
                "in:1:16: the attribute `x` is a list: allowed is a string, a number or a boolean",
            ),
        ] {
            let found = read(line.as_bytes()).unwrap_err().describe("in", 1);
            assert!(found.starts_with(expected), "{found}\n  instead of {expected}");
        }
    }

    #[test]
    fn empty_lines_are_left_out_and_others_keep_their_numbers() {
        let lines = read_all("in", &b"\n{\"topic\":\"a\"}\r\n  \n{}"[..]).unwrap();
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4]);
        let error = read_all("in", &b"{}\n{\"a\"\n"[..]).unwrap_err().render(false);
        assert!(error.starts_with("error: in:2:4: it is no JSON object: EOF"), "{error}");
        assert!(error.contains("\n  help: a line is an event"), "{error}");
    }

    #[test]
    fn what_is_shown_stays_on_its_line() {
        assert_eq!(shown("a\u{1b}[2J\nb", 40), "a\\u{1b}[2J\\nb");
        assert_eq!(shown("äöü", 2), "äö…");
        assert_eq!(shown("äö", 2), "äö");
        assert_eq!(shown_data(b"\xff\x00", 2), "(2 bytes)");
    }
}
