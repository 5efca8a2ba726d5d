//! Where the workers of one component take their events from.

use crate::broker::{BrokerError, Lease, Subscription};
use std::sync::Arc;
use std::task::{Context, Poll};

/// The push subscriptions of a component, as one of its workers sees them. Takes
/// from them in turn, so that a busy one does not starve the others.
#[derive(Clone)]
pub(super) struct Inbox {
    subscriptions: Vec<Arc<Subscription>>,
    turn: usize,
    last: Option<BrokerError>,
}

impl Inbox {
    pub(super) fn new(subscriptions: Vec<Arc<Subscription>>) -> Self {
        Self { subscriptions, turn: 0, last: None }
    }

    /// The next event of any subscription.
    ///
    /// # Errors
    /// The last one has ended, for the reason given.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        let mut looked_at = 0;
        while looked_at < self.subscriptions.len() {
            let turn = self.turn % self.subscriptions.len();
            match self.subscriptions[turn].poll_next(cx) {
                Poll::Ready(Ok(lease)) => {
                    self.turn = turn + 1;
                    return Poll::Ready(Ok(lease));
                }
                Poll::Ready(Err(error)) => {
                    self.subscriptions.remove(turn);
                    self.last = Some(error);
                }
                Poll::Pending => {
                    looked_at += 1;
                    self.turn = turn + 1;
                }
            }
        }
        match (&self.last, self.subscriptions.is_empty()) {
            (Some(error), true) => Poll::Ready(Err(error.clone())),
            _ => Poll::Pending,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Lease, BrokerError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}
