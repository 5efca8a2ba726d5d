//! What may not be published a second time.

use crate::broker::hashed::Hashed;
use crate::broker::{Event, Topic};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// How many events are remembered at most: the oldest are forgotten first.
pub(super) const REMEMBERED_EVENTS_MAX: usize = 1_000_000;

/// Remembers what was published at qos 2.
pub(super) struct Once {
    shared: Arc<Shared>,
    window: Duration,
}

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    decided: Notify,
}

#[derive(Default)]
struct Known {
    /// Whether each is kept; otherwise it is on its way.
    events: HashMap<u128, bool, Hashed>,
    /// Those that are kept, with the time to forget them.
    ages: VecDeque<(SystemTime, u128)>,
}

/// What is known of an event that is to be published.
pub(super) enum Found {
    /// It is new, and the claim is the caller's.
    New(Claim),
    /// It was published.
    Published,
}

/// The right to publish an event. Dropped without having been kept, it leaves it
/// to others.
pub(super) struct Claim {
    shared: Arc<Shared>,
    hash: u128,
    until: SystemTime,
    is_kept: bool,
}

impl Once {
    pub(super) fn new(window: Duration, known: Vec<(u128, SystemTime)>) -> Self {
        let mut ages: Vec<_> = known.into_iter().map(|(hash, until)| (until, hash)).collect();
        ages.sort_unstable();
        let events = ages.iter().map(|(_, hash)| (*hash, true)).collect();
        let known = Mutex::new(Known { events, ages: ages.into() });
        Self { shared: Arc::new(Shared { known, decided: Notify::new() }), window }
    }

    /// Looks an event up, and waits while another one publishes it.
    pub(super) async fn claim(&self, topic: &Topic, event: &Event, now: SystemTime) -> Found {
        let (hash, until) = (hash(topic, event), now + self.window);
        loop {
            let mut decided = std::pin::pin!(self.shared.decided.notified());
            decided.as_mut().enable();
            {
                let mut known = self.shared.known.lock();
                known.forget_old(now);
                match known.events.entry(hash) {
                    Entry::Occupied(found) if *found.get() => return Found::Published,
                    Entry::Occupied(_) => {}
                    Entry::Vacant(entry) => {
                        entry.insert(false);
                        let shared = self.shared.clone();
                        return Found::New(Claim { shared, hash, until, is_kept: false });
                    }
                }
            }
            decided.await;
        }
    }
}

impl Known {
    fn forget_old(&mut self, now: SystemTime) {
        while let Some(&(until, hash)) = self.ages.front()
            && (until <= now || self.ages.len() > REMEMBERED_EVENTS_MAX)
        {
            self.ages.pop_front();
            self.events.remove(&hash);
        }
    }
}

impl Claim {
    pub(super) fn mark(&self) -> (u128, SystemTime) {
        (self.hash, self.until)
    }

    /// The event is kept.
    pub(super) fn keep(mut self) {
        let mut known = self.shared.known.lock();
        known.events.insert(self.hash, true);
        known.ages.push_back((self.until, self.hash));
        self.is_kept = true;
        drop(known);
        self.shared.decided.notify_waiters();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_kept {
            self.shared.known.lock().events.remove(&self.hash);
            self.shared.decided.notify_waiters();
        }
    }
}

/// What an event is known by on its topic: the same in every process. Nobody can
/// choose two events that share it.
fn hash(topic: &Topic, event: &Event) -> u128 {
    let (source, id, more) = event.identity();
    let mut hasher = Sha256::new();
    for text in [Some(topic.as_str()), Some(source), Some(id), more[0], more[1]] {
        // An absent one is another than an empty one.
        hasher.update(text.map_or(0, |text| text.len() as u64 + 1).to_le_bytes());
        hasher.update(text.unwrap_or_default());
    }
    let digest = hasher.finalize();
    digest.iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte))
}
