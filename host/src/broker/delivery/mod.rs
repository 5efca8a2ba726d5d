//! What becomes of the events of one subscription: a state machine without
//! input, output, clock or threads.
//!
//! Its shell, [`Subscription`](super::Subscription), holds the lock, asks with
//! [`Deliveries::next_held`] and [`Deliveries::offer`] for what a taker gets,
//! reports verdicts, and does what [`Actions`] say once the lock is released.
//! The clock is passed in as a function, because the most frequent calls do not
//! need to know the time.

mod actions;
mod ends;
mod letter;
mod slots;
#[cfg(test)]
mod tests;

pub(super) use actions::{Actions, DeadLetter, GivenUp, Watcher};
pub(super) use letter::SUBSCRIPTION as DEAD_LETTER_SUBSCRIPTION;
pub(super) use slots::SlotKey;

use super::dedupe::{Dedupe, Found};
use super::driver::{Incoming, Settlement, Token};
use super::order::Lanes;
use super::{
    BrokerError, Event, Exhausted, Qos, RETRY_DELAY_MAX, Stats, SubscriptionSettings, Topic,
    Verdict,
};
use slots::{Held, Slots, State};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The deliveries of one subscription that are not over.
pub(super) struct Deliveries {
    settings: Arc<SubscriptionSettings>,
    /// Whether the broker holds failed events back and counts their attempts.
    broker_returns: bool,
    rng: fastrand::Rng,
    slots: Slots,
    /// The size of all that is held, in bytes.
    bytes: usize,
    leased: usize,
    arrivals: u64,
    /// To be handed out before anything new. May name what is over.
    ready: VecDeque<SlotKey>,
    /// What waits for its time: retries, and dead letters to be tried again.
    /// May name what is over.
    due: BinaryHeap<Reverse<(Instant, SlotKey)>>,
    dedupe: Dedupe,
    lanes: Lanes,
    /// When the timer will look again.
    armed: Option<Instant>,
    /// Whether a taker was turned away because the bound was reached.
    blocked: bool,
    stopped: bool,
    stats: Stats,
}

/// A delivery that was just leased to a taker.
#[derive(Debug)]
pub(super) struct Handout {
    pub(super) key: SlotKey,
    pub(super) token: Token,
    pub(super) event: Arc<Event>,
    pub(super) topic: Topic,
    pub(super) attempt: u32,
    pub(super) qos: Qos,
    pub(super) isolated: bool,
}

