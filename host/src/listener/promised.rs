//! What goes on with a client once something is kept: a packet says no more than what
//! is on the disk.

use super::archive::Promise;
use super::connection::Client;
use futures_util::stream::{FuturesOrdered, Stream};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What waits, in the order in which it is to be done. Most clients never have
/// anything here.
#[derive(Default)]
pub(super) struct Promised(Option<Box<FuturesOrdered<Waiting>>>);

type Waiting = Pin<Box<dyn Future<Output = Option<Next>> + Send>>;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// Send the event with this identifier; whether the client may have it already.
    Publish(u16, bool),
    /// Send PUBREL.
    Release(u16),
    /// Send PUBCOMP; whether the PUBLISH is known.
    Complete(u16, bool),
}

impl Promised {
    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.len())
    }
}

impl Client {
    /// Does something once a promise is kept, and all that was to be done before it.
    /// Where the disk fails it waits until that is over.
    pub(super) fn await_promise(&mut self, promise: Promise, next: Next) {
        if promise.is_kept() && self.promised.len() == 0 {
            self.go_on(next);
            return;
        }
        self.promised.0.get_or_insert_default().push_back(Box::pin(async move {
            // At the end of the server nothing more is said.
            promise.kept_at_last().await.ok().map(|()| next)
        }));
    }

    /// Does what can be done. Says whether something was.
    pub(super) fn poll_promised(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while let Some(waiting) = &mut self.promised.0
            && let Poll::Ready(Some(next)) = Pin::new(&mut **waiting).poll_next(cx)
        {
            if let Some(next) = next {
                self.go_on(next);
            }
            progressed = true;
        }
        progressed
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Publish(id, dup) => self.publish_kept(id, dup),
            Next::Release(id) => self.write_pubrel(id),
            Next::Complete(id, is_known) => self.complete(id, is_known),
        }
    }
}
