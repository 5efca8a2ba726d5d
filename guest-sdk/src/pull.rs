//! Pulling with explicit acknowledgement, for batches and long work.

use crate::bindings::p2::wasi::pubsub_data::pull as wit;
use crate::{Event, Result, millis};
use std::cell::OnceCell;
use std::time::Duration;

/// Takes up to `max` events of a pull subscription, named by the exact text of
/// its `topic` or `queue`; waits up to `wait` for the first. Empty if none came.
///
/// # Errors
/// [`NoSuchSubscription`](crate::Error::NoSuchSubscription) if none is
/// configured, [`Closed`](crate::Error::Closed) when the host stops.
pub fn pull(subscription: impl AsRef<str>, max: u32, wait: Duration) -> Result<Vec<Delivery>> {
    let deliveries = wit::pull(subscription.as_ref(), max, millis(wait))?;
    Ok(deliveries.into_iter().map(Delivery::new).collect())
}

/// Acknowledges many events in one round trip; a result for each, in order.
pub fn ack_all(deliveries: impl IntoIterator<Item = Delivery>) -> Vec<Result<()>> {
    wit::ack_all(deliveries.into_iter().map(|delivery| delivery.handle).collect())
}

/// One event, leased to the component until the acknowledgement deadline.
///
/// Dropping it without a verdict gives it back for redelivery at once.
pub struct Delivery {
    handle: wit::Delivery,
    event: OnceCell<Event>,
}

impl Delivery {
    fn new(handle: wit::Delivery) -> Self {
        Self { handle, event: OnceCell::new() }
    }

    /// The event.
    pub fn event(&self) -> &Event {
        self.event.get_or_init(|| self.handle.event())
    }

    /// The event is done with. Returns once the broker knows it.
    ///
    /// # Errors
    /// [`LeaseExpired`](crate::Error::LeaseExpired) if the deadline has passed:
    /// the event is, or was, delivered again.
    pub fn ack(&self) -> Result<()> {
        self.handle.ack()
    }

    /// Deliver the event again, not before `delay` has passed.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, delay: Duration) -> Result<()> {
        self.handle.nack(millis(delay))
    }

    /// Never deliver the event again: it goes to the dead-letter topic, where
    /// there is one, with this reason.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn reject(&self, reason: impl AsRef<str>) -> Result<()> {
        self.handle.reject(reason.as_ref())
    }

    /// Sets the acknowledgement deadline to this long from now, at most ten
    /// minutes; zero gives the event back.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn extend(&self, deadline: Duration) -> Result<()> {
        self.handle.extend(millis(deadline))
    }
}
