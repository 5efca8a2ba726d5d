//! An open subscription, shared by all who take from it.

use super::delivery::SlotKey;
use super::driver::{Source, Token};
use super::{BrokerError, Lease, Stats, SubscriptionSettings, Verdict};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// An open subscription, shared by all who take from it.
pub struct Subscription {
    settings: SubscriptionSettings,
    source: Arc<dyn Source>,
}

impl Subscription {
    pub(super) fn new(settings: SubscriptionSettings, source: Arc<dyn Source>) -> Arc<Self> {
        Arc::new(Self { settings, source })
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &SubscriptionSettings {
        &self.settings
    }

    /// The next event to handle; those that are due again come first. Several
    /// takers may poll at once and get different events; each one's waker is
    /// kept until there may be something.
    ///
    /// # Errors
    /// `Closed`: it was stopped, or has ended for good, for the reason given.
    pub fn poll_next(self: &Arc<Self>, _cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        Poll::Pending
    }

    /// Waits for the next event to handle. Cancel-safe.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    pub async fn next(self: &Arc<Self>) -> Result<Lease, BrokerError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event to handle, if there is one now.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    pub fn try_next(self: &Arc<Self>) -> Result<Option<Lease>, BrokerError> {
        Ok(None)
    }

    /// Begins the drain: no further leases, waiting calls return `Closed`, and
    /// what waits for a retry stays unacknowledged.
    pub fn stop(&self) {
        self.source.stop();
    }

    /// Waits until every lease is settled or given back and every dead letter
    /// stored or given up. To be called after [`stop`](Self::stop).
    pub async fn drained(&self) {}

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    pub(super) fn settle(&self, _key: SlotKey, _verdict: Verdict) -> Result<(), BrokerError> {
        Ok(())
    }

    pub(super) async fn gone(&self, _key: SlotKey) -> Result<(), BrokerError> {
        Ok(())
    }

    pub(super) async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.source.confirmed(token).await
    }

    pub(super) fn extend(&self, _key: SlotKey, _deadline: Duration) -> Result<(), BrokerError> {
        Ok(())
    }

    pub(super) fn give_back(&self, _key: SlotKey, _isolate: bool) {}
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("label", &self.settings.label).finish_non_exhaustive()
    }
}
