//! An asynchronous handler that pulls as its event says, for tests.
//!
//! The payload is one step: `receive SUBSCRIPTION COUNT`, `stream SUBSCRIPTION
//! COUNT`, or `pull SUBSCRIPTION MAX` (and acknowledge). `fail`, after it, fails
//! in the end: `pull a 1 fail`.

use pubsub::{Event, Result, p3};
use std::time::Duration;

#[pubsub::on_message]
async fn on_message(message: Event) -> Result<()> {
    let words: Vec<&str> = message.text()?.split(' ').collect();
    let &[verb, subscription, count, ref end @ ..] = words.as_slice() else {
        return Err("a step is VERB SUBSCRIPTION COUNT".into());
    };
    let count: u32 = count.parse()?;
    match verb {
        "receive" => {
            for _ in 0..count {
                println!("received {}", p3::receive(subscription).await?.text()?);
            }
        }
        "stream" => {
            let mut events = p3::stream(subscription)?;
            for _ in 0..count {
                let Some(event) = events.next().await else {
                    break;
                };
                println!("streamed {}", event.text()?);
            }
        }
        "pull" => {
            for delivery in p3::pull(subscription, count, Duration::from_secs(5)).await? {
                println!("pulled {}", delivery.event().text()?);
                delivery.ack().await?;
            }
        }
        _ => return Err(format!("no such step: {verb}").into()),
    }
    if end == ["fail"] { Err("told to fail".into()) } else { Ok(()) }
}
