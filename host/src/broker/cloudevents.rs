//! Events as JSON: the CloudEvents JSON format, version 1.0.2.
//!
//! Nothing of an event changes on the way: data that is JSON keeps its bytes,
//! attributes their order, and what JSON cannot express is an error, or left to
//! the caller. Backends write and read whole documents ([`write`], [`read`]);
//! the command line puts members of its own beside those of the event
//! ([`Object`], [`Members`]).

use super::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// The version of CloudEvents that is written.
const SPEC_VERSION: &str = "1.0";
/// The attribute that carries the ordering key (CloudEvents' partitioning extension).
pub const PARTITION_KEY: &str = "partitionkey";
/// Members with a meaning of their own, which no attribute can have as its name.
const TAKEN: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    PARTITION_KEY,
    "data",
    "data_base64",
];

/// Why an event cannot be written, or a text is none.
#[derive(Debug, thiserror::Error)]
pub enum CloudEventError {
    /// It is no JSON, or no JSON object.
    #[error("it is no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A required attribute is not there, or empty.
    #[error("the attribute `{0}` is missing")]
    Missing(&'static str),
    /// An attribute has a type that CloudEvents does not allow.
    #[error("the attribute `{name}` is {found}: allowed is {allowed}")]
    WrongType {
        /// Its name.
        name: String,
        /// What stands there, shortened.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// It is of a version that is not known.
    #[error("`specversion` is `{0}`: only 1.0 is known")]
    Version(String),
    /// `data_base64` is no base64.
    #[error("`data_base64` is no base64: {0}")]
    Base64(base64::DecodeError),
    /// Both `data` and `data_base64` are there.
    #[error("it has both `data` and `data_base64`")]
    TwoPayloads,
    /// Two attributes have one name.
    #[error("attribute `{0}` occurs twice, which JSON has no place for")]
    Twice(String),
    /// An attribute has the name of a member with a meaning of its own.
    #[error("attribute `{0}`: the name has another meaning")]
    Taken(String),
}

/// Writes an event as one document.
///
/// Data that is JSON by its media type is embedded as it is; other text becomes
/// a string, and anything else `data_base64`.
///
/// # Errors
/// `Twice` and `Taken`, of attributes that JSON cannot express.
pub fn write(event: &Event) -> Result<Vec<u8>, CloudEventError> {
    let mut object = Object::new(128 + event.size() + event.data.len() / 3);
    match object.event(event, &[]).first() {
        None => Ok(object.finish()),
        Some((name, _)) if TAKEN[4..].contains(&name.as_str()) => {
            Err(CloudEventError::Taken(name.clone()))
        }
        Some((name, _)) => Err(CloudEventError::Twice(name.clone())),
    }
}

/// Reads an event from a document. Of repeated members the first is the event's
/// own and the others are attributes. The data is a part of the text, where it
/// stands there as it is.
///
/// # Errors
/// Where the text breaks a rule of the format: see [`CloudEventError`].
pub fn read(text: &Bytes) -> Result<Event, CloudEventError> {
    let Members(members) = serde_json::from_slice(text)?;
    let (event, version) = event(members, |raw| text.slice_ref(raw.as_bytes()))?;
    check_complete(&event, version.as_deref())?;
    Ok(event)
}

/// Whether a document with this `specversion` and event is one of CloudEvents.
///
/// # Errors
/// `Version`, and `Missing` for what a CloudEvent needs.
pub fn check_complete(event: &Event, version: Option<&str>) -> Result<(), CloudEventError> {
    let version = version.ok_or(CloudEventError::Missing("specversion"))?;
    if !version.starts_with("1.") {
        return Err(CloudEventError::Version(version.to_owned()));
    }
    let required = [("id", &event.id), ("source", &event.source), ("type", &event.kind)];
    match required.iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => Err(CloudEventError::Missing(name)),
        None => Ok(()),
    }
}

/// A JSON object that is being written, member by member.
pub struct Object<'a> {
    out: Vec<u8>,
    names: HashSet<&'a str>,
    one_line: bool,
}

