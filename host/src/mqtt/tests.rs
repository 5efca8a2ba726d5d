#![allow(clippy::unwrap_used)]
use super::*;
use crate::broker::{BrokerError, Event, Qos, Topic};
use bytes::Bytes;
use fastrand::Rng;

fn mapping(format: Format) -> Mapping {
    Mapping::new(format, "mqtt://h:1883".into(), 1)
}

fn topic() -> Topic {
    Topic::new("a/é b").unwrap()
}

fn event() -> Event {
    Event {
        id: "1".into(),
        source: "/s".into(),
        kind: "t".into(),
        data: Bytes::from_static(b"data"),
        content_type: Some("text/plain".into()),
        attributes: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
        ordering_key: Some("k".into()),
    }
}

fn again(format: Format, protocol: Protocol, event: &Event) -> Event {
    let mapping = mapping(format);
    let packet = mapping.write(protocol, &topic(), event, Qos::AtLeastOnce).unwrap();
    let read = mapping.read(protocol, packet);
    assert!(read.identified);
    read.event
}

const WAYS: [(Format, Protocol); 4] = [
    (Format::CloudEvents, Protocol::V5),
    (Format::Structured, Protocol::V5),
    (Format::CloudEvents, Protocol::V4),
    (Format::Structured, Protocol::V4),
];

#[test]
fn binary_mode_is_laid_out_as_the_binding_says() {
    let mapping = mapping(Format::CloudEvents);
    let packet = mapping.write(Protocol::V5, &topic(), &event(), Qos::AtLeastOnce).unwrap();
    assert_eq!(packet.payload, "data");
    assert_eq!(packet.topic, "a/é b");
    assert_eq!(packet.properties.content_type.as_deref(), Some("text/plain"));
    let user: Vec<_> =
        packet.properties.user.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected =
        ["specversion=1.0", "id=1", "source=/s", "type=t", "partitionkey=k", "b=1", "a=2"];
    assert_eq!(user, expected);
}

#[test]
fn structured_mode_is_one_document() {
    let mapping = mapping(Format::Structured);
    let packet = mapping.write(Protocol::V5, &topic(), &event(), Qos::AtLeastOnce).unwrap();
    assert_eq!(
        packet.payload,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","partitionkey":"k","b":"1","a":"2","data":"data"}"#
    );
    assert!(packet.properties.content_type.unwrap().starts_with("application/cloudevents+json"));
    assert!(packet.properties.user.is_empty());
}

#[test]
fn data_comes_back_byte_for_byte() {
    for (data, content_type) in [
        (&b""[..], None),
        (b"text", None),
        (b"\xff\0\x01", None),
        (b"{\"b\": 1, \"a\":12345678901234567890123}", Some("application/json")),
        (b" {} ", Some("application/json")),
        (b"null", Some("application/json")),
        (b"\"x\"", Some("application/vnd.x+json; charset=utf-8")),
        (b"no json", Some("application/json")),
        (b"\x00\x01", Some("text/plain")),
        (b"line\r\n\"quoted\" \xc3\xa9", Some("text/plain")),
    ] {
        let event = Event {
            data: Bytes::copy_from_slice(data),
            content_type: content_type.map(str::to_owned),
            ..event()
        };
        for (format, protocol) in WAYS {
            assert_eq!(again(format, protocol, &event), event, "{format:?} {protocol:?}");
        }
    }
}

