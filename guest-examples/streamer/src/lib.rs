//! Reads a subscription as a stream, without blocking: a command of WASI 0.3.
//! Arguments: SUBSCRIPTION (`orders/+`, the text of its `queue` or `topic`),
//! COUNT (no end).

use pubsub::{Result, p3};

#[pubsub::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let subscription = args.next().unwrap_or_else(|| "orders/+".into());
    let count: usize = args.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    let mut events = p3::stream(&subscription)?;
    for _ in 0..count {
        let Some(event) = events.next().await else {
            break;
        };
        println!("streamed {event:?}");
    }
    Ok(())
}
