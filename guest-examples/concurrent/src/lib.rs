//! Waits a second over each event, over many of them at once.

use pubsub::{Event, Result, p3};
use std::time::Duration;

#[pubsub::on_message]
async fn on_message(message: Event) -> Result<()> {
    let text = message.text()?;
    println!("started {text}");
    p3::sleep(Duration::from_secs(1)).await;
    println!("finished {text}");
    Ok(())
}
