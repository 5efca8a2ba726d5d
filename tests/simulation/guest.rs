//! What guests do with an event, and how takers handle leases of whatever they do.

use crate::belief::Said;
use crate::checker::{Checker, Opening};
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use wasi_pubsub::broker::{BrokerError, Lease, Subscription, Verdict};

/// How long the runtime lets a call run.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// What one guest does with one event.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// How long it takes.
    pub(crate) time: Duration,
    pub(crate) end: End,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Verdict(Said),
    /// The instance is gone, and with it all that is in flight in it.
    Trap,
    /// The taker goes away without a word.
    Dropped,
}

/// How badly guests behave; calm guests acknowledge everything at once.
pub(crate) struct Mood {
    calm: AtomicBool,
    /// Of a hundred events, how many are not simply acknowledged.
    faults: u32,
}

impl Mood {
    pub(crate) fn new(faults: u32) -> Arc<Self> {
        Arc::new(Self { calm: AtomicBool::new(false), faults })
    }

    pub(crate) fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn deed(&self, rng: &mut Rng) -> Deed {
        let said = |said| End::Verdict(said);
        if self.is_calm() || rng.u32(0..100) >= self.faults {
            let slow = !self.is_calm() && rng.u8(0..4) == 0;
            let time = Duration::from_millis(if slow { rng.u64(0..700) } else { 0 });
            return Deed { time, end: said(Said::Ack) };
        }
        let time = Duration::from_millis(if rng.bool() { rng.u64(0..300) } else { 0 });
        let after = |rng: &mut Rng| Some(Duration::from_millis(rng.u64(0..4000)));
        match rng.u8(0..10) {
            0..3 => Deed { time, end: said(retry(None, "it failed")) },
            3..5 => Deed { time, end: said(retry(after(rng), "not now")) },
            5 => Deed { time, end: said(Said::Reject { reason: "not this".into() }) },
            6..8 => Deed { time, end: End::Trap },
            8 => Deed { time, end: End::Dropped },
            _ => Deed { time: TIMEOUT, end: said(retry(None, "it took too long")) },
        }
    }
}

pub(crate) fn retry(after: Option<Duration>, reason: &str) -> Said {
    Said::Retry { after, reason: reason.into() }
}

/// How what a taker says is told to the core. Planted faults tell it otherwise.
pub(crate) type Tongue = fn(Lease, Said);

/// Tells the core what was said.
pub(crate) fn tell(lease: Lease, said: Said) {
    match said {
        Said::GiveBack { isolate: false } => drop(lease),
        Said::GiveBack { isolate: true } => lease.give_back(true),
        Said::Extend(deadline) => _ = lease.extend(deadline),
        verdict => lease.settle(verdict_of(verdict)),
    }
}

fn verdict_of(said: Said) -> Verdict {
    match said {
        Said::Retry { after, reason } => Verdict::Retry { after, reason },
        Said::Reject { reason } => Verdict::Reject { reason },
        _ => Verdict::Ack,
    }
}

/// A subscription as takers see it: every word passes the checker.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) opening: Opening,
    pub(crate) checker: Arc<Checker>,
    pub(crate) tongue: Tongue,
    /// How many takers wait for something.
    pub(crate) waiting: Arc<AtomicUsize>,
}

/// A taker that waits.
pub(crate) struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A lease that the checker knows of. Dropped, it goes back, as a lease does.
pub(crate) struct Held {
    desk: Desk,
    number: u64,
    lease: Option<Lease>,
}

impl Desk {
    /// A lease that the core has just handed out.
    pub(crate) fn begin(&self, lease: Lease) -> Held {
        let number = self.checker.begin(self.opening, &lease);
        Held { desk: self.clone(), number, lease: Some(lease) }
    }

    /// Somebody waits, until what this returns is dropped.
    pub(crate) fn wait(&self) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.waiting.clone())
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) async fn next(&self) -> Result<Held, BrokerError> {
        let waits = self.wait();
        let next = self.subscription.next().await;
        drop(waits);
        match next {
            Ok(lease) => Ok(self.begin(lease)),
            Err(error) => {
                self.checker.closed(self.opening);
                Err(error)
            }
        }
    }
}

impl Held {
    pub(crate) fn is_isolated(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_isolated)
    }

    /// Ends the lease with this.
    pub(crate) fn say(mut self, said: Said) {
        if let Some(lease) = self.lease.take() {
            self.desk.checker.said(self.desk.opening, self.number, &said);
            (self.desk.tongue)(lease, said);
        }
    }

    /// Sets the deadline; zero ends the lease.
    pub(crate) fn extend(&self, deadline: Duration) {
        let Some(lease) = &self.lease else { return };
        self.desk.checker.said(self.desk.opening, self.number, &Said::Extend(deadline));
        // An error says that the deadline has passed, which the checker knows.
        let _over = lease.extend(deadline);
    }

    /// Ends the lease with a verdict, and waits until the broker knows.
    pub(crate) async fn confirm(mut self, said: Said) {
        let Some(lease) = self.lease.take() else { return };
        let (checker, opening) = (self.desk.checker.clone(), self.desk.opening);
        checker.said(opening, self.number, &said);
        match lease.confirm(verdict_of(said)).await {
            Ok(()) | Err(BrokerError::LeaseExpired | BrokerError::Closed(_)) => {}
            Err(error) => checker.report(format!("a confirmation failed: {error}")),
        }
    }

    /// Does what the guest has ended with. A trap costs it an attempt, as it was
    /// the only one in its instance.
    pub(crate) fn end(self, end: End) {
        match end {
            End::Verdict(said) => self.say(said),
            End::Trap => self.say(retry(None, "it trapped")),
            End::Dropped => drop(self),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let said = Said::GiveBack { isolate: false };
            self.desk.checker.said(self.desk.opening, self.number, &said);
            (self.desk.tongue)(lease, said);
        }
    }
}
