//! The resource `event-stream`: a subscription that is read without waiting,
//! and polled.

use crate::broker::{BrokerError, Lease};
use crate::capability::bindings::{Error, Event};
use crate::capability::closing::Taker;
use crate::capability::convert;
use crate::capability::session::{Handed, acknowledge};
use wasmtime_wasi::p2::Pollable;

/// The most events that one `read` returns, whatever `max` says.
const READ_EVENTS_MAX: u32 = 1_024;

/// An open subscription of a 0.2 guest. Dropping it gives back what was handed
/// out and is not settled.
#[allow(unreachable_pub, reason = "`bindgen!` exports it again")]
pub struct EventStream {
    taker: Taker,
    handed: Handed,
    /// Whether a read acknowledges what the reads before it returned.
    acknowledges: bool,
    /// Taken while the guest polled, for the next `read`.
    next: Option<Result<Lease, BrokerError>>,
}

impl EventStream {
    pub(super) fn new(taker: Taker, handed: Handed, acknowledges: bool) -> Self {
        Self { taker, handed, acknowledges, next: None }
    }

    /// Acknowledges what earlier reads returned, then takes what has arrived.
    pub(super) async fn read(&mut self, max: u32) -> Result<Vec<Event>, Error> {
        if self.acknowledges {
            let earlier = std::mem::take(&mut *self.handed.lock());
            for lease in earlier {
                acknowledge(lease).await?;
            }
        }
        let mut events = Vec::new();
        while (events.len() as u64) < u64::from(max.min(READ_EVENTS_MAX)) {
            let lease = match self.next.take() {
                Some(next) => next.map(Some),
                None => self.taker.try_next(),
            };
            match lease {
                Ok(Some(lease)) => {
                    events.push(convert::to_wit(&lease));
                    self.handed.lock().push(lease);
                }
                Ok(None) => break,
                // What is in hand goes first; the next read says why it ended.
                Err(_) if !events.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(events)
    }
}

#[async_trait::async_trait]
impl Pollable for EventStream {
    async fn ready(&mut self) {
        if self.next.is_none() {
            self.next = Some(self.taker.next().await);
        }
    }
}
