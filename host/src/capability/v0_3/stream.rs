//! The native stream of events.

use crate::broker::{BrokerError, Lease, Verdict};
use crate::capability::bindings::Event;
use crate::capability::closing::Taker;
use crate::capability::convert;
use crate::capability::session::Handed;
use std::pin::Pin;
use std::task::{Context, Poll};
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};
use wasmtime::{Result, StoreContextMut};

/// The most events that are handed over at once, whatever the guest has room for.
const READ_EVENTS_MAX: usize = 256;

/// Feeds a guest's stream from a subscription. It is pulled: nothing is taken
/// before the guest reads, and a read acknowledges what the reads before it
/// returned. Dropping it gives back what is not settled.
pub(super) struct EventProducer {
    taker: Taker,
    handed: Handed,
    /// Taken by a read of length zero, which asks for readiness alone.
    next: Option<Lease>,
}

impl EventProducer {
    pub(super) fn new(taker: Taker, handed: Handed) -> Self {
        Self { taker, handed, next: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        match self.next.take() {
            Some(lease) => Poll::Ready(Ok(lease)),
            None => self.taker.poll_next(cx),
        }
    }

    fn hand_over(&self, lease: Lease, events: &mut Vec<Event>) {
        events.push(convert::to_wit(&lease));
        self.handed.lock().push(lease);
    }
}

impl<D> StreamProducer<D> for EventProducer {
    type Item = Event;
    type Buffer = VecBuffer<Event>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Event, VecBuffer<Event>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let this = self.get_mut();
        let room =
            destination.remaining(&mut store).unwrap_or(READ_EVENTS_MAX).min(READ_EVENTS_MAX);
        if room > 0 {
            for lease in std::mem::take(&mut *this.handed.lock()) {
                lease.settle(Verdict::Ack);
            }
        }
        match this.poll_next(cx) {
            Poll::Ready(Ok(lease)) if room == 0 => {
                this.next = Some(lease);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Ok(lease)) => {
                let mut events = Vec::with_capacity(1);
                this.hand_over(lease, &mut events);
                while events.len() < room
                    && let Ok(Some(lease)) = this.taker.try_next()
                {
                    this.hand_over(lease, &mut events);
                }
                destination.set_buffer(events.into());
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
