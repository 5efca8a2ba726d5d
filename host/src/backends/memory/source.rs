//! The receiving side of one subscription.

use super::Shared;
use super::member::Member;
use super::queue::Queue;
use crate::broker::BrokerError;
use crate::broker::driver::{Incoming, Parting, Settlement, Source, Token};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// A member of a queue. Dropped, it gives back what it has not settled; the
/// queue of a topic subscription ends with it, unless it has a successor.
pub(super) struct QueueSource {
    pub(super) queue: Arc<Queue>,
    pub(super) member: Arc<Member>,
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Handle,
    /// Whether the queue of a topic subscription waits for its successor.
    pub(super) replaced: AtomicBool,
}

#[async_trait]
impl Source for QueueSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let before = into.len();
        let made_room = self.queue.take(&self.member, max, super::now, into)?;
        if into.len() == before && self.member.share.is_served() {
            // Another member has what it waited for.
            let share = self.member.share.clone();
            self.runtime.spawn(async move { share.decline() });
        }
        if made_room {
            // Telling publishers wakes them, which has no place in here. Only a
            // member of a group comes here that asks for a lower qos than others.
            let queue = self.queue.clone();
            self.runtime.spawn(async move { queue.tell_publishers(true) });
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        if let Some(at) = self.queue.settle(&self.member, token, settlement, super::now) {
            self.shared.timer.arm(&self.queue, at);
        }
    }

    async fn confirmed(&self, _token: Token) -> Result<(), BrokerError> {
        // Settling took effect at once.
        Ok(())
    }

    fn dropped(&self) -> u64 {
        self.member.dropped()
    }

    fn queued(&self) -> usize {
        self.queue.queued()
    }

    fn stop(&self) {
        if self.queue.group.is_none() && !self.replaced.load(Ordering::Acquire) {
            self.shared.unroute(&self.queue);
        }
        self.queue.stop(&self.member);
    }

    /// The queue of a group is there for its next member, whatever comes; it
    /// ends with the last one that is removed, as it would fill up.
    fn part(&self, parting: Parting) {
        match (parting, &self.queue.group) {
            (Parting::Replaced, None) => {
                self.replaced.store(true, Ordering::Release);
                self.shared.bequeath(&self.member.label, &self.queue);
            }
            (Parting::Removed, Some(group)) => {
                self.queue.stop(&self.member);
                self.shared.unroute_deserted(group, &self.queue);
            }
            _ => {}
        }
    }
}

impl Drop for QueueSource {
    fn drop(&mut self) {
        self.stop();
        self.queue.give_back(&self.member);
    }
}
