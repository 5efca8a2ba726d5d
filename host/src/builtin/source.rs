//! The receiving side of one subscription.

use super::broker::Shared;
use super::queue::{Member, Queue};
use crate::broker::driver::{Incoming, Parting, Settlement, Source, Token};
use crate::broker::{BrokerError, Qos};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// The most acknowledgements without effect that are remembered.
const LATE_MAX: usize = 65_536;

/// A member of a queue. Dropped, it gives back what it has not settled. The queue
/// of a topic subscription ends with it, unless it is durable or has a successor.
pub(super) struct QueueSource {
    pub(super) queue: Arc<Queue>,
    pub(super) member: Arc<Member>,
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Handle,
    /// Whether the queue of a topic subscription waits for its successor.
    pub(super) replaced: AtomicBool,
    /// Whether the subscription is to be forgotten.
    pub(super) removed: AtomicBool,
    /// What was acknowledged too late, for who asks whether it was confirmed.
    pub(super) late: Mutex<HashSet<Token>>,
}

#[async_trait]
impl Source for QueueSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let before = into.len();
        let effects = self.queue.take(&self.member, max, super::now, into)?;
        if into.len() == before && self.member.share.is_served() {
            // Another member has what it waited for.
            let share = self.member.share.clone();
            self.runtime.spawn(async move { share.decline() });
        }
        if effects.made_room {
            // Telling publishers wakes them, which has no place in here. Only a
            // member of a group comes here that asks for a lower qos than others.
            let queue = self.queue.clone();
            self.runtime.spawn(async move { queue.tell_publishers(true) });
        }
        if effects.wants_fetch {
            self.queue.fetch_later(Duration::ZERO);
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        let effects = self.queue.settle(&self.member, token, settlement, super::now);
        if let Some(at) = effects.due {
            self.shared.timer.arm(&self.queue, at);
        }
        if effects.is_late && settlement == Settlement::Ack && self.member.qos > Qos::AtLeastOnce {
            let mut late = self.late.lock();
            if late.len() < LATE_MAX {
                late.insert(token);
            }
        }
        self.shared.note_activity(&self.queue);
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        if self.late.lock().remove(&token) {
            return Err(BrokerError::LeaseExpired);
        }
        if self.member.qos > Qos::AtLeastOnce {
            self.queue.acknowledged().await?;
        }
        Ok(())
    }

    fn dropped(&self) -> u64 {
        self.member.dropped()
    }

    fn queued(&self) -> usize {
        self.queue.counts().0
    }

    /// Who shares a queue does not know who gets an event.
    fn awaits(&self, number: u64) -> bool {
        self.queue.group.is_none()
            && self.queue.awaits(number, self.shared.storage.durable_number())
    }

    fn stop(&self) {
        let (member, is_removed) = (&self.member, self.removed.load(Ordering::Acquire));
        if !member.is_temporary && !is_removed && !member.stopped.load(Ordering::Relaxed) {
            self.queue.await_another();
        }
        let goes_on = self.queue.is_durable() || self.replaced.load(Ordering::Acquire);
        if self.queue.group.is_none() && !goes_on {
            self.shared.routes.write().remove(&self.queue);
        }
        self.queue.stop(&self.member, self.shared.time());
    }

    /// The queue of a group is there for its next member, whatever comes; it
    /// ends with the last one that is removed, as it would fill up, unless one
    /// that was not removed will come again.
    fn part(&self, parting: Parting) {
        match parting {
            Parting::Replaced if self.queue.is_durable() || self.queue.group.is_some() => {}
            Parting::Replaced => {
                self.replaced.store(true, Ordering::Release);
                let mut routes = self.shared.routes.write();
                routes.bequeathed.insert(self.member.label.clone(), self.queue.clone());
            }
            Parting::Removed => {
                self.removed.store(true, Ordering::Release);
                self.queue.stop(&self.member, self.shared.time());
                if self.queue.ends_with_members() {
                    self.shared.unroute_deserted(&self.queue);
                }
            }
        }
    }

    async fn parted(&self) {
        let removed = self.removed.load(Ordering::Acquire) && self.queue.ends_with_members();
        if removed && self.queue.is_durable() && self.queue.members() == 0 {
            let removed = self.shared.storage.remove_subscription(self.queue.number).await;
            if let Err(error) = removed {
                let subscription = &self.queue.name;
                tracing::warn!(subscription, %error, "the subscription cannot be removed");
            }
        }
    }
}

impl Drop for QueueSource {
    fn drop(&mut self) {
        self.stop();
        self.queue.give_back(&self.member);
    }
}
