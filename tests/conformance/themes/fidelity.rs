//! Events arrive as they were published.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use wasi_pubsub::broker::{Broker, Event, Subscription, Verdict};

async fn assert_arrives(broker: &Broker, subscription: &Arc<Subscription>, sent: Event) {
    publish_event(broker, "t", sent.clone(), QOS_1).await;
    let lease = take(subscription).await;
    assert_eq!(**lease.event(), sent);
    confirm(lease, Verdict::Ack).await;
}

pub(crate) async fn the_whole_envelope_arrives(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let pairs = [
        ("time", "2026-08-04T12:00:00.123456Z"),
        ("subject", "order/4711"),
        ("dataschema", "https://example.com/schema?v=1#top"),
        ("zeta", "before alpha: order counts"),
        ("alpha", "ünïcødé, ✓, 漢字, \u{1F680}"),
        ("quotes", "\"'\\ <&>"),
        ("empty", ""),
        ("number", "007"),
        ("boolean", "true"),
        ("null", "null"),
        ("long", &"x".repeat(1024)),
    ];
    let sent = Event {
        id: "id with spaces, ✓ and \"quotes\"".to_owned(),
        source: "https://example.com/a?b=c#d".to_owned(),
        kind: "com.example.order.created".to_owned(),
        data: b"payload".to_vec().into(),
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        attributes: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ordering_key: Some("customer/42 ✓".to_owned()),
    };
    assert_arrives(&broker, &subscription, sent).await;
}

pub(crate) async fn payloads_arrive_byte_for_byte(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let payloads: &[&[u8]] = &[
        b"",
        b"\0",
        b"text",
        b"{ \"b\": 1.0,\n \"a\": [ 1e3, 18446744073709551616 ], \"b\": 2 }",
        b"{ not json",
        b"\"a string\"",
        b"null",
        b"\xff\xfe\x00\x80",
        b"\xef\xbb\xbfwith a byte order mark",
    ];
    let all: Vec<u8> = (0..=255).collect();
    let types = [
        None,
        Some("application/json"),
        Some("text/plain"),
        Some("application/octet-stream"),
        Some("application/vnd.example+json; charset=utf-8"),
        Some("image/png"),
    ];
    for content_type in types {
        for payload in payloads.iter().copied().chain([&all[..]]) {
            let sent = Event {
                data: payload.to_vec().into(),
                content_type: content_type.map(str::to_owned),
                ..event("1")
            };
            assert_arrives(&broker, &subscription, sent).await;
        }
    }
}

pub(crate) async fn what_is_absent_stays_absent(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let bare = Event { data: bytes::Bytes::new(), ..event("1") };
    assert!(
        bare.content_type.is_none() && bare.ordering_key.is_none() && bare.attributes.is_empty()
    );
    assert_arrives(&broker, &subscription, bare).await;
}

pub(crate) async fn a_large_payload_arrives(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let data: Vec<u8> =
        (0..1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    publish_event(&broker, "t", Event { data: data.clone().into(), ..event("1") }, QOS_1).await;
    let lease = take_id(&subscription, "1").await;
    assert!(lease.event().data == data, "1 MiB came back changed");
}

pub(crate) async fn topics_of_any_script_arrive(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("#")).await;
    for text in ["é", "日本/東京", "🚀/launch", "with space/ and more ", "a/b/", "//", "quote\"s\\"]
    {
        publish(&broker, text, ["1"]).await;
        let lease = take(&subscription).await;
        assert_eq!(lease.topic().as_str(), text);
        confirm(lease, Verdict::Ack).await;
    }
}

/// Whether such an event is refused or taken is the backend's choice; what is
/// taken arrives whole, and what is refused is refused for good.
async fn assert_refused_or_arrives(
    broker: &Broker,
    subscription: &Arc<Subscription>,
    to: &str,
    sent: Event,
) {
    match try_publish(broker, to, sent.clone(), QOS_1).await {
        Ok(()) => {
            let lease = take(subscription).await;
            assert_eq!((lease.topic().as_str(), &**lease.event()), (to, &sent));
            confirm(lease, Verdict::Ack).await;
        }
        Err(error) => assert!(!error.is_temporary(), "`{error}` for {sent:?}"),
    }
}

pub(crate) async fn attributes_named_like_the_envelope_do_not_garble_it(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let names = [
        "id",
        "source",
        "type",
        "specversion",
        "data",
        "data_base64",
        "datacontenttype",
        "partitionkey",
        "ID",
        "",
    ];
    for name in names {
        let sent = Event { attributes: vec![(name.to_owned(), "other".to_owned())], ..event("1") };
        assert_refused_or_arrives(&broker, &subscription, "t", sent).await;
    }
}

/// Control characters, and code points that are no characters.
const ODD: [char; 7] = ['\n', '\t', '\u{1}', '\u{7f}', '\u{85}', '\u{fdd0}', '\u{ffff}'];

pub(crate) async fn control_characters_are_refused_or_arrive(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    for odd in ODD {
        let text = format!("a{odd}b");
        let events = [
            Event { attributes: vec![("name".to_owned(), text.clone())], ..event("1") },
            Event { attributes: vec![(text.clone(), "value".to_owned())], ..event("1") },
            Event { kind: text.clone(), ..event("1") },
            Event { content_type: Some(text.clone()), ..event("1") },
            Event { ordering_key: Some(text.clone()), ..event("1") },
            Event { id: text, ..event("1") },
        ];
        for sent in events {
            assert_refused_or_arrives(&broker, &subscription, "t", sent).await;
        }
    }
    publish(&broker, "t", ["marker"]).await;
    handle(&subscription, "marker").await;
}

pub(crate) async fn topics_with_control_characters_are_refused_or_arrive(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t/#")).await;
    for odd in ODD {
        let text = format!("t/{odd}");
        assert_refused_or_arrives(&broker, &subscription, &text, event("1")).await;
        let exact = testkit::within("an answer", broker.subscribe(on(&text))).await;
        if let Err(error) = exact {
            assert!(!error.is_temporary(), "{error}");
        }
    }
    publish(&broker, "t/plain", ["marker"]).await;
    handle(&subscription, "marker").await;
}