impl<'a> Object<'a> {
    /// An empty object; `bytes` is how large it may become.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self { out, names: HashSet::new(), one_line: false }
    }

    /// Likewise, on one line whatever the data of an event is.
    #[must_use]
    pub fn line(bytes: usize) -> Self {
        Self { one_line: true, ..Self::new(bytes) }
    }

    /// Adds a text. A name that is there already is left as it is.
    pub fn text(&mut self, name: &'a str, value: &str) -> &mut Self {
        if self.name(name) {
            append_text(&mut self.out, value);
        }
        self
    }

    /// Adds a value that is JSON already, likewise.
    pub fn json(&mut self, name: &'a str, value: &[u8]) -> &mut Self {
        if self.name(name) {
            self.out.extend_from_slice(value);
        }
        self
    }

    /// Adds the members of an event. Returns the attributes that cannot be
    /// members, and all that come after the first of these, so that their order
    /// is not lost: names that are taken, here or by `reserved`, or repeated.
    pub fn event(&mut self, event: &'a Event, reserved: &[&str]) -> &'a [(String, String)] {
        self.text("specversion", SPEC_VERSION);
        self.text("id", &event.id).text("source", &event.source).text("type", &event.kind);
        if let Some(content_type) = &event.content_type {
            self.text("datacontenttype", content_type);
        }
        if let Some(key) = &event.ordering_key {
            self.text(PARTITION_KEY, key);
        }
        let mut rest = event.attributes.as_slice();
        while let Some(((name, value), others)) = rest.split_first() {
            let name = name.as_str();
            if TAKEN.contains(&name) || reserved.contains(&name) || self.names.contains(name) {
                break;
            }
            self.text(name, value);
            rest = others;
        }
        self.data(event);
        rest
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    /// JSON as it is, text as text, all else in base64.
    fn data(&mut self, event: &Event) {
        let data = &event.data;
        if data.is_empty() {
            return;
        }
        if event.content_type.as_deref().is_some_and(is_json) {
            // Space around it would be lost, and `null` means that there is none.
            let exact = data.trim_ascii().len() == data.len() && data != "null";
            let exact = exact && !(self.one_line && has_line_break(data));
            if exact && serde_json::from_slice::<IgnoredAny>(data).is_ok() {
                self.json("data", data);
                return;
            }
        } else if let Some(text) = as_text(data) {
            self.text("data", text);
            return;
        }
        self.text("data_base64", &BASE64.encode(data));
    }

    /// Begins a member, where there is none of that name.
    fn name(&mut self, name: &'a str) -> bool {
        let is_new = self.names.insert(name);
        if is_new {
            if self.out.len() > 1 {
                self.out.push(b',');
            }
            append_text(&mut self.out, name);
            self.out.push(b':');
        }
        is_new
    }
}

/// Whether JSON data takes more than one line.
#[must_use]
pub fn has_line_break(data: &[u8]) -> bool {
    data.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

/// Text, unless it has control characters: they are six times as long in JSON.
fn as_text(data: &[u8]) -> Option<&str> {
    let is_text = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
    std::str::from_utf8(data).ok().filter(|_| data.iter().all(is_text))
}

/// Appends a JSON string.
pub fn append_text(out: &mut Vec<u8>, text: &str) {
    // Writing a text to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// Whether a media type means JSON (CloudEvents JSON format, section 3.1).
#[must_use]
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// A member of an object: its name, and its value as it stands there.
pub type Member<'a> = (String, &'a RawValue);

/// The members of an object in their order, with repetitions.
pub struct Members<'a>(pub Vec<Member<'a>>);

/// Reads an event from the members of an object, and its `specversion`. Nothing
/// is required. `bytes` makes the data of a part of the text.
///
/// # Errors
/// As [`read`], except for `Json`, `Missing` and `Version`.
pub fn event<'a>(
    members: impl IntoIterator<Item = Member<'a>>,
    bytes: impl Fn(&'a str) -> Bytes,
) -> Result<(Event, Option<String>), CloudEventError> {
    let mut event = Event::default();
    let (mut version, mut data, mut base64) = (None, None, None);
    for (name, value) in members {
        match name.as_str() {
            "data" if data.is_none() => data = Some(value),
            "data_base64" if base64.is_none() => base64 = Some(value),
            "specversion" if version.is_none() => version = Some(string(&name, value)?),
            "id" if event.id.is_empty() => event.id = string(&name, value)?,
            "source" if event.source.is_empty() => event.source = string(&name, value)?,
            "type" if event.kind.is_empty() => event.kind = string(&name, value)?,
            "datacontenttype" if event.content_type.is_none() => {
                event.content_type = scalar(&name, value)?;
            }
            PARTITION_KEY if event.ordering_key.is_none() => {
                event.ordering_key = scalar(&name, value)?;
            }
            _ => event.attributes.extend(scalar(&name, value)?.map(|value| (name, value))),
        }
    }
    let is_there = |value: &&RawValue| value.get() != "null";
    event.data = match (data.filter(is_there), base64.filter(is_there)) {
        (Some(_), Some(_)) => return Err(CloudEventError::TwoPayloads),
        (None, None) => Bytes::new(),
        (None, Some(base64)) => {
            let text = string("data_base64", base64)?;
            BASE64.decode(text).map_err(CloudEventError::Base64)?.into()
        }
        (Some(data), None) => {
            // A string is the text itself, unless the data is JSON by its type:
            // then it is a JSON string (section 3.1.1).
            let is_json = event.content_type.as_deref().is_some_and(is_json);
            match serde_json::from_str::<String>(data.get()) {
                Ok(text) if !is_json => text.into(),
                _ => bytes(data.get()),
            }
        }
    };
    Ok((event, version))
}

fn string(name: &str, value: &RawValue) -> Result<String, CloudEventError> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(name, value, "a string"))
}

