//! Events as JSON: the CloudEvents JSON format, version 1.0.2.

use super::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

/// The version of CloudEvents that is written, and read.
pub const SPEC_VERSION: &str = "1.0";
/// The attribute that carries the ordering key (CloudEvents' partitioning extension).
pub const PARTITION_KEY: &str = "partitionkey";

/// Why a text is no event in the CloudEvents JSON format.
#[derive(Debug, thiserror::Error)]
pub enum CloudEventError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON, and not an object.
    #[error("it is no JSON object")]
    NotAnObject,
    /// A required attribute is not there, or empty.
    #[error("the attribute `{0}` is missing")]
    Missing(&'static str),
    /// An attribute has a type that CloudEvents does not allow.
    #[error("the attribute `{0}` is no string, number or boolean")]
    WrongType(String),
    /// It is of a version that is not known.
    #[error("`specversion` is `{0}`: only 1.0 is known")]
    Version(String),
    /// `data_base64` is no base64.
    #[error("`data_base64` is no base64: {0}")]
    Base64(base64::DecodeError),
    /// Both `data` and `data_base64` are there.
    #[error("it has both `data` and `data_base64`")]
    TwoPayloads,
}

/// Writes an event as an object in the CloudEvents JSON format (section 3).
///
/// Data that is JSON by its media type is embedded as it is; other text becomes
/// a string, and anything else `data_base64`. An attribute that occurs twice is
/// written once, with its first value: JSON cannot repeat it.
#[must_use]
pub fn to_json(event: &Event) -> Map<String, Value> {
    let mut json = Map::new();
    let mut put = |name: &str, value: &str| {
        json.entry(name).or_insert_with(|| Value::String(value.to_owned()));
    };
    put("specversion", SPEC_VERSION);
    put("id", &event.id);
    put("source", &event.source);
    put("type", &event.kind);
    if let Some(content_type) = &event.content_type {
        put("datacontenttype", content_type);
    }
    if let Some(key) = &event.ordering_key {
        put(PARTITION_KEY, key);
    }
    for (name, value) in &event.attributes {
        if !matches!(name.as_str(), "data" | "data_base64") {
            put(name, value);
        }
    }
    if !event.data.is_empty() {
        let (name, value) = payload(event);
        json.insert(name.to_owned(), value);
    }
    json
}

fn payload(event: &Event) -> (&'static str, Value) {
    let embedded = event
        .content_type
        .as_deref()
        .filter(|media_type| is_json(media_type))
        .and_then(|_| serde_json::from_slice(&event.data).ok());
    match (embedded, std::str::from_utf8(&event.data)) {
        (Some(value), _) => ("data", value),
        // With a JSON media type, a string would be read as a JSON string.
        (None, Ok(text)) if !event.content_type.as_deref().is_some_and(is_json) => {
            ("data", Value::String(text.to_owned()))
        }
        _ => ("data_base64", Value::String(BASE64.encode(&event.data))),
    }
}

/// Whether a media type means JSON (CloudEvents JSON format, section 3.1).
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Reads an event from a text in the CloudEvents JSON format.
///
/// # Errors
/// Where the text breaks a rule of the format: see [`CloudEventError`].
pub fn from_json(text: &[u8]) -> Result<Event, CloudEventError> {
    match serde_json::from_slice(text)? {
        Value::Object(object) => from_object(object),
        _ => Err(CloudEventError::NotAnObject),
    }
}

/// Reads an event from a JSON object in the CloudEvents format.
///
/// # Errors
/// As [`from_json`].
pub fn from_object(mut json: Map<String, Value>) -> Result<Event, CloudEventError> {
    let data = json.remove("data").filter(|value| !value.is_null());
    let base64 = json.remove("data_base64").filter(|value| !value.is_null());
    let mut attributes = Vec::new();
    for (name, value) in json {
        match value {
            Value::String(text) => attributes.push((name, text)),
            Value::Number(number) => attributes.push((name, number.to_string())),
            Value::Bool(value) => attributes.push((name, value.to_string())),
            Value::Null => {}
            _ => return Err(CloudEventError::WrongType(name)),
        }
    }
    let mut take = |name: &str| {
        let position = attributes.iter().position(|(n, _)| n == name)?;
        Some(attributes.remove(position).1)
    };
    let version = take("specversion").ok_or(CloudEventError::Missing("specversion"))?;
    if version != SPEC_VERSION {
        return Err(CloudEventError::Version(version));
    }
    let mut required =
        |name| take(name).filter(|v| !v.is_empty()).ok_or(CloudEventError::Missing(name));
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    let content_type = take("datacontenttype");
    let ordering_key = take(PARTITION_KEY);
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(CloudEventError::TwoPayloads),
        (None, None) => Vec::new(),
        (None, Some(text)) => BASE64
            .decode(text.as_str().ok_or_else(|| CloudEventError::WrongType("data_base64".into()))?)
            .map_err(CloudEventError::Base64)?,
        // A string is the text itself, unless the data is JSON by its media type:
        // then it is a JSON string (section 3.1.1).
        (Some(Value::String(text)), None) if !content_type.as_deref().is_some_and(is_json) => {
            text.into_bytes()
        }
        (Some(value), None) => serde_json::to_vec(&value)?,
    };
    Ok(Event { id, source, kind, data: data.into(), content_type, attributes, ordering_key })
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
            attributes: vec![("region".into(), "eu".into())],
            ordering_key: Some("k".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (data, content_type) in [
            (&b""[..], None),
            (b"text", None),
            (b"text", Some("text/plain")),
            (b"{\"a\":1}", Some("application/json")),
            (b"\"a string\"", Some("application/json; charset=utf-8")),
            (b"no json", Some("application/json")),
            (b"\xff\x00", None),
            (b"\xff\x00", Some("application/cbor")),
        ] {
            let event = event(data, content_type);
            let text = serde_json::to_vec(&to_json(&event)).unwrap();
            assert_eq!(from_json(&text).unwrap(), event);
        }
    }

    #[test]
    fn data_is_embedded_as_its_media_type_says() {
        let json = to_json(&event(b"{\"a\":1}", Some("application/json")));
        assert_eq!(json["data"], serde_json::json!({"a": 1}));
        let json = to_json(&event(b"{\"a\":1}", Some("text/plain")));
        assert_eq!(json["data"], serde_json::json!("{\"a\":1}"));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let error = |text: &str| from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error("{").starts_with("it is no JSON: "));
        assert_eq!(error("[]"), "it is no JSON object");
        assert_eq!(error(r#"{"id":"1"}"#), "the attribute `specversion` is missing");
        assert_eq!(error(r#"{"specversion":"0.3"}"#), "`specversion` is `0.3`: only 1.0 is known");
        let with = |rest: &str| {
            error(&format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{rest}}}"#))
        };
        assert_eq!(
            with(r#""data":1,"data_base64":"eA==""#),
            "it has both `data` and `data_base64`"
        );
        assert_eq!(with(r#""x":[]"#), "the attribute `x` is no string, number or boolean");
    }
}
