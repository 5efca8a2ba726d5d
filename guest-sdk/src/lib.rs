//! Publish/subscribe services as WebAssembly components.
//!
//! A handler is a library crate (`crate-type = ["cdylib"]`) with one function:
//!
//! ```no_run
//! use pubsub::{Event, Result};
//!
//! #[pubsub::on_message]
//! fn on_message(message: Event) -> Result<()> {
//!     println!("received {message:?}");
//!     pubsub::publish("my-topic", Event::new("my-type", "my-data"))
//! }
//! ```
//!
//! A command is a plain program with `fn main() -> pubsub::Result<()>`; it
//! publishes, and pulls events with [`receive`], [`stream()`] or [`pull()`].
//!
//! What is here waits by blocking the instance, and uses
//! `wasi:pubsub-data@0.2.0-draft`. [`p3`] has the same as `async` functions
//! over `@0.3.0-draft`: an `async fn` under [`on_message`] handles many events
//! at once in one instance. A component imports what it calls, no more.
//!
//! Build with `cargo build --target wasm32-wasip2`.

mod bindings;
mod error;
mod event;
pub mod p3;
pub mod pull;
mod stream;

#[doc(hidden)]
pub mod __private;

pub use error::{Error, Result};
pub use event::Event;
pub use pubsub_guest_macro::{main, on_message, on_message as register_message};
pub use pull::pull;
pub use stream::{Events, stream};

use bindings::p2::wasi::pubsub_data::basic;
use std::borrow::Borrow;
use std::time::Duration;

/// Publishes an event.
///
/// Returns once the broker has taken responsibility for it, as the configured
/// quality of service asks: at once with qos 0, after the broker's
/// acknowledgement with qos 1 and 2.
///
/// # Errors
/// The broker's or the host's, among them [`Error::AccessDenied`],
/// [`Error::InvalidTopic`], [`Error::TooLarge`] and [`Error::Unavailable`].
pub fn publish(topic: impl AsRef<str>, event: impl Borrow<Event>) -> Result<()> {
    basic::publish(topic.as_ref(), event.borrow())
}

/// Waits for the next event of a pull subscription.
///
/// `topic` is the exact text of the subscription's `topic` or `queue` in the
/// configuration. The event is acknowledged by the next call, or when the
/// component ends without failure; if it fails before, the event is delivered
/// again.
///
/// # Errors
/// [`Error::NoSuchSubscription`] if none is configured, [`Error::Closed`] when
/// the host stops.
pub fn receive(topic: impl AsRef<str>) -> Result<Event> {
    basic::receive(topic.as_ref())
}

/// Whole milliseconds, rounded up, so that no wait is cut to nothing.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
