//! What belongs to a client over all its connections.

use super::figures::Counted;
use super::overlap::Overlaps;
use super::packets::Options;
use super::protocol::Stage;
use super::retained::RetainedMessage;
use crate::broker::driver::{Parting, Ready, Settlement, Source, Token};
use crate::broker::{Event, Share, Topic, TopicFilter};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A session: its subscriptions, and what is on the way.
pub(super) struct Session {
    pub(super) client_id: Arc<str>,
    pub(super) subscriptions: Slab<Arc<Subscription>>,
    /// By filter, as the client wrote it.
    by_filter: HashMap<Arc<str>, usize>,
    pub(super) overlaps: Overlaps,
    pub(super) wake: Arc<Wake>,
    /// Subscriptions that may have something.
    pub(super) active: VecDeque<usize>,
    /// Sent and not answered, by packet identifier.
    pub(super) in_flight: HashMap<u16, InFlight>,
    /// Counts what was sent, for its order.
    pub(super) sent: u64,
    last_id: u16,
    /// Retained messages for new subscriptions.
    pub(super) backlog: VecDeque<Backlog>,
    /// Received at qos 2 and not released.
    pub(super) unreleased: HashSet<u16>,
}

/// One subscription of a session.
pub(super) struct Subscription {
    pub(super) filter: Arc<str>,
    pub(super) topics: TopicFilter,
    pub(super) source: Arc<dyn Source>,
    pub(super) share: Arc<Share>,
    pub(super) options: Options,
    pub(super) identifier: Option<u32>,
    pub(super) is_shared: bool,
    /// Whether it is in the list of those that are ready.
    pub(super) noted: Arc<AtomicBool>,
    /// It is counted while it is there.
    pub(super) counted: Arc<Counted>,
}

/// A retained message that waits to be sent.
pub(super) struct Backlog {
    pub(super) message: Arc<RetainedMessage>,
    pub(super) subscription: Arc<Subscription>,
}

/// What was sent at qos 1 or 2.
pub(super) struct InFlight {
    pub(super) number: u64,
    pub(super) stage: Stage,
    /// What it was, for sending it again; `None` once it is released.
    pub(super) message: Option<Message>,
}

/// An event on its way to a client.
pub(super) struct Message {
    pub(super) topic: Topic,
    pub(super) event: Arc<Event>,
    pub(super) retain: bool,
    /// Of the subscriptions that it is for.
    pub(super) identifiers: Vec<u32>,
    pub(super) subscription: Arc<Subscription>,
    /// For the broker; a retained message has none.
    pub(super) token: Option<Token>,
    pub(super) size: usize,
}

impl Message {
    /// Tells the broker that it is done with.
    pub(super) fn settle(&self) {
        if let Some(token) = self.token {
            self.subscription.source.settle(token, Settlement::Ack);
            self.subscription.share.remove(self.size);
        }
    }
}

/// Tells a connection which subscriptions may have something.
#[derive(Default)]
pub(super) struct Wake {
    ready: Mutex<Vec<usize>>,
    any: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Wake {
    /// What a driver calls for the subscription with this key.
    pub(super) fn ready(self: &Arc<Self>, key: usize, noted: Arc<AtomicBool>) -> Ready {
        let wake = self.clone();
        Ready(Arc::new(move || {
            if !noted.swap(true, Ordering::AcqRel) {
                wake.ready.lock().push(key);
                wake.any.store(true, Ordering::Release);
                wake.waker.wake();
            }
        }))
    }

    /// Whether there is something. The waker is to be registered before.
    pub(super) fn is_set(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

impl Session {
    pub(super) fn new(client_id: Arc<str>) -> Self {
        Self {
            client_id,
            subscriptions: Slab::new(),
            by_filter: HashMap::new(),
            overlaps: Overlaps::default(),
            wake: Arc::default(),
            active: VecDeque::new(),
            in_flight: HashMap::new(),
            sent: 0,
            last_id: 0,
            backlog: VecDeque::new(),
            unreleased: HashSet::new(),
        }
    }

    /// The key that the next subscription will have.
    pub(super) fn next_key(&self) -> usize {
        self.subscriptions.vacant_key()
    }

    /// A packet identifier that is free; the window leaves many.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    pub(super) fn find(&self, filter: &str) -> Option<&Arc<Subscription>> {
        self.by_filter.get(filter).and_then(|key| self.subscriptions.get(*key))
    }

    /// Adds a subscription, which has the next key.
    pub(super) fn insert(&mut self, subscription: Subscription) {
        let filter = subscription.filter.clone();
        let key = self.next_key();
        self.overlaps.insert(key, &subscription, &self.subscriptions);
        self.subscriptions.insert(Arc::new(subscription));
        self.by_filter.insert(filter, key);
        self.active.push_back(key);
    }

    /// Puts a subscription in the place of the one with the same filter.
    pub(super) fn exchange(&mut self, subscription: Subscription) {
        if let Some(key) = self.by_filter.get(&subscription.filter)
            && let Some(place) = self.subscriptions.get_mut(*key)
        {
            *place = Arc::new(subscription);
            self.overlaps.changed();
        }
    }

    /// Takes a subscription out, and ends it.
    pub(super) fn remove(&mut self, filter: &str, parting: Parting) -> bool {
        let Some(key) = self.by_filter.remove(filter) else { return false };
        self.overlaps.remove(key);
        if let Some(subscription) = self.subscriptions.try_remove(key) {
            subscription.end(parting);
            self.backlog.retain(|backlog| !Arc::ptr_eq(&backlog.subscription, &subscription));
        }
        true
    }

    /// Notes which subscriptions may have something.
    pub(super) fn gather(&mut self) {
        if !self.wake.any.swap(false, Ordering::AcqRel) {
            return;
        }
        let ready = std::mem::take(&mut *self.wake.ready.lock());
        for key in ready {
            if let Some(subscription) = self.subscriptions.get(key) {
                subscription.noted.store(false, Ordering::Release);
                if !self.active.contains(&key) {
                    self.active.push_back(key);
                }
            }
        }
    }

    /// Looks at every subscription, as at the beginning of a connection.
    pub(super) fn look_everywhere(&mut self) {
        self.active = self.subscriptions.iter().map(|(key, _)| key).collect();
    }

    /// Everything that was sent and not answered, in its order.
    pub(super) fn unanswered(&self) -> Vec<u16> {
        let mut ids: Vec<_> = self.in_flight.iter().collect();
        ids.sort_unstable_by_key(|(_, in_flight)| in_flight.number);
        ids.into_iter().map(|(id, _)| *id).collect()
    }

    /// Ends it: the broker forgets its subscriptions.
    pub(super) fn end(mut self) {
        for subscription in self.subscriptions.drain() {
            subscription.end(Parting::Removed);
        }
    }
}

impl Subscription {
    fn end(&self, parting: Parting) {
        self.source.part(parting);
        self.source.stop();
    }
}
