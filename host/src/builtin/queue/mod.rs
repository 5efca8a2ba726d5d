//! The events of one subscription, and who takes them.

mod backlog;
mod bounded;
mod entry;
mod fetching;
mod lanes;
mod load;
mod member;
mod place;
mod state;
mod unsettled;

pub(super) use entry::Entry;
pub(super) use member::{Member, Told, tell};

use super::Settings;
use super::publication::{Admission, Offer};
use super::storage::Storage;
use crate::broker::driver::{Incoming, Settlement, Token};
use crate::broker::{BrokerError, EventFilter, Qos, TopicFilter};
use parking_lot::{Mutex, RwLock};
use state::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// The events of one topic subscription, or of one group.
pub(super) struct Queue {
    /// Unique in the broker; publishers go from queue to queue in this order.
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) filter: TopicFilter,
    pub(super) group: Option<String>,
    pub(super) created: SystemTime,
    /// Whether it outlives its subscribers, in the storage.
    pub(super) is_durable: AtomicBool,
    /// When the last subscriber went away, or one was last seen.
    pub(super) used: Mutex<SystemTime>,
    /// Whether there was a subscriber in this process.
    was_used: AtomicBool,
    /// Whether it is kept for one that has gone to come again, or may come: a group is
    /// not over with its last member then.
    stays: AtomicBool,
    event_filter: RwLock<Option<Arc<EventFilter>>>,
    settings: Arc<Settings>,
    storage: Arc<dyn Storage>,
    runtime: Handle,
    state: Mutex<State>,
    /// Tells publishers that wait, one after the other, that there may be room.
    room: Notify,
    /// Tells who waits until an acknowledgement is kept.
    kept: Notify,
    /// Whether the storage does not know yet what it is now.
    pub(super) is_changed: AtomicBool,
    /// Held while its place is set in the storage and here.
    pub(super) placing: Arc<tokio::sync::Mutex<()>>,
}

/// What a new queue is made of.
pub(super) struct QueueParts {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) filter: TopicFilter,
    pub(super) group: Option<String>,
    pub(super) event_filter: Option<EventFilter>,
    pub(super) qos: Qos,
    pub(super) not_from: Option<String>,
    pub(super) created: SystemTime,
    pub(super) is_durable: bool,
}

/// What taking has brought about.
#[derive(Default)]
pub(super) struct TakeEffects {
    /// Room was made for publishers, who must be told from elsewhere.
    pub(super) made_room: bool,
    /// A page is to be fetched, from elsewhere.
    pub(super) wants_fetch: bool,
}

/// What settling has brought about.
#[derive(Default)]
pub(super) struct SettleEffects {
    /// When the timer must look, if it must.
    pub(super) due: Option<Instant>,
    /// The delivery was not known: its lease is over.
    pub(super) is_late: bool,
}

impl Queue {
    pub(super) fn new(
        parts: QueueParts,
        settings: Arc<Settings>,
        storage: Arc<dyn Storage>,
        runtime: Handle,
    ) -> Self {
        let (is_held, is_shared) = (storage.holds_backlog(), parts.group.is_some());
        let state = State::new(parts.qos, parts.not_from, is_held, is_shared);
        Self {
            number: parts.number,
            name: parts.name,
            filter: parts.filter,
            group: parts.group,
            created: parts.created,
            is_durable: AtomicBool::new(parts.is_durable),
            used: Mutex::new(parts.created),
            was_used: AtomicBool::new(false),
            stays: AtomicBool::new(parts.is_durable),
            event_filter: RwLock::new(parts.event_filter.map(Arc::new)),
            settings,
            storage,
            runtime,
            state: Mutex::new(state),
            room: Notify::new(),
            kept: Notify::new(),
            is_changed: AtomicBool::new(false),
            placing: Arc::default(),
        }
    }

    pub(super) fn event_filter(&self) -> Option<Arc<EventFilter>> {
        self.event_filter.read().clone()
    }

