//! CloudEvents in JSON: the format of structured mode.
//!
//! As `broker::cloudevents`, except that nothing of an event changes on the
//! way: data that is JSON keeps its bytes, attributes their order, and what
//! JSON cannot express is an error.

use super::{PARTITION_KEY, attributes};
use crate::broker::{BrokerError, Event};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// Writes an event as one document.
///
/// # Errors
/// Two attributes have one name, which JSON cannot express.
pub(super) fn write(event: &Event) -> Result<Vec<u8>, BrokerError> {
    let mut out = Vec::with_capacity(128 + event.size() + event.data.len() / 3);
    let mut names = HashSet::new();
    let mut member = |out: &mut Vec<u8>, name: &str, value: &str| {
        if !names.insert(name.to_owned()) {
            let text = format!("attribute `{name}` occurs twice, which JSON has no place for");
            return Err(BrokerError::Unsupported(text));
        }
        write_name(out, name)?;
        write_text(out, value)
    };
    out.push(b'{');
    member(&mut out, "specversion", "1.0")?;
    member(&mut out, "id", &event.id)?;
    member(&mut out, "source", &event.source)?;
    member(&mut out, "type", &event.kind)?;
    if let Some(content_type) = &event.content_type {
        member(&mut out, "datacontenttype", content_type)?;
    }
    if let Some(key) = &event.ordering_key {
        member(&mut out, PARTITION_KEY, key)?;
    }
    for (name, value) in &event.attributes {
        if matches!(name.as_str(), "data" | "data_base64" | "datacontenttype" | PARTITION_KEY) {
            return Err(super::taken(name));
        }
        if !attributes::is_reserved(name) {
            member(&mut out, name, value)?;
        }
    }
    write_data(&mut out, event)?;
    out.push(b'}');
    Ok(out)
}

fn write_name(out: &mut Vec<u8>, name: &str) -> Result<(), BrokerError> {
    if out.len() > 1 {
        out.push(b',');
    }
    write_text(out, name)?;
    out.push(b':');
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), BrokerError> {
    serde_json::to_writer(out, text).map_err(|error| BrokerError::Other(error.to_string()))
}

/// JSON as it is, text as text, all else in base64.
fn write_data(out: &mut Vec<u8>, event: &Event) -> Result<(), BrokerError> {
    if event.data.is_empty() {
        return Ok(());
    }
    if event.content_type.as_deref().is_some_and(is_json) {
        // Space around it would be lost, and `null` means that there is none.
        let exact = event.data.trim_ascii().len() == event.data.len() && event.data != "null";
        if exact && serde_json::from_slice::<IgnoredAny>(&event.data).is_ok() {
            write_name(out, "data")?;
            out.extend_from_slice(&event.data);
            return Ok(());
        }
        return write_base64(out, event);
    }
    // Control characters are six times as long in JSON: that is no text.
    let text = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
    match std::str::from_utf8(&event.data) {
        Ok(data) if event.data.iter().all(text) => {
            write_name(out, "data")?;
            write_text(out, data)
        }
        _ => write_base64(out, event),
    }
}

fn write_base64(out: &mut Vec<u8>, event: &Event) -> Result<(), BrokerError> {
    write_name(out, "data_base64")?;
    write_text(out, &BASE64.encode(&event.data))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Reads a document; `None` where it is none of a CloudEvent.
pub(super) fn read(payload: &Bytes) -> Option<Event> {
    // Most of what is no CloudEvent is found out at once.
    let start = payload.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *start != b'{' {
        return None;
    }
    let Members(members) = serde_json::from_slice(payload).ok()?;
    let mut event = Event::default();
    let (mut version, mut data, mut base64) = (None, None, None);
    for (name, value) in members {
        match name.as_str() {
            "data" if data.is_none() => data = Some(value),
            "data_base64" if base64.is_none() => base64 = Some(value),
            "specversion" if version.is_none() => version = Some(string(value)?),
            "id" if event.id.is_empty() => event.id = string(value)?,
            "source" if event.source.is_empty() => event.source = string(value)?,
            "type" if event.kind.is_empty() => event.kind = string(value)?,
            "datacontenttype" if event.content_type.is_none() => {
                event.content_type = text(value);
            }
            PARTITION_KEY if event.ordering_key.is_none() => event.ordering_key = text(value),
            _ if attributes::is_reserved(&name) => {}
            _ => event.attributes.extend(text(value).map(|value| (name, value))),
        }
    }
    let complete = version?.starts_with("1.")
        && !event.id.is_empty()
        && !event.source.is_empty()
        && !event.kind.is_empty();
    if !complete {
        return None;
    }
    match (data, base64) {
        (Some(_), Some(_)) => return None,
        (None, Some(base64)) => event.data = BASE64.decode(string(base64)?).ok()?.into(),
        (Some(data), None) => read_data(payload, data, &mut event),
        (None, None) => {}
    }
    Some(event)
}

/// A string is the text itself, unless the data is JSON by its type.
fn read_data(payload: &Bytes, data: &RawValue, event: &mut Event) {
    let json = event.content_type.as_deref().is_some_and(is_json);
    event.data = match serde_json::from_str::<String>(data.get()) {
        Ok(text) if !json => text.into(),
        _ if data.get() == "null" => Bytes::new(),
        _ => payload.slice_ref(data.get().as_bytes()),
    };
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// An attribute's value as text: numbers and booleans as JSON writes them.
fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        raw if raw.starts_with('"') => string(value),
        raw => Some(raw.to_owned()),
    }
}

/// The members of an object in their order, with repetitions.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}
