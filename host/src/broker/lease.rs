//! One delivery in the hands of one taker, and its verdict.

use super::delivery::SlotKey;
use super::driver::Token;
use super::{BrokerError, Budget, Event, Qos, Reservation, Subscription, Topic};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a taker says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is handled.
    Ack,
    /// It is to be handled again.
    Retry {
        /// Not before this has passed; `None`: after the configured back-off.
        after: Option<Duration>,
        /// Why, for logs and dead letters.
        reason: String,
    },
    /// It is never to be handled again.
    Reject {
        /// Why, for logs and dead letters.
        reason: String,
    },
}

/// One delivery, leased to one taker.
///
/// Dropped without a verdict it is given back, uncharged.
#[derive(Debug)]
#[must_use = "dropping a lease gives its event back"]
pub struct Lease {
    pub(super) key: SlotKey,
    pub(super) token: Token,
    pub(super) event: Arc<Event>,
    pub(super) topic: Topic,
    pub(super) attempt: u32,
    pub(super) qos: Qos,
    pub(super) isolated: bool,
    pub(super) settled: bool,
    /// What it takes of the budget of who handles it.
    pub(super) reservation: Option<Reservation>,
    pub(super) subscription: Arc<Subscription>,
}

impl Lease {
    /// The event.
    #[must_use]
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// The topic that it was published to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Which delivery of the event this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The quality of service in which the broker delivered it.
    #[must_use]
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// The subscription that it was taken from.
    #[must_use]
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// Whether it was in flight in an instance that failed with others, and is
    /// to be run alone.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Counts the event against a budget until this value is dropped, even above
    /// the bound: to be asked with [`Budget::poll_room`] before an event is taken.
    /// Neither its deadline nor the end of its subscription ends that before.
    pub fn count_against(&mut self, budget: &Arc<Budget>) {
        self.reservation = Some(budget.reserve(self.event.size()));
    }

    /// Settles it. Never blocks. Has no effect once the lease is over.
    pub fn settle(mut self, verdict: Verdict) {
        self.settled = true;
        // An expired lease was counted and logged when it expired.
        let _over = self.subscription.settle(self.key, verdict, None);
    }

    /// Settles it, and waits until the broker knows: for an event that is not
    /// tried again until its dead letter is stored, at qos 2 until the broker has
    /// confirmed.
    /// The verdict holds as soon as this is polled, even if it is then dropped.
    ///
    /// # Errors
    /// `LeaseExpired`: the deadline has passed, the call had no effect.
    /// `Closed`: the subscription was stopped before the dead letter was stored.
    pub async fn confirm(mut self, verdict: Verdict) -> Result<(), BrokerError> {
        self.settled = true;
        let acknowledged = if verdict == Verdict::Ack {
            self.subscription.settle(self.key, verdict, None)?;
            true
        } else {
            let (watcher, outcome) = oneshot::channel();
            self.subscription.settle(self.key, verdict, Some(watcher))?;
            outcome.await.map_err(|_| {
                BrokerError::Closed("the dead letter could not be stored before the end".into())
            })?
        };
        if acknowledged && self.qos > Qos::AtMostOnce {
            self.subscription.confirmed(self.token).await?;
        }
        Ok(())
    }

    /// Sets the deadline to this long from now. Zero gives the event back as a
    /// failed attempt, to be delivered again at once, and ends the lease.
    ///
    /// # Errors
    /// `LeaseExpired`: the deadline has passed, the call had no effect.
    pub fn extend(&self, deadline: Duration) -> Result<(), BrokerError> {
        self.subscription.extend(self.key, deadline)
    }

    /// Gives it back, uncharged, to be delivered again at once, before others.
    /// `isolate` marks it as [`is_isolated`](Self::is_isolated).
    pub fn give_back(mut self, isolate: bool) {
        self.settled = true;
        self.subscription.give_back(self.key, isolate);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.subscription.give_back(self.key, false);
        }
    }
}
