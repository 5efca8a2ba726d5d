//! The events of one subscription, and who takes them.

use super::Settings;
use super::member::{Member, Told, tell};
use super::state::{Admission, Publication, State};
use crate::broker::driver::{Incoming, Settlement, Token};
use crate::broker::{BrokerError, Qos, TopicFilter};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::Notify;

/// The events of one topic subscription, or of one group.
pub(super) struct Queue {
    /// Unique in the broker; publishers go from queue to queue in this order.
    pub(super) number: u64,
    pub(super) filter: TopicFilter,
    pub(super) group: Option<String>,
    settings: Arc<Settings>,
    state: Mutex<State>,
    /// Tells publishers that wait, one after the other, that there may be room.
    room: Notify,
}

impl Queue {
    pub(super) fn new(
        number: u64,
        filter: TopicFilter,
        group: Option<String>,
        qos: Qos,
        settings: Arc<Settings>,
    ) -> Self {
        let state = State { qos, ..State::default() };
        Self { number, filter, group, settings, state: Mutex::new(state), room: Notify::new() }
    }

    /// Lets a member take events.
    pub(super) fn join(&self, member: Arc<Member>) {
        let mut state = self.state.lock();
        state.qos = state.qos.max(member.qos);
        state.ordered |= member.ordered;
        state.members.push(member);
        state.members_changed();
    }

    /// Lets a member take no more. What it was given can still be settled.
    pub(super) fn stop(&self, member: &Member) {
        member.stopped.store(true, Ordering::Relaxed);
        let told = {
            let mut state = self.state.lock();
            state.members.retain(|other| other.number != member.number);
            state.members_changed();
            state.all()
        };
        tell(&told);
        self.room.notify_waiters();
    }

    /// Whether nobody takes from it.
    pub(super) fn is_deserted(&self) -> bool {
        self.state.lock().members.is_empty()
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

    /// How many events nobody has taken, or has given back.
    pub(super) fn queued(&self) -> usize {
        let state = self.state.lock();
        state.fresh.len() + state.returned.len() + state.delayed.len()
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
    }

    /// Puts an event in, if there is room.
    pub(super) fn push(&self, publication: &Publication<'_>, number: u64) -> Admission {
        let told = {
            let mut state = self.state.lock();
            let admission = state.admit(publication, &self.settings);
            match admission {
                Admission::Reserved => state.put(publication, number),
                Admission::Unreserved => state.buffer(publication, number, &self.settings),
                Admission::Unwanted | Admission::Full(_) => return admission,
            }
            state.hungry_ones()
        };
        tell(&told);
        Admission::Reserved
    }

    /// Reserves room for an event.
    pub(super) fn admit(&self, publication: &Publication<'_>) -> Admission {
        self.state.lock().admit(publication, &self.settings)
    }

    /// Puts an event in that was admitted.
    pub(super) fn put(&self, publication: &Publication<'_>, number: u64, admission: Admission) {
        let told = {
            let mut state = self.state.lock();
            match admission {
                Admission::Reserved => state.put(publication, number),
                Admission::Unreserved => state.buffer(publication, number, &self.settings),
                Admission::Unwanted | Admission::Full(_) => return,
            }
            state.hungry_ones()
        };
        tell(&told);
    }

    /// Gives reserved room back.
    pub(super) fn release(&self, publication: &Publication<'_>) {
        let waiting = self.state.lock().free(publication.size);
        self.tell_publishers(waiting);
    }

    /// Moves events to `into`, and says whether room was made for publishers,
    /// who must be told from elsewhere: nothing in here calls back.
    pub(super) fn take(
        &self,
        member: &Member,
        max: usize,
        now: impl Fn() -> Instant,
        into: &mut Vec<Incoming>,
    ) -> Result<bool, BrokerError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(BrokerError::Closed("the broker was closed".into()));
        }
        if member.stopped.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if !state.delayed.is_empty() {
            state.promote_due(now());
        }
        let mut made_room = false;
        for _ in 0..max {
            let Some(first) = state.first() else {
                state.hungry = true;
                break;
            };
            let settled = first.qos.min(member.qos) == Qos::AtMostOnce;
            if !settled && !member.has_room(first.size) {
                member.limited.store(true, Ordering::Relaxed);
                // Another member may have room.
                state.hungry = true;
                break;
            }
            if !member.share.try_add(first.size) {
                state.hungry = true;
                break;
            }
            let Some(entry) = state.pop_first() else { break };
            let mut incoming = entry.incoming(Token(u64::MAX), member.qos);
            if !settled {
                member.count(usize::saturating_add, entry.size);
                incoming.token = state.unsettled.insert(member.number, entry);
            } else if entry.qos == Qos::AtMostOnce {
                state.buffered.remove(entry.size);
            } else {
                made_room |= state.free(entry.size);
            }
            into.push(incoming);
        }
        Ok(made_room)
    }

    /// Settles an event. Returns when the timer must look, if it must.
    pub(super) fn settle(
        &self,
        member: &Member,
        token: Token,
        settlement: Settlement,
        now: impl Fn() -> Instant,
    ) -> Option<Instant> {
        let mut due = None;
        let mut waiting = false;
        // Dropped without the lock.
        let mut acknowledged = None;
        let (told, limited) = {
            let mut state = self.state.lock();
            let entry = state.unsettled.remove(member.number, token)?;
            member.count(usize::saturating_sub, entry.size);
            let told = match settlement {
                Settlement::Ack => {
                    waiting = state.free(entry.size);
                    acknowledged = Some(entry);
                    Told::new()
                }
                Settlement::Return { delay, charged } => {
                    due = state.put_back(entry, delay, charged, now);
                    state.hungry_ones()
                }
            };
            (told, member.limited.swap(false, Ordering::Relaxed))
        };
        drop(acknowledged);
        tell(&told);
        if limited {
            member.ready.notify();
        }
        self.tell_publishers(waiting);
        due
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
        admitted: impl Fn() -> Result<T, Full>,
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
