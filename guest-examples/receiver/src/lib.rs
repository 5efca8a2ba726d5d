//! Prints every event that is pushed to it.

use pubsub::{Event, Result};

#[pubsub::on_message]
fn on_message(message: Event) -> Result<()> {
    println!("received {message:?}");
    Ok(())
}
