//! Dead letters: events that nobody will handle any more, on their way to a
//! topic of their own.

use super::actions::Watcher;
use crate::broker::{Event, Topic};
use std::sync::Arc;

/// The longest reason that a dead letter carries, in bytes of UTF-8.
pub(in crate::broker) const REASON_BYTES_MAX: usize = 1024;

/// The attribute that says why.
const REASON: &str = "deadletterreason";
/// The attribute that names the topic that the event was published to.
const TOPIC: &str = "deadlettertopic";
/// The attribute that says how often the event was tried.
const ATTEMPTS: &str = "deadletterattempts";
/// The attribute that names the subscription which gave the event up: several
/// may store a dead letter of one event, and each of them counts.
pub(in crate::broker) const SUBSCRIPTION: &str = "deadlettersubscription";

/// A dead letter that is not stored yet.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) event: Arc<Event>,
    /// How often storing it has failed.
    pub(super) failures: u32,
    /// Whether it is being published right now.
    pub(super) publishing: bool,
    pub(super) watcher: Option<Watcher>,
}

/// The event as it is published to the dead-letter topic: itself, with the story
/// of its last subscription. What an earlier dead letter said is replaced.
pub(super) fn dead_letter(
    event: &Event,
    topic: &Topic,
    subscription: &str,
    attempts: u32,
    reason: &str,
) -> Event {
    let mut letter = event.clone();
    let ours = [REASON, TOPIC, SUBSCRIPTION, ATTEMPTS];
    letter.attributes.retain(|(name, _)| !ours.contains(&name.as_str()));
    letter.attributes.extend([
        (REASON.to_owned(), shortened(reason).to_owned()),
        (TOPIC.to_owned(), topic.as_str().to_owned()),
        (SUBSCRIPTION.to_owned(), subscription.to_owned()),
        (ATTEMPTS.to_owned(), attempts.to_string()),
    ]);
    letter
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_the_event_and_its_last_story() {
        let event = Event {
            id: "7".into(),
            source: "shop".into(),
            kind: "order".into(),
            data: "x".into(),
            attributes: vec![("region".into(), "eu".into())],
            ..Event::default()
        };
        let topic = |text| Topic::new(text).unwrap();
        let first = dead_letter(&event, &topic("orders"), "billing/orders", 3, "first");
        let second = dead_letter(&first, &topic("dead/orders"), "letters", 1, "second");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            second.attributes,
            [
                pair("region", "eu"),
                pair("deadletterreason", "second"),
                pair("deadlettertopic", "dead/orders"),
                pair("deadlettersubscription", "letters"),
                pair("deadletterattempts", "1"),
            ]
        );
        assert_eq!(Event { attributes: event.attributes.clone(), ..second }, event);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "é".repeat(REASON_BYTES_MAX);
        let (event, topic) = (Event::default(), Topic::new("t").unwrap());
        let letter = dead_letter(&event, &topic, "s", 1, &format!("x{reason}"));
        let kept = letter.attribute(REASON).unwrap();
        assert_eq!(kept.len(), REASON_BYTES_MAX - 1);
    }
}
