//! What belongs to a client over all its connections.

use super::archive::Promise;
use super::codec::{Sent, Subscribed};
use super::figures::{Counted, Counters};
use super::kept::Kept;
use super::overlap::Overlaps;
use super::packets::Options;
use super::protocol::Stage;
use super::retained::RetainedMessage;
use super::settings::Limits;
use crate::broker::driver::{Parting, Ready, Settlement, Source, Token};
use crate::broker::{BacklogBound, Event, Share, Topic, TopicFilter};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// A session: its subscriptions, and what is on the way.
pub(super) struct Session {
    pub(super) client_id: Arc<str>,
    pub(super) subscriptions: Slab<Arc<Subscription>>,
    /// By filter, as the client wrote it.
    by_filter: HashMap<Arc<str>, usize>,
    pub(super) overlaps: Overlaps,
    pub(super) wake: Arc<Wake>,
    /// What may wait for all its subscriptions.
    pub(super) bound: Arc<BacklogBound>,
    /// Whether it came back to so much that what comes may still be too much.
    pub(super) is_catching_up: bool,
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
    pub(super) unreleased: Unreleased,
    /// What outlives the process.
    pub(super) kept: Option<Box<Kept>>,
    expected: Option<Box<Expected>>,
}

/// What was sent at qos 2 by a process before, and is expected from the broker again.
#[derive(Default)]
struct Expected {
    /// The packet identifiers, by subscription and number of the event.
    by_event: HashMap<(usize, u64), u16>,
    ids: HashSet<u16>,
}

/// The packet identifiers of what was received at qos 2 and not released.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreleased {
    pub(super) all: HashSet<u16>,
    /// Those of them that a process before has received. The client may have lost its
    /// own state since then: only what it marks as sent again is known.
    pub(super) restored: HashSet<u16>,
}

impl Unreleased {
    /// Takes in what is received. Says whether it is new.
    pub(super) fn insert(&mut self, id: u16, is_repeated: bool) -> bool {
        let is_doubtful = self.restored.remove(&id) && !is_repeated;
        self.all.insert(id) || is_doubtful
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, id: u16) -> bool {
        self.restored.remove(&id);
        self.all.remove(&id)
    }
}

/// One subscription of a session.
pub(super) struct Subscription {
    pub(super) filter: Arc<str>,
    pub(super) topics: TopicFilter,
    pub(super) source: Arc<dyn Source>,
    pub(super) share: Arc<Share>,
    pub(super) options: Options,
    pub(super) identifier: Option<u32>,
    /// It has not got events with lower numbers.
    pub(super) since: u64,
    pub(super) is_shared: bool,
    /// Its key, once it is in the session.
    pub(super) key: Arc<OnceLock<usize>>,
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
    /// The number of the event in the broker.
    pub(super) number: Option<u64>,
    pub(super) size: usize,
}

