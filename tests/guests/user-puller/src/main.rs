//! A command that prints what comes to the subscription `user/+`, for tests.

use pubsub::{Error, Result};

fn main() -> Result<()> {
    loop {
        match pubsub::receive("user/+") {
            Ok(event) => {
                let topic = event.topic.as_deref().unwrap_or("nowhere");
                println!("received {} from {topic}", event.text()?);
            }
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
