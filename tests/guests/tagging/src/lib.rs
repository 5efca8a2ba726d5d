//! A handler that publishes with attributes of its own, for tests.
//!
//! The payload is `TOPIC [NAME=VALUE]... | TEXT`.

use pubsub::{Event, Result};

#[pubsub::on_message]
fn on_message(message: Event) -> Result<()> {
    let (head, text) = message.text()?.split_once(" | ").ok_or("TOPIC [NAME=VALUE]... | TEXT")?;
    let mut words = head.split(' ');
    let topic = words.next().unwrap_or_default();
    let mut event = Event::new("test", text);
    for word in words {
        let (name, value) = word.split_once('=').ok_or("NAME=VALUE")?;
        event = event.with_attribute(name, value);
    }
    pubsub::publish(topic, event)
}
