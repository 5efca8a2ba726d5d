//! The resource `delivery` of the interface `pull`, for both versions.

use super::bindings::{Error, Event as WitEvent};
use super::convert;
use crate::broker::{Lease, Verdict};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// The longest acknowledgement deadline that a guest can ask for.
const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// One event that a component pulled, until its verdict.
#[derive(Clone)]
#[allow(unreachable_pub, reason = "`bindgen!` exports it again")]
pub struct Delivery(Arc<Inner>);

struct Inner {
    event: WitEvent,
    /// `None` once the verdict is given.
    lease: Mutex<Option<Lease>>,
}

impl Delivery {
    pub(super) fn new(lease: Lease) -> Self {
        let event = convert::to_wit(&lease);
        Self(Arc::new(Inner { event, lease: Mutex::new(Some(lease)) }))
    }

    pub(super) fn event(&self) -> WitEvent {
        self.0.event.clone()
    }

    /// Settles it, and waits until the broker knows. A second verdict is no error.
    pub(super) async fn settle(&self, verdict: Verdict) -> Result<(), Error> {
        let lease = self.0.lease.lock().take();
        match lease {
            Some(lease) => Ok(lease.confirm(verdict).await?),
            None => Ok(()),
        }
    }

    pub(super) async fn nack(&self, after_ms: u64) -> Result<(), Error> {
        let after = Some(Duration::from_millis(after_ms));
        self.settle(Verdict::Retry { after, reason: "negatively acknowledged".into() }).await
    }

    /// Sets the acknowledgement deadline from now; 0 gives the event back.
    pub(super) async fn extend(&self, deadline_ms: u64) -> Result<(), Error> {
        if deadline_ms == 0 {
            return self.nack(0).await;
        }
        let deadline = Duration::from_millis(deadline_ms).min(DEADLINE_MAX);
        match &*self.0.lease.lock() {
            Some(lease) => Ok(lease.extend(deadline)?),
            None => Err(Error::LeaseExpired),
        }
    }

    /// Gives the event back where the guest dropped it without a verdict.
    pub(super) fn drop_by_guest(self) {
        if let Some(lease) = self.0.lease.lock().take() {
            let reason = "dropped without a verdict".into();
            lease.settle(Verdict::Retry { after: Some(Duration::ZERO), reason });
        }
    }
}
