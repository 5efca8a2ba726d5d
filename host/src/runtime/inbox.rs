//! Where the workers of one component take their events from.

use crate::broker::{BrokerError, Budget, Lease, Subscription};
use crate::capability::Closing;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The subscriptions that a broker ended for good, as the workers find out.
#[derive(Default)]
pub(super) struct Ends {
    found: Mutex<BTreeMap<String, String>>,
}

impl Ends {
    /// Each subscription that ended, with the reason.
    pub(super) fn found(&self) -> Vec<String> {
        self.found.lock().iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
    }

    /// What was found so far is over: another takes its place.
    pub(super) fn forget(&self, label: &str) {
        self.found.lock().remove(label);
    }

    fn report(&self, subscription: &Subscription, error: &BrokerError) {
        let settings = subscription.settings();
        if self.found.lock().insert(settings.label.clone(), error.to_string()).is_none() {
            tracing::error!(subscription = %settings.name, "the subscription has ended: {error}");
        }
    }
}

/// The push subscriptions of a component, as one of its workers sees them. Takes
/// from them in turn, so that a busy one does not starve the others.
pub(super) struct Inbox {
    subscriptions: Vec<Arc<Subscription>>,
    turn: usize,
    last: Option<BrokerError>,
    ends: Arc<Ends>,
    closing: Arc<Closing>,
    budget: Arc<Budget>,
    /// Rings when this version of the component is over.
    bell: Arc<AtomicWaker>,
}

impl Inbox {
    pub(super) fn new(
        subscriptions: Vec<Arc<Subscription>>,
        ends: Arc<Ends>,
        closing: Arc<Closing>,
        budget: Arc<Budget>,
    ) -> Self {
        let bell = closing.bell();
        Self { subscriptions, turn: 0, last: None, ends, closing, budget, bell }
    }

    /// The next event of any subscription.
    ///
    /// # Errors
    /// The last one has ended, for the reason given, or this version of the
    /// component is over.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        if self.closing.is_closed() {
            return Poll::Ready(Err(Closing::error()));
        }
        let found =
            if self.budget.poll_room(cx).is_ready() { self.look(cx) } else { Poll::Pending };
        match found {
            Poll::Ready(Ok(lease)) if self.closing.is_closed() => {
                // It may have come after the end: it is for the next version.
                lease.give_back(false);
                Poll::Ready(Err(Closing::error()))
            }
            Poll::Ready(Ok(mut lease)) => {
                lease.count_against(&self.budget);
                Poll::Ready(Ok(lease))
            }
            Poll::Pending => {
                self.bell.register(cx.waker());
                if self.closing.is_closed() {
                    Poll::Ready(Err(Closing::error()))
                } else {
                    Poll::Pending
                }
            }
            ended @ Poll::Ready(Err(_)) => ended,
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
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
                    // Who stops a subscription has told its takers before.
                    if !self.closing.is_closed() {
                        self.ends.report(&ended, &error);
                    }
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

    /// Waits until this version of the component is over.
    pub(super) async fn closed(&self) {
        self.closing.closed().await;
    }
}