impl Deliveries {
    /// `broker_returns` is [`Features::delayed_redelivery`](super::driver::Features).
    pub(super) fn new(
        settings: Arc<SubscriptionSettings>,
        broker_returns: bool,
        rng: fastrand::Rng,
    ) -> Self {
        Self {
            dedupe: Dedupe::new(settings.dedupe),
            lanes: Lanes::new(settings.order.clone()),
            settings,
            broker_returns,
            rng,
            slots: Slots::default(),
            bytes: 0,
            leased: 0,
            arrivals: 0,
            ready: VecDeque::new(),
            due: BinaryHeap::new(),
            armed: None,
            blocked: false,
            stopped: false,
            stats: Stats::default(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let waiting = self.slots.len() - self.leased;
        Stats { in_flight: self.leased, waiting, ..self.stats }
    }

    /// Whether nothing is held any more.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Whether one more may be taken from the source. If not, the next delivery
    /// that ends wakes the takers.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.slots.len() < self.settings.max_in_flight.max(1)
            && (self.bytes < self.settings.max_in_flight_bytes || self.slots.len() == 0);
        self.blocked |= !room;
        room
    }

    /// Hands out what is held and due.
    pub(super) fn next_held(
        &mut self,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Option<Handout> {
        if !self.due.is_empty() {
            self.promote_due(now(), actions);
        }
        while let Some(key) = self.ready.pop_front() {
            if let Some(handout) = self.hand_out(key, now, actions) {
                return Some(handout);
            }
        }
        None
    }

    /// Takes over what the source delivered, and hands it out, unless the filter
    /// does not want it, another one has to be handled before it, or it repeats
    /// an event at qos 2.
    pub(super) fn offer(
        &mut self,
        incoming: Incoming,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Option<Handout> {
        if self.settings.event_filter.as_ref().is_some_and(|f| !f.matches(&incoming.event)) {
            self.stats.filtered += 1;
            actions.freed += incoming.event.size();
            if incoming.qos > Qos::AtMostOnce {
                actions.settle(incoming.token, Settlement::Ack);
            }
            return None;
        }
        let lane = self.lanes.lane(&incoming.event, &incoming.topic);
        let size = incoming.event.size();
        self.bytes += size;
        self.arrivals += 1;
        let key = self.slots.insert(Held {
            token: incoming.token,
            event: incoming.event,
            topic: incoming.topic,
            qos: incoming.qos,
            attempt: incoming.attempt.unwrap_or(1),
            isolated: false,
            size,
            arrival: self.arrivals,
            identity: None,
            lane,
            state: State::Ready,
        });
        if let Some(lane) = lane
            && !self.lanes.enter(lane, key)
            && let Some(held) = self.slots.get_mut(key)
        {
            held.state = State::Behind;
            return None;
        }
        self.hand_out(key, now, actions)
    }

    fn hand_out(
        &mut self,
        key: SlotKey,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Option<Handout> {
        let held = self.slots.get_mut(key)?;
        if !matches!(held.state, State::Ready) {
            return None;
        }
        if held.qos == Qos::EffectivelyOnce {
            let identity = self.dedupe.identity(&held.event);
            match self.dedupe.begin(identity, key, now()) {
                Found::First => held.identity = Some(identity),
                Found::Handled => {
                    held.state = State::Parked;
                    return None;
                }
                Found::Recorded => {
                    self.acknowledge_repetition(key, actions);
                    return None;
                }
            }
        }
        let deadline = match self.settings.ack_deadline {
            Some(deadline) if held.qos > Qos::AtMostOnce => Some(now() + deadline),
            _ => None,
        };
        held.state = State::Leased { deadline };
        let mut handout = Handout {
            key,
            token: held.token,
            event: held.event.clone(),
            topic: held.topic.clone(),
            attempt: held.attempt,
            qos: held.qos,
            isolated: held.isolated,
        };
        handout.key = self.slots.renew(key);
        self.leased += 1;
        self.stats.received += 1;
        if let Some(deadline) = deadline {
            self.arm(deadline, actions);
        }
        Some(handout)
    }

    /// Settles a lease.
    ///
    /// # Errors
    /// `LeaseExpired` where the lease is over.
    pub(super) fn settle(
        &mut self,
        key: SlotKey,
        verdict: Verdict,
        watcher: Option<Watcher>,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Result<(), BrokerError> {
        self.check_lease(key, now, actions)?;
        match verdict {
            Verdict::Ack => {
                self.stats.acked += 1;
                self.finish(key, now, actions);
                actions.tell(watcher, true);
            }
            Verdict::Retry { after, reason } => {
                self.fail(key, after, &reason, watcher, now, actions);
            }
            Verdict::Reject { reason } => {
                self.stats.rejected += 1;
                self.exhaust(key, &reason, watcher, now, actions);
            }
        }
        Ok(())
    }

    /// Sets a lease's deadline to this long from now; zero ends it, as a failed
    /// attempt.
    ///
    /// # Errors
    /// `LeaseExpired` where the lease is over.
    pub(super) fn extend(
        &mut self,
        key: SlotKey,
        deadline: Duration,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Result<(), BrokerError> {
        self.check_lease(key, now, actions)?;
        if deadline.is_zero() {
            self.fail(key, Some(deadline), "it was given back", None, now, actions);
            return Ok(());
        }
        let until = now() + deadline.min(RETRY_DELAY_MAX);
        if let Some(held) = self.slots.get_mut(key)
            && held.qos > Qos::AtMostOnce
        {
            held.state = State::Leased { deadline: Some(until) };
            self.arm(until, actions);
        }
        Ok(())
    }

    /// Takes a lease back without charging an attempt. A lease that is over is
    /// left alone.
    pub(super) fn give_back(
        &mut self,
        key: SlotKey,
        isolate: bool,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) {
        if self.check_lease(key, now, actions).is_err() {
            return;
        }
        let Some(held) = self.slots.get_mut(key) else { return };
        held.isolated |= isolate;
        // At qos 0 an instance that failed has had its one delivery.
        let over = held.qos == Qos::AtMostOnce && isolate;
        let (qos, isolated) = (held.qos, held.isolated);
        let identity = held.identity.take();
        if over || qos > Qos::AtMostOnce && self.is_returned(isolated) || self.stopped {
            self.leave(key, Duration::ZERO, false, actions);
        } else {
            self.set_ready(key, actions);
        }
        self.unpark(identity, actions);
    }

    /// What happens by the passing of time: leases expire, retries and dead
    /// letters become due. Returns when to look again.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) -> Option<Instant> {
        self.promote_due(now, actions);
        let over: Vec<_> =
            self.deadlines().filter(|(at, _)| *at <= now).map(|(_, key)| key).collect();
        for key in over {
            self.expire(key, || now, actions);
        }
        let next_lease = self.deadlines().map(|(at, _)| at).min();
        let next_due = self.due.peek().map(|Reverse((at, _))| *at);
        self.armed = next_lease.into_iter().chain(next_due).min();
        self.armed
    }

    fn deadlines(&self) -> impl Iterator<Item = (Instant, SlotKey)> {
        self.slots.iter().filter_map(|(key, held)| match held.state {
            State::Leased { deadline: Some(at) } => Some((at, key)),
            _ => None,
        })
    }

    /// Whether the lease is still on; its time may be over while the timer has
    /// not looked yet.
    fn check_lease(
        &mut self,
        key: SlotKey,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) -> Result<(), BrokerError> {
        match self.slots.get_mut(key).map(|held| &held.state) {
            Some(State::Leased { deadline: None }) => Ok(()),
            Some(State::Leased { deadline: Some(deadline) }) if now() < *deadline => Ok(()),
            Some(State::Leased { .. }) => {
                self.expire(key, now, actions);
                Err(BrokerError::LeaseExpired)
            }
            _ => Err(BrokerError::LeaseExpired),
        }
    }

    fn expire(&mut self, key: SlotKey, now: impl Fn() -> Instant + Copy, actions: &mut Actions) {
        self.stats.expired += 1;
        let reason = "the acknowledgement deadline has passed";
        self.fail(key, Some(Duration::ZERO), reason, None, now, actions);
    }

    /// Moves what is due to where it is taken from.
    fn promote_due(&mut self, now: Instant, actions: &mut Actions) {
        while let Some(Reverse((at, key))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            let Some(held) = self.slots.get_mut(key) else { continue };
            match &mut held.state {
                State::Waiting => {
                    held.state = State::Ready;
                    self.ready.push_back(key);
                    actions.wake = true;
                }
                State::Dead(_) => self.send_letter(key, actions),
                _ => {}
            }
        }
    }

    /// Takes a lease back, and puts its delivery before all that arrived after it.
    fn set_ready(&mut self, key: SlotKey, actions: &mut Actions) {
        let Some(held) = self.slots.get_mut(key) else { return };
        held.state = State::Ready;
        let arrival = held.arrival;
        self.leased -= 1;
        actions.wake = true;
        let earlier =
            |key: &&SlotKey| self.slots.get(**key).is_some_and(|held| held.arrival < arrival);
        let index = self.ready.iter().take_while(earlier).count();
        self.ready.insert(index, key);
    }

    fn schedule(&mut self, key: SlotKey, at: Instant, actions: &mut Actions) {
        self.due.push(Reverse((at, key)));
        self.arm(at, actions);
    }

    fn arm(&mut self, at: Instant, actions: &mut Actions) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            actions.rearm = true;
        }
    }

    /// Whether a failed event goes back to the broker. It would hand out later
    /// ones meanwhile, and it does not know of isolation.
    fn is_returned(&self, isolated: bool) -> bool {
        self.broker_returns && !isolated && !self.lanes.is_ordered()
    }

    fn has_attempts_left(&self, attempt: u32) -> bool {
        self.settings.exhausted == Exhausted::Never || !self.settings.retry.is_exhausted(attempt)
    }
}
