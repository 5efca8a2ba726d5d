//! Publishes a few orders, and ends. Arguments: TOPIC (`orders/new`), COUNT (3).

use pubsub::{Event, Result};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders/new".into());
    let count: u32 = args.next().map_or(Ok(3), |count| count.parse())?;
    for number in 1..=count {
        pubsub::publish(&topic, Event::new("com.example.order", format!("order {number}")))?;
    }
    println!("published {count} to {topic}");
    Ok(())
}
