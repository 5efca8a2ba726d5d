//! A handler in both versions of the interface, for tests.

use pubsub::{Event, Result};

#[pubsub::on_message]
fn blocking(message: Event) -> Result<()> {
    println!("0.2 {}", message.text()?);
    Ok(())
}

#[pubsub::register_message]
async fn concurrent(message: Event) -> Result<()> {
    println!("0.3 {}", message.text()?);
    Ok(())
}
