use crate::bindings::p3::wasi::pubsub_data::basic;
use crate::{Event, Result};
use wit_bindgen::{StreamReader, StreamResult};

/// Opens a pull subscription, named by the exact text of its `topic` or
/// `queue`, as a stream of events.
///
/// Inside a handler, only where the subscription is configured with qos 0,
/// since many handlers share the instance.
///
/// # Errors
/// [`NoSuchSubscription`](crate::Error::NoSuchSubscription) if none is
/// configured, [`Closed`](crate::Error::Closed) when the host stops.
pub fn stream(topic: impl AsRef<str>) -> Result<Events> {
    basic::stream(topic.as_ref()).map(|reader| Events { reader: Some(reader) })
}

/// An open subscription.
///
/// Taking events acknowledges those taken before: what has been returned counts
/// as handled when the next is asked for, or when a command ends without
/// failure. Dropping the stream acknowledges nothing.
pub struct Events {
    // None once the stream has ended: reading on would trap.
    reader: Option<StreamReader<Event>>,
}

impl Events {
    /// Waits for the next event; `None` when the subscription has ended, which
    /// the next call on the subscription explains.
    ///
    /// Await it to its end: an event that arrives while the future is being
    /// dropped may be lost. To wait for something else too, keep the future.
    pub async fn next(&mut self) -> Option<Event> {
        self.next_batch(1).await.pop()
    }

    /// Waits for an event, and takes up to `max` of those that have arrived;
    /// empty when the subscription has ended.
    pub async fn next_batch(&mut self, max: usize) -> Vec<Event> {
        let Some(reader) = &mut self.reader else {
            return Vec::new();
        };
        let (result, events) = reader.read(Vec::with_capacity(max)).await;
        if matches!(result, StreamResult::Dropped) {
            self.reader = None;
        }
        events
    }
}