impl Message {
    /// What is kept of it while it is on its way at qos 2.
    pub(super) fn record(&self, is_released: bool) -> Sent {
        Sent { filter: self.subscription.filter.clone(), number: self.number, is_released }
    }

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
    /// Something was discarded.
    overflowed: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Wake {
    /// What a driver calls for the subscription that gets this key. Before it has one
    /// nothing is missed: then it is looked at in any case.
    pub(super) fn ready(
        self: &Arc<Self>,
        key: &Arc<OnceLock<usize>>,
        noted: Arc<AtomicBool>,
    ) -> Ready {
        let (wake, key) = (self.clone(), key.clone());
        Ready(Arc::new(move || {
            let Some(&key) = key.get() else { return };
            if !noted.swap(true, Ordering::AcqRel) {
                wake.ready.lock().push(key);
                wake.any.store(true, Ordering::Release);
                wake.waker.wake();
            }
        }))
    }

    /// More came than may wait.
    fn overflow(&self) {
        self.overflowed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether there is something. The waker is to be registered before.
    pub(super) fn is_set(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

impl Session {
    pub(super) fn new(client_id: Arc<str>, limits: &Limits, counters: &Arc<Counters>) -> Self {
        let wake = Arc::<Wake>::default();
        let (woken, counters) = (wake.clone(), counters.clone());
        let on_discard = Box::new(move |events| {
            counters.publishes_dropped.overflow.fetch_add(events, Ordering::Relaxed);
            woken.overflow();
        });
        let bound = BacklogBound::new(limits.queued_max, limits.queued_bytes_max, on_discard);
        Self {
            client_id,
            subscriptions: Slab::new(),
            by_filter: HashMap::new(),
            overlaps: Overlaps::default(),
            wake,
            bound,
            is_catching_up: false,
            active: VecDeque::new(),
            in_flight: HashMap::new(),
            sent: 0,
            last_id: 0,
            backlog: VecDeque::new(),
            unreleased: Unreleased::default(),
            kept: None,
            expected: None,
        }
    }

    /// A packet identifier that is free; the window leaves many.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            let is_expected = self.expected.as_ref().is_some_and(|it| it.ids.contains(&id));
            if !self.in_flight.contains_key(&id) && !is_expected {
                return id;
            }
        }
    }

    pub(super) fn find(&self, filter: &str) -> Option<&Arc<Subscription>> {
        self.by_filter.get(filter).and_then(|key| self.subscriptions.get(*key))
    }

    /// Adds a subscription.
    pub(super) fn insert(&mut self, subscription: Subscription) {
        let filter = subscription.filter.clone();
        let key = self.subscriptions.vacant_key();
        // It is set once: a subscription is put in once.
        let _ = subscription.key.set(key);
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
    pub(super) fn remove(&mut self, filter: &str, parting: Parting) -> Option<Arc<Subscription>> {
        let key = self.by_filter.remove(filter)?;
        self.overlaps.remove(key);
        self.give_up_expected(|of, _| of == key);
        let subscription = self.subscriptions.try_remove(key)?;
        subscription.end(parting);
        self.backlog.retain(|backlog| !Arc::ptr_eq(&backlog.subscription, &subscription));
        Some(subscription)
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
        self.is_catching_up = self.bound.is_nearly_full();
        self.active = self.subscriptions.iter().map(|(key, _)| key).collect();
    }

    /// Whether more came than may wait, though the client was there to take it.
    pub(super) fn has_overflowed(&mut self) -> bool {
        self.is_catching_up &= self.bound.is_nearly_full();
        self.wake.overflowed.swap(false, Ordering::AcqRel) && !self.is_catching_up
    }

    /// Everything that was sent and not answered, in its order.
    pub(super) fn unanswered(&self) -> Vec<u16> {
        let mut ids: Vec<_> = self.in_flight.iter().collect();
        ids.sort_unstable_by_key(|(_, in_flight)| in_flight.number);
        ids.into_iter().map(|(id, _)| *id).collect()
    }

    /// Takes in what a process before has sent at qos 2.
    pub(super) fn expect(&mut self, id: u16, sent: &Sent) {
        match (self.by_filter.get(&sent.filter), sent.number) {
            (Some(key), Some(number)) if !sent.is_released => {
                let expected = self.expected.get_or_insert_default();
                expected.by_event.insert((*key, number), id);
                expected.ids.insert(id);
            }
            _ => self.release(id),
        }
    }

    /// The identifier of an event that a process before has sent.
    pub(super) fn take_expected(&mut self, key: usize, number: Option<u64>) -> Option<u16> {
        let expected = self.expected.as_mut()?;
        let id = expected.by_event.remove(&(key, number?))?;
        expected.ids.remove(&id);
        Some(id)
    }

    /// Looks which events will not come again: their acknowledgement had reached the
    /// broker, so that the client has them, and is only to be told to release them.
    pub(super) fn look_what_is_expected(&mut self) {
        let sources: HashMap<usize, Arc<dyn Source>> = match &self.expected {
            Some(_) => {
                self.subscriptions.iter().map(|(key, it)| (key, it.source.clone())).collect()
            }
            None => return,
        };
        self.give_up_expected(|key, number| {
            !sources.get(&key).is_some_and(|source| source.awaits(number))
        });
    }

    fn give_up_expected(&mut self, is_gone: impl Fn(usize, u64) -> bool) {
        let Some(expected) = &mut self.expected else { return };
        let gone = expected.by_event.extract_if(|(key, number), _| is_gone(*key, *number));
        let gone: Vec<u16> = gone.map(|(_, id)| id).collect();
        expected.ids.retain(|id| !gone.contains(id));
        if expected.ids.is_empty() {
            self.expected = None;
        }
        for id in gone {
            self.release(id);
        }
    }

    /// The client has what was sent under an identifier.
    pub(super) fn release(&mut self, id: u16) {
        self.sent += 1;
        let released = InFlight { number: self.sent, stage: Stage::Released, message: None };
        self.in_flight.insert(id, released);
    }

    /// Ends it: the broker forgets its subscriptions. Once what is returned is kept,
    /// the session is not found any more.
    pub(super) fn end(mut self) -> Promise {
        let subscriptions: Vec<_> = self.subscriptions.drain().collect();
        for subscription in &subscriptions {
            subscription.end(Parting::Removed);
        }
        let filters = subscriptions.iter().map(|found| found.filter.clone()).collect();
        // What is not kept has nothing in a storage, but groups that others share.
        let is_kept = self.kept.is_some();
        let stored = subscriptions.into_iter().filter(|found| is_kept || found.is_shared);
        let removed = begin(futures_util::future::join_all(stored.map(Subscription::parted)));
        let Some(kept) = self.kept.take() else {
            if let Some(removed) = removed {
                tokio::spawn(removed);
            }
            return Promise::default();
        };
        let received = self.unreleased.all.iter().copied().collect();
        let expected = self.expected.iter().flat_map(|expected| &expected.ids);
        let sent = self.in_flight.keys().chain(expected).copied().collect();
        kept.end(filters, received, sent, async {
            if let Some(removed) = removed {
                removed.await;
            }
        })
    }
}

/// Begins with something, so that it comes before all that is asked of the broker
/// later. What is left of it is returned.
pub(super) fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    let mut work = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(_) => None,
        Poll::Pending => Some(async move { drop(work.await) }),
    }
}

impl Subscription {
    /// What is kept of it.
    pub(super) fn record(&self) -> (&str, Subscribed) {
        let (options, identifier, since) = (self.options, self.identifier, Some(self.since));
        (&self.filter, Subscribed { options, identifier, since })
    }

    /// Waits until the broker has taken note of its end.
    pub(super) async fn parted(self: Arc<Self>) {
        self.source.parted().await;
    }

    pub(super) fn end(&self, parting: Parting) {
        self.source.part(parting);
        self.source.stop();
    }
}
