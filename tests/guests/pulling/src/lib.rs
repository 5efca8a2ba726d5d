//! A handler that pulls as its event says, for tests.
//!
//! The payload is one step: `receive SUBSCRIPTION COUNT`, or `pull SUBSCRIPTION
//! MAX` (and acknowledge). `fail`, after it, fails in the end: `receive a 1 fail`.

use pubsub::{Event, Result};
use std::time::Duration;

#[pubsub::on_message]
fn on_message(message: Event) -> Result<()> {
    let words: Vec<&str> = message.text()?.split(' ').collect();
    let &[verb, subscription, count, ref end @ ..] = words.as_slice() else {
        return Err("a step is VERB SUBSCRIPTION COUNT".into());
    };
    let count: u32 = count.parse()?;
    match verb {
        "receive" => {
            for _ in 0..count {
                println!("received {}", pubsub::receive(subscription)?.text()?);
            }
        }
        "pull" => {
            for delivery in pubsub::pull(subscription, count, Duration::from_secs(5))? {
                println!("pulled {}", delivery.event().text()?);
                delivery.ack()?;
            }
        }
        _ => return Err(format!("no such step: {verb}").into()),
    }
    if end == ["fail"] { Err("told to fail".into()) } else { Ok(()) }
}