    pub(super) fn set_event_filter(&self, filter: Option<EventFilter>) {
        *self.event_filter.write() = filter.map(Arc::new);
    }

    /// The highest qos that a subscriber asked for.
    pub(super) fn qos(&self) -> Qos {
        self.state.lock().qos
    }

    /// The publisher whose events it does not want.
    pub(super) fn not_from(&self) -> Option<String> {
        self.state.lock().not_from.clone()
    }

    /// Makes it ready for a new member. Says whether that has changed it. `end`: the
    /// number that comes next.
    pub(super) fn adapt(&self, qos: Qos, not_from: Option<&String>, end: u64) -> bool {
        let mut state = self.state.lock();
        if state.qos == Qos::AtMostOnce && qos > Qos::AtMostOnce {
            state.live_to = end;
        }
        let alone = state.members.is_empty();
        let changed = state.qos < qos || alone && state.not_from.as_ref() != not_from;
        state.qos = state.qos.max(qos);
        if alone {
            state.not_from = not_from.cloned();
        }
        changed
    }

    /// Lets a member take events. Nothing is fetched for it yet.
    pub(super) fn join(&self, member: Arc<Member>) {
        let is_first = !self.was_used.swap(true, Ordering::Relaxed);
        if !member.is_temporary {
            self.stays.store(false, Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        state.set_bound(member.backlog_bound.as_ref(), is_first);
        state.join(member);
    }

    /// A member goes that comes again.
    pub(super) fn await_another(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Whether it is over once nobody takes from it.
    pub(super) fn ends_with_members(&self) -> bool {
        self.group.is_none() || !self.stays.load(Ordering::Relaxed)
    }

    /// Whether there was a subscriber in this process.
    pub(super) fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Relaxed)
    }

    /// Lets a member take no more. What it was given can still be settled.
    pub(super) fn stop(&self, member: &Member, now: SystemTime) {
        member.stopped.store(true, Ordering::Relaxed);
        let told = {
            let mut state = self.state.lock();
            let before = state.members.len();
            state.members.retain(|other| other.number != member.number);
            if before > 0 && state.members.is_empty() {
                *self.used.lock() = now;
                state.backlog.park();
            }
            state.members_changed();
            state.all()
        };
        tell(&told);
        self.room.notify_waiters();
    }

    /// How many take from it.
    pub(super) fn members(&self) -> usize {
        self.state.lock().members.len()
    }

    /// Takes back what a member that has gone away did not settle.
    pub(super) fn give_back(&self, member: &Member) {
        let told = {
            let mut state = self.state.lock();
            for entry in state.unsettled.remove_all(member.number) {
                state.returned.insert(entry.number, entry);
            }
            state.all()
        };
        tell(&told);
    }

    /// How many events nobody has taken, or has given back; and how many are with
    /// subscribers.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.queued(), state.unsettled.len())
    }

    /// Nothing goes in or out any more.
    pub(super) fn close(&self) {
        let told = {
            let mut state = self.state.lock();
            state.closed = true;
            state.all()
        };
        tell(&told);
        self.room.notify_waiters();
        self.kept.notify_waiters();
    }

    /// Reserves room for an event.
    pub(super) fn admit(&self, offer: &Offer<'_>) -> Admission {
        self.state.lock().admit(offer, &self.settings)
    }

    /// Puts an event in that was admitted; adds whom to tell.
    pub(super) fn put(self: &Arc<Self>, entry: Entry, admission: Admission, told: &mut Told) {
        let (wants_fetch, discarded) = {
            let mut state = self.state.lock();
            state.put(entry, admission, &self.settings);
            let discarded = state.discard();
            let hungry = state.hungry_ones();
            if told.is_empty() {
                *told = hungry;
            } else {
                told.extend(hungry);
            }
            (state.backlog.wants_fetch() && state.is_fetching_useful(), discarded)
        };
        self.discarded(discarded);
        if wants_fetch {
            self.fetch_later(Duration::ZERO);
        }
    }

