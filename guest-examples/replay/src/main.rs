//! Joins late, and reads what was published before: counts the orders of a
//! history, and ends with it. Argument: SUBSCRIPTION (`orders/+`, the text of its
//! `topic`, which begins at the earliest event that its broker remembers).

use pubsub::pull::{ack_all, pull};
use pubsub::{Error, Result};
use std::time::Duration;

/// Nothing for so long: that was all.
const END: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let subscription = std::env::args().nth(1).unwrap_or_else(|| "orders/+".into());
    let mut count = 0;
    loop {
        let page = match pull(&subscription, 64, END) {
            Err(Error::Closed) => return Ok(()),
            page => page?,
        };
        if page.is_empty() {
            println!("the history has {count} orders");
            return Ok(());
        }
        for delivery in &page {
            count += 1;
            println!("{}", delivery.event().text()?);
        }
        for acknowledged in ack_all(page) {
            acknowledged?;
        }
    }
}
