//! One dead letter, as it was collected.

use crate::broker::{DEAD_LETTER_REDRIVE, Event};

/// What the core adds to an event that it gives up: why, where the event was
/// published, how often it was tried and by whom.
const REASON: &str = "deadletterreason";
const TOPIC: &str = "deadlettertopic";
const ATTEMPTS: &str = "deadletterattempts";
const SUBSCRIPTION: &str = "deadlettersubscription";

/// A letter in a spool.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Its number on this machine, which no other letter gets.
    pub(super) number: u64,
    /// When it was collected, as RFC 3339 says.
    pub(super) collected: String,
    /// The dead-letter topic.
    pub(super) topic: String,
    /// The event with the attributes of a dead letter.
    pub(super) event: Event,
}

/// What two copies of one letter have in common: the event, and whose verdict
/// it was.
pub(super) type Key = (String, String, Option<String>);

pub(super) fn key(event: &Event) -> Key {
    let subscription = event.attribute(SUBSCRIPTION).map(str::to_owned);
    (event.source.clone(), event.id.clone(), subscription)
}

impl Letter {
    /// The topic that the event was published to; `None` where the letter does
    /// not say so.
    pub(super) fn origin(&self) -> Option<&str> {
        self.event.attribute(TOPIC)
    }

    pub(super) fn reason(&self) -> &str {
        self.event.attribute(REASON).unwrap_or("unknown")
    }

    pub(super) fn attempts(&self) -> &str {
        self.event.attribute(ATTEMPTS).unwrap_or("?")
    }

    pub(super) fn subscription(&self) -> Option<&str> {
        self.event.attribute(SUBSCRIPTION)
    }

    /// The event as it was before it became a letter.
    pub(super) fn original(&self) -> Event {
        let mut event = self.event.clone();
        let own = [REASON, TOPIC, ATTEMPTS, SUBSCRIPTION, DEAD_LETTER_REDRIVE];
        event.attributes.retain(|(name, _)| !own.contains(&name.as_str()));
        event
    }

    /// The event to publish again. It says that it is: subscriptions that
    /// remember their verdict on the event must not take it for a repetition.
    /// The same letter is the same event each time.
    pub(super) fn redriven(&self) -> Event {
        let mut event = self.original();
        let redrive = format!("{} {}", self.collected, self.number);
        event.attributes.push((DEAD_LETTER_REDRIVE.to_owned(), redrive));
        event
    }

    /// The attributes of the event alone.
    pub(super) fn attributes(&self) -> Vec<(String, String)> {
        self.original().attributes
    }
}
