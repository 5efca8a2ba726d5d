//! The one timer of a subscription: leases that expire, retries and dead letters
//! that become due.

use super::subscription::Subscription;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Runs until the subscription is gone, which a notification tells it.
pub(super) async fn run(subscription: Weak<Subscription>, changed: Arc<Notify>) {
    loop {
        // Not held while waiting: whoever drops the last one closes it.
        let Some(open) = subscription.upgrade() else { return };
        let next = open.tick();
        drop(open);
        match next {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(Instant::from_std(at)) => {}
                    () = changed.notified() => {}
                }
            }
            None => changed.notified().await,
        }
    }
}