/// An attribute's value as text: numbers and booleans as JSON writes them.
fn scalar(name: &str, value: &RawValue) -> Result<Option<String>, CloudEventError> {
    match value.get().as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => string(name, value).map(Some),
        [b'[' | b'{', ..] => Err(wrong_type(name, value, "a string, a number or a boolean")),
        _ => Ok(Some(value.get().to_owned())),
    }
}

fn wrong_type(name: &str, value: &RawValue, allowed: &'static str) -> CloudEventError {
    let found = match value.get().as_bytes() {
        [b'[', ..] => "a list".to_owned(),
        [b'{', ..] => "an object".to_owned(),
        _ => format!("`{}`", value.get().chars().take(40).collect::<String>()),
    };
    CloudEventError::WrongType { name: name.to_owned(), found, allowed }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<Member<'de>>;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &[u8], content_type: Option<&str>) -> Event {
        Event {
            id: "1".into(),
            source: "/s".into(),
            kind: "t".into(),
            data: data.to_vec().into(),
            content_type: content_type.map(str::to_owned),
            attributes: vec![("region".into(), "eu".into()), ("a".into(), "é\n\"".into())],
            ordering_key: Some("k".into()),
        }
    }

    fn again(event: &Event) -> Event {
        read(&write(event).unwrap().into()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (data, content_type) in [
            (&b""[..], None),
            (b"text", None),
            (b"text", Some("text/plain")),
            (b"{ \"a\":1,\"a\": 12345678901234567890123}", Some("application/json")),
            (b"\"a string\"", Some("application/JSON; charset=utf-8")),
            (b" {}", Some("application/json")),
            (b"null", Some("application/json")),
            (b"no json", Some("application/json")),
            (b"\xff\x00", None),
            (b"\xff\x00", Some("application/cbor")),
        ] {
            let event = event(data, content_type);
            assert_eq!(again(&event), event);
        }
    }

    #[test]
    fn data_is_embedded_as_its_media_type_says() {
        let text = |event: &Event| String::from_utf8(write(event).unwrap()).unwrap();
        let end = |data: &[u8], content_type| {
            let text = text(&Event { attributes: vec![], ..event(data, Some(content_type)) });
            text.split_once(r#""partitionkey":"k","#).unwrap().1.to_owned()
        };
        assert_eq!(end(b"{\"a\": 1}", "application/json"), r#""data":{"a": 1}}"#);
        assert_eq!(end(b"{\"a\": 1}", "text/plain"), r#""data":"{\"a\": 1}"}"#);
        assert_eq!(end(b"\x01", "text/plain"), r#""data_base64":"AQ=="}"#);
    }

    #[test]
    fn what_json_cannot_express_is_refused_or_left_to_the_caller() {
        let pairs = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
        };
        for (names, message) in [
            (["a", "a"], "attribute `a` occurs twice, which JSON has no place for"),
            (["a", "id"], "attribute `id` occurs twice, which JSON has no place for"),
            (["a", "data"], "attribute `data`: the name has another meaning"),
        ] {
            let event = Event { attributes: pairs(&names), ..event(b"", None) };
            assert_eq!(write(&event).unwrap_err().to_string(), message);
        }
        let event = Event { attributes: pairs(&["a", "topic", "b", "a"]), ..Event::default() };
        let mut object = Object::new(0);
        let rest = object.text("topic", "t").event(&event, &["topic"]);
        assert_eq!(rest, &event.attributes[1..]);
        let text = String::from_utf8(object.finish()).unwrap();
        assert_eq!(
            text,
            r#"{"topic":"t","specversion":"1.0","id":"","source":"","type":"","a":"x"}"#
        );
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let error = |text: &str| read(&Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
        let error = |text: &str| error(text).to_string();
        assert!(error("{").starts_with("it is no JSON object: "));
        assert!(error("[]").starts_with("it is no JSON object: "));
        assert_eq!(error(r#"{"id":"1"}"#), "the attribute `specversion` is missing");
        assert_eq!(error(r#"{"specversion":"0.3"}"#), "`specversion` is `0.3`: only 1.0 is known");
        assert_eq!(error(r#"{"id":7}"#), "the attribute `id` is `7`: allowed is a string");
        let with = |rest: &str| {
            error(&format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{rest}}}"#))
        };
        assert_eq!(
            with(r#""data":1,"data_base64":"eA==""#),
            "it has both `data` and `data_base64`"
        );
        assert_eq!(
            with(r#""x":[]"#),
            "the attribute `x` is a list: allowed is a string, a number or a boolean"
        );
        assert!(with(r#""data_base64":"%""#).starts_with("`data_base64` is no base64: "));
    }
}
