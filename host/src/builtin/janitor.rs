//! Deleting what nobody needs any more.

use super::broker::Shared;
use super::queue::Queue;
use super::storage::{Position, StorageError, Trim, Trimmed};
use crate::broker::{Retention, Topic};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long after something has changed it is looked at.
const ROUND_AFTER: Duration = Duration::from_secs(1);
/// How many changes bring the next round at once.
const CHANGES_MAX: u64 = 10_000;
/// How long after a round the age of events and subscriptions is looked at, though
/// nothing has changed.
const ROUND_AGED: Duration = Duration::from_secs(60);
/// How often it is noted, in the time after which it would expire, that a
/// subscription is used.
const NOTED_IN_EXPIRY: u32 = 24;
/// A round may take one part in so many of the time.
const PART_OF_TIME: u32 = 10;

/// What has happened since the last round.
#[derive(Default)]
pub(super) struct Activity {
    changes: AtomicU64,
    changed: Notify,
}

impl Activity {
    /// An event was kept, or acknowledged.
    pub(super) fn note(&self) {
        let before = self.changes.fetch_add(1, Ordering::Relaxed);
        if before == 0 || before == CHANGES_MAX {
            self.changed.notify_one();
        }
    }
}

/// Trims, as long as the broker is there.
pub(super) async fn run(shared: Weak<Shared>, activity: Arc<Activity>) {
    let mut rest = Duration::ZERO;
    loop {
        let has_aging = match shared.upgrade() {
            Some(shared) => shared.has_aging(),
            None => return,
        };
        let aged = async {
            match has_aging {
                true => tokio::time::sleep(ROUND_AGED).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait_for_changes(&activity) => {}
            () = aged => {}
        }
        tokio::time::sleep(rest).await;
        activity.changes.store(0, Ordering::Relaxed);
        let Some(shared) = shared.upgrade() else { return };
        let began = tokio::time::Instant::now();
        if let Err(error) = shared.trim().await {
            tracing::warn!(%error, "what nobody needs any more cannot be deleted");
        }
        shared.expire().await;
        rest = began.elapsed() * PART_OF_TIME;
    }
}

async fn wait_for_changes(activity: &Activity) {
    while activity.changes.load(Ordering::Relaxed) == 0 {
        activity.changed.notified().await;
    }
    let many = async {
        while activity.changes.load(Ordering::Relaxed) < CHANGES_MAX {
            activity.changed.notified().await;
        }
    };
    // Either will do.
    let _many = tokio::time::timeout(ROUND_AFTER, many).await;
}

impl Shared {
    /// Says that something of a queue was acknowledged.
    pub(super) fn note_activity(&self, queue: &Queue) {
        if queue.is_durable() {
            self.activity.note();
        }
    }

    fn has_aging(&self) -> bool {
        let retention = &self.routes.read().retention;
        self.subscription_expiry.lock().is_some()
            || retention.iter().any(|rule| rule.retention.age.is_some())
    }

    /// Deletes what is neither waited for nor to be remembered.
    pub(super) async fn trim(&self) -> Result<Trimmed, StorageError> {
        let mut all = Trimmed::default();
        let topics = self.storage.topics().await?;
        if topics.is_empty() {
            return Ok(all);
        }
        let needs = self.needs();
        for stats in topics {
            let trim = self.trim_of(&stats.topic, &needs);
            if trim.needed_from <= stats.first.0 && trim.retention.is_none() {
                continue;
            }
            let trimmed = self.storage.trim(trim).await?;
            all.events += trimmed.events;
            all.bytes += trimmed.bytes;
        }
        if all.events > 0 {
            self.trimmed.notify_waiters();
        }
        Ok(all)
    }

    /// What each subscription needs; those that need nothing are left out.
    fn needs(&self) -> Needs {
        // Before the queues are looked at.
        let durable = self.storage.durable_number();
        let mut queues = HashMap::new();
        let routes = self.routes.read();
        let mut look = |queue: &Arc<Queue>| {
            queue.note_idle_progress(durable);
            if let Some(position) = queue.needs(durable) {
                queues.insert(queue.number, position);
            }
        };
        routes.for_each(&mut look);
        Needs { queues, durable }
    }

    fn trim_of(&self, topic: &Topic, needs: &Needs) -> Trim {
        let mut needed_from = needs.durable + 1;
        let mut needed = Vec::new();
        let mut add = |position: &Position| {
            needed_from = needed_from.min(position.next);
            needed.extend(position.open.iter().map(|(number, _)| *number));
        };
        let routes = self.routes.read();
        routes.of_topic(topic, |queue| {
            needs.queues.get(&queue.number).into_iter().for_each(&mut add)
        });
        let snapshots = self.snapshots.lock();
        let of_topic = snapshots.iter().filter(|snapshot| snapshot.record.filter.matches(topic));
        of_topic.for_each(|snapshot| add(&snapshot.record.position));
        needed.sort_unstable();
        needed.dedup();
        let rules = routes.retention.iter().filter(|rule| rule.filter.matches(topic));
        let retention = rules.map(|rule| rule.retention).reduce(Retention::larger);
        Trim { topic: topic.clone(), needed_from, needed, retention, now: self.time() }
    }

    /// Forgets the subscriptions that nobody has taken from for too long.
    async fn expire(&self) {
        let Some(expiry) = *self.subscription_expiry.lock() else { return };
        let now = self.time();
        let (mut expired, mut used) = (Vec::new(), Vec::new());
        self.routes.read().for_each(|queue| {
            let since = now.duration_since(*queue.used.lock()).unwrap_or_default();
            let is_used = queue.members() > 0;
            if is_used && since > expiry / NOTED_IN_EXPIRY {
                used.push(queue.clone());
            } else if queue.is_durable() && !is_used && since > expiry {
                expired.push(queue.clone());
            }
        });
        self.note_used(used.iter()).await;
        for queue in expired {
            let subscription = &queue.name;
            match self.remove(&queue).await {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    subscription,
                    "the subscription is removed: nobody has taken from it for {expiry:?}"
                ),
                Err(error) => tracing::warn!(subscription, %error, "it cannot be removed"),
            }
        }
    }
}

struct Needs {
    queues: HashMap<u64, Position>,
    durable: u64,
}
