//! The end of one version of a component, whose subscriptions go on without it.

use super::links::Links;
use crate::broker::{BrokerError, Lease, Subscription};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Tells all instances of one version of a component that it is over: they take
/// no more events, and have until a deadline for those that they have.
#[derive(Default)]
pub struct Closing {
    closed: AtomicBool,
    deadline: OnceLock<Instant>,
    told: Notify,
    bells: Mutex<Vec<Weak<AtomicWaker>>>,
}

impl Closing {
    /// It is over. The deadline of the first call counts.
    pub fn close(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.closed.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
        let bells = std::mem::take(&mut *self.bells.lock());
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.wake();
        }
    }

    /// Whether it is over. Cheap: asked for each event.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until it is over. Returns until when what is in flight may take.
    pub async fn closed(&self) -> Instant {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable();
            if self.is_closed() {
                return *self.deadline.get_or_init(Instant::now);
            }
            told.await;
        }
    }

    /// Waits until the time is over that what is in flight had.
    pub async fn expired(&self) {
        tokio::time::sleep_until(self.closed().await).await;
    }

    /// What whoever still wants an event is told.
    #[must_use]
    pub fn error() -> BrokerError {
        BrokerError::Closed("the component is stopped or replaced".into())
    }

    /// What is woken when it is over, for who polls. Whoever has registered with
    /// it asks [`is_closed`](Self::is_closed) once more.
    #[must_use]
    pub fn bell(&self) -> Arc<AtomicWaker> {
        let bell = Arc::new(AtomicWaker::new());
        let mut bells = self.bells.lock();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(&bell));
        bell
    }
}

/// A subscription as one instance takes from it: until the end of either. What it
/// takes counts against the component's budget, and does not wait for it: the
/// component could be waiting for itself. The subscription's bound holds it back.
pub(super) struct Taker {
    links: Arc<dyn Links>,
    subscription: Arc<Subscription>,
    /// There once something was polled for.
    bell: Option<Arc<AtomicWaker>>,
}

impl Taker {
    pub(super) fn new(links: Arc<dyn Links>, subscription: Arc<Subscription>) -> Self {
        Self { links, subscription, bell: None }
    }

    pub(super) fn try_next(&self) -> Result<Option<Lease>, BrokerError> {
        if self.links.closing().is_closed() {
            return Err(Closing::error());
        }
        let mut lease = self.subscription.try_next()?;
        if let Some(lease) = &mut lease {
            lease.count_against(self.links.budget());
        }
        Ok(lease)
    }

    pub(super) async fn next(&self) -> Result<Lease, BrokerError> {
        if let Some(lease) = self.try_next()? {
            return Ok(lease);
        }
        tokio::select! {
            lease = self.taken() => lease,
            _ = self.links.closing().closed() => Err(Closing::error()),
        }
    }

    async fn taken(&self) -> Result<Lease, BrokerError> {
        let mut lease = self.subscription.next().await?;
        lease.count_against(self.links.budget());
        Ok(lease)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        let closing = self.links.closing();
        if !closing.is_closed() {
            if let Poll::Ready(lease) = self.subscription.poll_next(cx) {
                return Poll::Ready(lease.map(|mut lease| {
                    lease.count_against(self.links.budget());
                    lease
                }));
            }
            self.bell.get_or_insert_with(|| closing.bell()).register(cx.waker());
        }
        if closing.is_closed() { Poll::Ready(Err(Closing::error())) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_and_so_is_who_comes_later() {
        let closing = Arc::new(Closing::default());
        let waits = tokio::spawn({
            let closing = Arc::clone(&closing);
            async move { closing.closed().await }
        });
        tokio::task::yield_now().await;
        assert!(!closing.is_closed() && !waits.is_finished());
        let deadline = Instant::now() + Duration::from_secs(3);
        closing.close(deadline);
        closing.close(deadline + Duration::from_secs(60));
        assert_eq!(waits.await.ok(), Some(deadline), "the first deadline counts");
        assert_eq!(closing.closed().await, deadline);
        assert!(timeout(Duration::from_secs(2), closing.expired()).await.is_err());
        assert!(timeout(Duration::from_secs(2), closing.expired()).await.is_ok());
    }

    #[tokio::test]
    async fn bells_of_takers_that_are_gone_do_not_pile_up() {
        let closing = Closing::default();
        for _ in 0..100 {
            drop(closing.bell());
        }
        let _kept = closing.bell();
        assert!(closing.bells.lock().len() <= 2);
    }
}
