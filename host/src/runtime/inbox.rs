//! Where the workers of one component take their events from.

use crate::broker::{BrokerError, Lease, Subscription};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// The subscriptions that a broker ended for good, as the workers find out.
#[derive(Default)]
pub(super) struct Ends {
    stopping: AtomicBool,
    found: Mutex<BTreeMap<String, String>>,
}

impl Ends {
    /// From now on subscriptions end because the service stops.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Each subscription that ended, with the reason.
    pub(super) fn found(&self) -> Vec<String> {
        self.found.lock().iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
    }

    fn report(&self, subscription: &Subscription, error: &BrokerError) {
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        let settings = subscription.settings();
        if self.found.lock().insert(settings.label.clone(), error.to_string()).is_none() {
            tracing::error!(subscription = %settings.name, "the subscription has ended: {error}");
        }
    }
}

/// The push subscriptions of a component, as one of its workers sees them. Takes
/// from them in turn, so that a busy one does not starve the others.
#[derive(Clone)]
pub(super) struct Inbox {
    subscriptions: Vec<Arc<Subscription>>,
    turn: usize,
    last: Option<BrokerError>,
    ends: Arc<Ends>,
}

impl Inbox {
    pub(super) fn new(subscriptions: Vec<Arc<Subscription>>, ends: Arc<Ends>) -> Self {
        Self { subscriptions, turn: 0, last: None, ends }
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
                    let ended = self.subscriptions.remove(turn);
                    self.ends.report(&ended, &error);
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
