use crate::bindings::p2::wasi::{io::poll::Pollable, pubsub_data::basic};
use crate::{Error, Event, Result};

/// Opens a pull subscription, named by the exact text of its `topic` or
/// `queue`, as a stream of events.
///
/// ```no_run
/// # fn main() -> pubsub::Result<()> {
/// for event in pubsub::stream("orders/+")? {
///     println!("{:?}", event?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoSuchSubscription`] if none is configured, [`Error::Closed`] when
/// the host stops.
pub fn stream(topic: impl AsRef<str>) -> Result<Events> {
    basic::stream(topic.as_ref()).map(|stream| Events { ready: None, stream })
}

/// An open subscription, and an iterator that waits for each next event.
///
/// Taking events acknowledges those taken before: what has been returned counts
/// as handled when the next is asked for, or when the component ends without
/// failure. Dropping the stream acknowledges nothing. The iterator ends when
/// the subscription does.
pub struct Events {
    // A child of the stream, so it must be dropped first.
    ready: Option<Pollable>,
    stream: basic::EventStream,
}

impl Events {
    /// Takes up to `max` events, waiting for the first of them.
    ///
    /// # Errors
    /// [`Error::Closed`] when the subscription has ended.
    pub fn next_batch(&mut self, max: u32) -> Result<Vec<Event>> {
        loop {
            let events = self.stream.read(max)?;
            if max == 0 || !events.is_empty() {
                return Ok(events);
            }
            self.ready.get_or_insert_with(|| self.stream.subscribe()).block();
        }
    }

    /// Takes up to `max` events that have arrived, without waiting.
    ///
    /// # Errors
    /// [`Error::Closed`] when the subscription has ended.
    pub fn try_batch(&mut self, max: u32) -> Result<Vec<Event>> {
        self.stream.read(max)
    }

    /// Acknowledges all events taken so far.
    ///
    /// # Errors
    /// [`Error::Closed`] when the subscription has ended.
    pub fn acknowledge(&mut self) -> Result<()> {
        self.stream.read(0).map(drop)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_batch(1) {
            Ok(events) => events.into_iter().next().map(Ok),
            Err(Error::Closed) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