    /// Gives reserved room back.
    pub(super) fn release(&self, size: usize) {
        let waiting = self.state.lock().release(size);
        self.tell_publishers(waiting);
    }

    /// Moves events to `into`. Nothing in here calls back.
    pub(super) fn take(
        self: &Arc<Self>,
        member: &Member,
        max: usize,
        now: impl Fn() -> Instant,
        into: &mut Vec<Incoming>,
    ) -> Result<TakeEffects, BrokerError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(BrokerError::Closed("the broker was closed".into()));
        }
        if member.stopped.load(Ordering::Relaxed) || state.is_paused {
            return Ok(TakeEffects::default());
        }
        if !state.delayed.is_empty() {
            state.promote_due(now());
        }
        let settled = state.settled;
        let made_room = state.take(member, max, into);
        let wants_fetch = state.backlog.wants_fetch();
        // What is taken at qos 0 is over at once.
        let is_over = self.is_durable() && state.settled != settled;
        let noted = is_over && !std::mem::replace(&mut state.is_noted, true);
        drop(state);
        if noted {
            self.progressed(false);
        }
        Ok(TakeEffects { made_room, wants_fetch })
    }

    /// Settles an event.
    pub(super) fn settle(
        self: &Arc<Self>,
        member: &Member,
        token: Token,
        settlement: Settlement,
        now: impl Fn() -> Instant,
    ) -> SettleEffects {
        let mut due = None;
        let mut waiting = false;
        // Dropped without the lock.
        let mut acknowledged = None;
        let (told, limited, noted) = {
            let mut state = self.state.lock();
            let Some(entry) = state.unsettled.remove(member.number, token) else {
                return SettleEffects { due: None, is_late: true };
            };
            member.count(usize::saturating_sub, entry.size);
            let told = match settlement {
                Settlement::Ack => {
                    waiting = state.finish(&entry);
                    acknowledged = Some(entry);
                    state.told_of_an_end()
                }
                Settlement::Return { delay, charged } => {
                    due = state.put_back(entry, delay, charged, now);
                    state.hungry_ones()
                }
            };
            let noted = self.is_durable() && !std::mem::replace(&mut state.is_noted, true);
            (told, member.limited.swap(false, Ordering::Relaxed), noted)
        };
        drop(acknowledged);
        tell(&told);
        if limited {
            member.ready.notify();
        }
        self.tell_publishers(waiting);
        if noted {
            self.progressed(false);
        }
        SettleEffects { due, is_late: false }
    }

    /// Makes available what is due. Returns when to look again.
    pub(super) fn tick(&self, now: Instant) -> Option<Instant> {
        let (told, next) = {
            let mut state = self.state.lock();
            state.promote_due(now);
            state.armed = state.delayed.peek().map(|delayed| delayed.due);
            (state.hungry_ones(), state.armed)
        };
        tell(&told);
        next
    }

    /// Waits until `admitted` finds room in this queue and all others, which it
    /// is asked each time that room was made here. `freed` is what the publisher
    /// was told when there was none.
    pub(super) async fn wait_for_room<T>(
        &self,
        freed: u64,
        mut admitted: impl FnMut() -> Result<T, Full>,
    ) -> Result<T, Full> {
        let _waiting = Waiting::new(self);
        let mut tried = freed;
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            notified.as_mut().enable();
            match admitted() {
                Err(full) if full.queue.number == self.number => {
                    // What was freed was too little for this one, not for each.
                    if tried != full.freed {
                        tried = full.freed;
                        self.room.notify_one();
                    }
                }
                done => {
                    self.room.notify_one();
                    return done;
                }
            }
            notified.await;
        }
    }

    pub(super) fn tell_publishers(&self, waiting: bool) {
        if waiting {
            self.room.notify_one();
        }
    }
}

/// Where there is no room.
pub(super) struct Full {
    pub(super) queue: Arc<Queue>,
    pub(super) freed: u64,
}

struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.state.lock().waiting += 1;
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