#[test]
fn repeated_attributes_keep_their_order_where_the_protocol_can() {
    let mut event = event();
    event.attributes = [("x", "1"), ("y", "2"), ("x", "3"), ("id", "4"), ("type", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    assert_eq!(again(Format::CloudEvents, Protocol::V5, &event), event);
    let error = mapping(Format::CloudEvents)
        .write(Protocol::V4, &topic(), &event, Qos::AtLeastOnce)
        .unwrap_err();
    assert!(matches!(error, BrokerError::Unsupported(text) if text.contains("`x` occurs twice")));
}

#[test]
fn what_mqtt_knows_is_an_attribute_in_both_directions() {
    let mut event = event();
    event.attributes = [
        ("a", "1"),
        ("mqtt.retain", "true"),
        ("mqtt.response-topic", "answers/é"),
        ("mqtt.correlation-data", "AP8="),
        ("mqtt.message-expiry", "60"),
        ("mqtt.payload-format", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let mapping = mapping(Format::CloudEvents);
    let packet = mapping.write(Protocol::V5, &topic(), &event, Qos::AtLeastOnce).unwrap();
    assert!(packet.retain);
    assert_eq!(packet.properties.correlation_data.as_deref(), Some(&b"\0\xff"[..]));
    assert_eq!(packet.properties.message_expiry, Some(60));
    assert!(packet.properties.user.iter().all(|(name, _)| !name.starts_with("mqtt.")));
    assert_eq!(mapping.read(Protocol::V5, packet).event, event);
}

#[test]
fn what_mqtt_cannot_hold_is_refused_before_it_is_sent() {
    for (name, value) in [
        ("mqtt.retain", "yes"),
        ("mqtt.response-topic", "a/#"),
        ("mqtt.correlation-data", "%"),
        ("mqtt.message-expiry", "-1"),
        ("mqtt.payload-format", "2"),
    ] {
        let mut event = event();
        event.attributes = vec![(name.into(), value.into())];
        let written =
            mapping(Format::CloudEvents).write(Protocol::V5, &topic(), &event, Qos::AtLeastOnce);
        let text = written.unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
    }
    let mut event = event();
    event.id = "x".repeat(70_000);
    let written =
        mapping(Format::CloudEvents).write(Protocol::V5, &topic(), &event, Qos::AtMostOnce);
    assert!(written.is_err());
}

#[test]
fn texts_that_brokers_refuse_travel_in_json() {
    for odd in ['\n', '\0', '\u{1}', '\u{7f}', '\u{85}', '\u{fdd0}', '\u{1ffff}'] {
        let mut event = event();
        event.attributes = vec![(format!("n{odd}"), "v".into()), ("m".into(), odd.to_string())];
        event.id = format!("a{odd}");
        assert_eq!(again(Format::CloudEvents, Protocol::V5, &event), event);
        let topic = Topic::new(&format!("a{odd}b")).or(Topic::new("a\u{1}"));
        let refused = mapping(Format::CloudEvents).write(
            Protocol::V5,
            &topic.unwrap(),
            &event,
            Qos::AtLeastOnce,
        );
        assert!(matches!(refused, Err(BrokerError::InvalidTopic(_))));
    }
    assert!(is_portable("é 日本 🚀 \u{fdcf} ~"));
}

#[test]
fn a_name_with_another_meaning_is_refused() {
    for (name, protocol) in [
        ("partitionkey", Protocol::V5),
        ("partitionkey", Protocol::V4),
        ("datacontenttype", Protocol::V4),
        ("data", Protocol::V4),
        ("data_base64", Protocol::V4),
        ("id", Protocol::V4),
    ] {
        let attributes = vec![(name.to_owned(), "x".to_owned())];
        let event = Event { attributes, content_type: None, ordering_key: None, ..event() };
        let refused =
            mapping(Format::CloudEvents).write(protocol, &topic(), &event, Qos::AtLeastOnce);
        assert!(matches!(refused, Err(BrokerError::Unsupported(_))), "{name}");
    }
}

#[test]
fn a_plain_message_becomes_an_event_with_a_name_of_its_own() {
    let mapping = mapping(Format::CloudEvents);
    let packet = Packet { topic: "a/é b".into(), payload: "21.5".into(), ..Packet::default() };
    for protocol in [Protocol::V5, Protocol::V4] {
        let first = mapping.read(protocol, packet.clone());
        let second = mapping.read(protocol, packet.clone());
        assert!(!first.identified);
        assert_ne!(first.event.id, second.event.id);
        assert_eq!(first.event.source, "mqtt://h:1883/a/%C3%A9%20b");
        assert_eq!(first.event.kind, "mqtt.publish");
        assert_eq!(first.event.data, "21.5");
        assert_eq!(first.event.content_type, None);
    }
}

#[test]
fn user_properties_of_what_is_no_cloudevent_stay_attributes() {
    let user =
        [("specversion", "1.0"), ("id", "7"), ("x", "1"), ("x", "2"), ("mqtt.retain", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let properties = Properties { user, ..Properties::default() };
    let packet = Packet { topic: "t".into(), properties, ..Packet::default() };
    let read = mapping(Format::CloudEvents).read(Protocol::V5, packet);
    assert!(!read.identified);
    let names: Vec<_> = read.event.attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["specversion", "id", "x", "x"], "a reserved name is not to be forged");
}

#[test]
fn an_event_of_another_version_is_a_plain_message() {
    for version in ["0.3", "2.0", ""] {
        let text = format!(r#"{{"specversion":"{version}","id":"1","source":"s","type":"t"}}"#);
        let packet =
            Packet { topic: "t".into(), payload: text.clone().into(), ..Packet::default() };
        let read = mapping(Format::CloudEvents).read(Protocol::V4, packet);
        assert!(!read.identified);
        assert_eq!(read.event.data, text);
    }
}

#[test]
fn raw_is_the_payload_alone() {
    let mapping = mapping(Format::Raw);
    for protocol in [Protocol::V5, Protocol::V4] {
        let packet = mapping.write(protocol, &topic(), &event(), Qos::AtMostOnce).unwrap();
        assert_eq!(packet.payload, "data");
        assert_eq!(packet.properties, Properties::default());
        let json = Bytes::from_static(br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#);
        let packet = Packet { topic: "t".into(), payload: json.clone(), ..Packet::default() };
        let read = mapping.read(protocol, packet);
        assert!(!read.identified);
        assert_eq!(read.event.data, json);
    }
}

#[test]
fn structured_events_of_others_are_read() {
    let read = |payload: &str, content_type: Option<&str>| {
        let content_type = content_type.map(str::to_owned);
        let properties = Properties { content_type, ..Properties::default() };
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let packet = Packet { topic: "t".into(), payload, properties, ..Packet::default() };
        mapping(Format::CloudEvents).read(Protocol::V5, packet)
    };
    let with =
        |rest: &str| format!(r#" {{"type":"t","specversion":"1.0","id":"i","source":"s"{rest}}}"#);
    let json = Some("Application/CloudEvents+JSON; charset=utf-8");
    let event =
        read(&with(r#","n":-5,"yes":true,"none":null,"data":{"a" : [1]},"z":"é""#), json).event;
    assert_eq!(event.data, r#"{"a" : [1]}"#);
    let attributes = [("n", "-5"), ("yes", "true"), ("z", "é")];
    assert_eq!(event.attributes, attributes.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(read(&with(r#","data_base64":"AP8=""#), json).event.data, &b"\0\xff"[..]);
    assert_eq!(read(&with(r#","data":"text""#), json).event.data, "text");
    assert_eq!(read(&with(r#","data":null"#), json).event.data, "");
    assert!(read(&with(""), None).identified, "from a client of MQTT 3.1.1");
    // Malformed, or something else: plain, and nothing is lost.
    for (payload, content_type) in [
        (with(r#","data":1,"data_base64":"AA==""#), json),
        (with(r#","data_base64":"%""#), json),
        (with("").replace("\"i\"", "5"), json),
        (with("").replace("\"i\"", "\"\""), json),
        (with("")[..20].to_owned(), json),
        ("[]".to_owned(), json),
        (String::new(), json),
        (with(""), Some("application/cloudevents-batch+json")),
        (with(""), Some("application/json")),
    ] {
        let read = read(&payload, content_type);
        assert!(!read.identified, "{payload}");
        assert_eq!(read.event.data, payload);
    }
}

fn text(random: &mut Rng) -> String {
    const PARTS: [&str; 12] =
        ["a", "id", "type", "é", "\"", "\\", "\n", "{", "mqtt.", "data", " ", "1.0"];
    (0..random.usize(0..4)).map(|_| PARTS[random.usize(0..PARTS.len())]).collect()
}

#[test]
fn whatever_is_published_comes_back() {
    for seed in 0..3000 {
        let random = &mut Rng::with_seed(seed);
        let event = Event {
            id: format!("i{}", text(random)),
            source: format!("s{}", text(random)),
            kind: format!("t{}", text(random)),
            data: (0..random.usize(0..20)).map(|_| random.u8(..)).collect::<Vec<_>>().into(),
            content_type: random.bool().then(|| format!("text/{}", text(random))),
            attributes: (0..random.usize(0..4))
                .map(|n| (format!("x{n}{}", text(random)), text(random)))
                .collect(),
            ordering_key: random.bool().then(|| text(random)),
        };
        for (format, protocol) in WAYS {
            assert_eq!(
                again(format, protocol, &event),
                event,
                "seed {seed} {format:?} {protocol:?}"
            );
        }
    }
}

/// Bytes from the network never panic, and whatever they are, they arrive.
#[test]
fn malformed_packets_are_delivered_as_they_are() {
    const START: &[u8] =
        br#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":[1,"x"]}}"#;
    for seed in 0..20_000 {
        let random = &mut Rng::with_seed(seed);
        let mut payload = START.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..payload.len());
            match random.u8(0..3) {
                0 => payload[at] = random.u8(..),
                1 => drop(payload.drain(at..)),
                _ => payload.insert(at, random.u8(..)),
            }
            if payload.is_empty() {
                break;
            }
        }
        let topic: Bytes =
            (0..random.usize(0..4)).map(|_| random.u8(..)).collect::<Vec<_>>().into();
        let packet = Packet { topic, payload: payload.clone().into(), ..Packet::default() };
        for protocol in [Protocol::V5, Protocol::V4] {
            let read = mapping(Format::CloudEvents).read(protocol, packet.clone());
            assert!(read.identified || read.event.data == payload, "seed {seed}");
            assert!(!read.event.id.is_empty() && !read.event.kind.is_empty());
        }
    }
}
