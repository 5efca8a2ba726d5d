//! Takes events in batches and gives each its own verdict; what it cannot do
//! at the first attempt it asks for again. Arguments: SUBSCRIPTION (`orders/+`,
//! the text of its `queue` or `topic`), COUNT of events to finish (no end).

use pubsub::pull::{Delivery, pull};
use pubsub::{Error, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let subscription = args.next().unwrap_or_else(|| "orders/+".into());
    let mut left: u32 = args.next().map_or(Ok(u32::MAX), |count| count.parse())?;
    while left > 0 {
        let batch = match pull(&subscription, left.min(8), Duration::from_secs(5)) {
            Err(Error::Closed) => return Ok(()),
            batch => batch?,
        };
        for delivery in batch {
            match work(&delivery) {
                Ok(()) => delivery.ack()?,
                Err(Error::Rejected(reason)) => delivery.reject(reason)?,
                Err(error) => {
                    println!("again: {error}");
                    delivery.nack(Duration::from_millis(100))?;
                    continue;
                }
            }
            left -= 1;
        }
    }
    Ok(())
}

fn work(delivery: &Delivery) -> Result<()> {
    let event = delivery.event();
    let order = event.text()?;
    if order.ends_with('3') && event.attempt == 1 {
        return Err(format!("{order} is not in stock yet").into());
    }
    // Packing can take longer than the configured deadline.
    delivery.extend(Duration::from_secs(60))?;
    println!("packed {order}, attempt {}", event.attempt);
    Ok(())
}
