//! The same as `async` functions, over `wasi:pubsub-data@0.3.0-draft`.
//!
//! An `async fn` under [`on_message`](crate::on_message) handles many events at
//! once in one instance, and an `async fn main` under [`main`](crate::main) is a
//! command. Both await what is here; the blocking functions of the crate's root
//! and of the standard library hold up all events of the instance meanwhile.

pub mod pull;
mod stream;

pub use pull::pull;
pub use stream::{Events, stream};

use crate::bindings::p3::wasi::{clocks::monotonic_clock, pubsub_data::basic};
use crate::{Event, Result};
use std::time::Duration;

/// Publishes an event; see [`publish`](crate::publish).
///
/// # Errors
/// As [`publish`](crate::publish).
pub async fn publish(topic: impl Into<String>, event: Event) -> Result<()> {
    basic::publish(topic.into(), event).await
}

/// Waits for the next event of a pull subscription; see [`receive`](crate::receive).
///
/// One call at a time for each subscription. Inside a handler, only where the
/// subscription is configured with qos 0, since many handlers share the
/// instance. Dropping the future gives the event back.
///
/// # Errors
/// As [`receive`](crate::receive), and [`Unsupported`](crate::Error::Unsupported)
/// where the place of the call does not allow it.
pub async fn receive(topic: impl Into<String>) -> Result<Event> {
    basic::receive(topic.into()).await
}

/// Waits, while other events of the instance go on.
pub async fn sleep(duration: Duration) {
    monotonic_clock::wait_for(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)).await;
}

/// Runs a future beside the current handler or main, which ends only when the
/// future has: a handler's verdict is given before, its instance stays busy.
///
/// Once the verdict is given, nothing that the future does changes it.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    wit_bindgen::spawn_local(future);
}
