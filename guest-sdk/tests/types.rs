//! Events and errors, as a guest's code sees them.
#![allow(clippy::unwrap_used)]

use pubsub::{Error, Event};
use std::time::Duration;

#[test]
fn debug_shows_what_is_set_and_text_as_text() {
    let event = Event::new("t", "tea \"hot\"").with_attribute("region", "eu");
    assert_eq!(
        format!("{event:?}"),
        r#"Event { type: "t", data: "tea \"hot\"", attributes: {"region": "eu"} }"#
    );
    let full = Event {
        id: "1".into(),
        source: "/s".into(),
        content_type: Some("text/plain".into()),
        ordering_key: Some("k".into()),
        topic: Some("a/b".into()),
        attempt: 2,
        ..Event::new("t", [0xff, 0xfe])
    };
    assert_eq!(
        format!("{full:?}"),
        "Event { id: \"1\", source: \"/s\", type: \"t\", data: <2 bytes>, \
         content_type: \"text/plain\", ordering_key: \"k\", topic: \"a/b\", attempt: 2 }"
    );
}

#[test]
fn debug_cuts_long_text_between_characters() {
    let short = Event::new("t", "ä".repeat(256));
    assert!(format!("{short:?}").contains(&format!("data: \"{}\" }}", "ä".repeat(256))));
    let long = Event::new("t", "ä".repeat(257));
    let cut = format!("data: \"{}\"... <514 bytes> }}", "ä".repeat(256));
    assert!(format!("{long:?}").contains(&cut), "{long:?}");
}

#[test]
fn the_builder_sets_every_field() {
    let event = Event::new("t", "d")
        .with_id("1")
        .with_source("/s")
        .with_content_type("text/plain")
        .with_ordering_key("k")
        .with_attribute("a", "1")
        .with_attribute("a", "2");
    assert_eq!((event.id.as_str(), event.source.as_str()), ("1", "/s"));
    assert_eq!(event.content_type.as_deref(), Some("text/plain"));
    assert_eq!(event.ordering_key.as_deref(), Some("k"));
    assert_eq!(event.attribute("a"), Some("1"));
    assert_eq!(event.attribute("b"), None);
    assert_eq!(event.attributes.len(), 2);
}

#[test]
fn data_that_is_not_text_is_rejected() {
    assert_eq!(Event::new("t", "ä").text(), Ok("ä"));
    let broken = Event::new("t", vec![0xff]);
    assert!(matches!(broken.text(), Err(Error::Rejected(_))));
    assert_eq!(broken.text_lossy(), "\u{fffd}");
}

#[test]
fn delays_round_up_to_milliseconds_and_never_wrap() {
    for (delay, ms) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(5), 5),
        (Duration::from_micros(5001), 6),
        (Duration::MAX, u64::MAX),
    ] {
        assert_eq!(Error::retry_after(delay), Error::RetryAfter(ms), "{delay:?}");
    }
}

#[test]
fn the_question_mark_takes_the_usual_errors() {
    fn number(text: &str) -> pubsub::Result<u32> {
        Ok(text.parse()?)
    }
    assert_eq!(number("x"), Err(Error::Other("invalid digit found in string".into())));

    fn words() -> pubsub::Result<()> {
        Err("no")?
    }
    assert_eq!(words(), Err(Error::Other("no".into())));
    let boxed: Box<dyn std::error::Error> = Error::Timeout.into();
    assert_eq!(Error::from(boxed), Error::Other("timed out".into()));
}

#[test]
fn errors_read_as_sentences() {
    for (error, text) in [
        (Error::InvalidTopic("a/#/b".into()), "invalid topic: a/#/b"),
        (Error::TooLarge(10), "the event is larger than 10 bytes"),
        (Error::Closed, "the subscription has ended"),
        (Error::RetryAfter(7), "retry after 7 ms"),
        (Error::rejected("stale"), "rejected: stale"),
        (Error::other(3), "3"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
