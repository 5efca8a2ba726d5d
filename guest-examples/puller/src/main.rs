//! Takes events one by one, when it is ready for them; the next `receive`
//! acknowledges the one before. Arguments: SUBSCRIPTION (`orders/+`, the text
//! of its `queue` or `topic`), COUNT (no end).

use pubsub::{Error, Result};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let subscription = args.next().unwrap_or_else(|| "orders/+".into());
    let count: usize = args.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    for _ in 0..count {
        match pubsub::receive(&subscription) {
            Ok(event) => println!("received {event:?}"),
            Err(Error::Closed) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
