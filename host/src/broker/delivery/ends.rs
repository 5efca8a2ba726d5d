//! How a delivery ends: done with, tried again, dead, or left to the broker.

use super::Deliveries;
use super::actions::{Actions, DeadLetter, GivenUp, Watcher};
use super::letter::{Letter, dead_letter};
use super::slots::{Held, SlotKey, State};
use crate::broker::driver::Settlement;
use crate::broker::{Exhausted, Qos, RETRY_DELAY_MAX, RetryPolicy};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a dead letter that could not be stored is tried again: without end, as
/// its event is not acknowledged before.
const LETTER_RETRY: RetryPolicy = RetryPolicy {
    max_attempts: None,
    backoff: Duration::from_millis(100),
    backoff_max: Duration::from_secs(30),
};

impl Deliveries {
    /// No further leases. What is not in a taker's hands is left to the broker;
    /// dead letters that wait for another try get their last one.
    pub(in crate::broker) fn stop(&mut self, actions: &mut Actions) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        self.ready.clear();
        self.due.clear();
        self.lanes.clear();
        let mut held: Vec<_> = self.slots.iter().map(|(key, held)| (held.arrival, key)).collect();
        held.sort_unstable();
        for (_, key) in held {
            match self.slots.get_mut(key).map(|held| &held.state) {
                Some(State::Ready | State::Waiting | State::Parked | State::Behind) => {
                    self.leave(key, Duration::ZERO, false, actions);
                }
                Some(State::Dead(letter)) if !letter.publishing => self.send_letter(key, actions),
                _ => {}
            }
        }
        actions.wake = true;
    }

    /// Tells how the publishing of a dead letter went.
    pub(in crate::broker) fn dead_letter_done(
        &mut self,
        key: SlotKey,
        stored: bool,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) {
        let Some(Held { state: State::Dead(letter), .. }) = self.slots.get_mut(key) else { return };
        letter.publishing = false;
        if stored {
            let watcher = letter.watcher.take();
            self.stats.dead_lettered += 1;
            self.finish(key, now, actions);
            actions.tell(watcher, true);
        } else if self.stopped {
            self.leave(key, Duration::ZERO, false, actions);
        } else {
            letter.failures = letter.failures.saturating_add(1);
            let failures = letter.failures;
            let delay = LETTER_RETRY.delay(failures, &mut self.rng);
            self.schedule(key, now() + delay, actions);
        }
    }

    /// It is done with.
    pub(super) fn finish(
        &mut self,
        key: SlotKey,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) {
        let Some(held) = self.remove(key, actions) else { return };
        if held.qos > Qos::AtMostOnce {
            actions.settle(held.token, Settlement::Ack);
        }
        if let Some(identity) = held.identity {
            for repetition in self.dedupe.record(identity, now()) {
                self.acknowledge_repetition(repetition, actions);
            }
        }
    }

    /// It repeats an event whose verdict is recorded.
    pub(super) fn acknowledge_repetition(&mut self, key: SlotKey, actions: &mut Actions) {
        if let Some(held) = self.remove(key, actions) {
            self.stats.acked += 1;
            actions.settle(held.token, Settlement::Ack);
        }
    }

    /// The attempt failed: again, or not any more.
    pub(super) fn fail(
        &mut self,
        key: SlotKey,
        after: Option<Duration>,
        reason: &str,
        watcher: Option<Watcher>,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) {
        let Some(held) = self.slots.get_mut(key) else { return };
        let (attempt, qos, isolated) = (held.attempt, held.qos, held.isolated);
        if qos > Qos::AtMostOnce && !self.has_attempts_left(attempt) {
            return self.exhaust(key, reason, watcher, now, actions);
        }
        let delay = match after {
            Some(delay) => delay.min(RETRY_DELAY_MAX),
            None => self.settings.retry.delay(attempt, &mut self.rng),
        };
        let returned = self.is_returned(isolated);
        let Some(held) = self.slots.get_mut(key) else { return };
        let identity = held.identity.take();
        self.stats.retried += u64::from(qos > Qos::AtMostOnce);
        if returned || self.stopped || qos == Qos::AtMostOnce {
            // What comes after it in its lane would overtake it.
            let delay = if self.lanes.is_ordered() { Duration::ZERO } else { delay };
            self.leave(key, delay, true, actions);
        } else {
            held.attempt = attempt.saturating_add(1);
            self.leased -= 1;
            if delay.is_zero() {
                held.state = State::Ready;
                self.ready.push_back(key);
                actions.wake = true;
            } else {
                held.state = State::Waiting;
                self.schedule(key, now() + delay, actions);
            }
        }
        self.unpark(identity, actions);
        actions.tell(watcher, false);
    }

    /// It is not to be handled any more.
    pub(super) fn exhaust(
        &mut self,
        key: SlotKey,
        reason: &str,
        watcher: Option<Watcher>,
        now: impl Fn() -> Instant + Copy,
        actions: &mut Actions,
    ) {
        let Some(held) = self.slots.get_mut(key) else { return };
        if matches!(self.settings.exhausted, Exhausted::DeadLetter(_)) {
            let (label, attempt) = (&self.settings.label, held.attempt);
            let event = Arc::new(dead_letter(&held.event, &held.topic, label, attempt, reason));
            held.state =
                State::Dead(Box::new(Letter { event, failures: 0, publishing: false, watcher }));
            self.leased -= 1;
            self.send_letter(key, actions);
            return;
        }
        actions.given_up.push(GivenUp {
            event: held.event.clone(),
            topic: held.topic.clone(),
            attempts: held.attempt,
            reason: reason.to_owned(),
        });
        self.stats.dropped += 1;
        self.finish(key, now, actions);
        actions.tell(watcher, true);
    }

    pub(super) fn send_letter(&mut self, key: SlotKey, actions: &mut Actions) {
        if let Some(Held { state: State::Dead(letter), qos, .. }) = self.slots.get_mut(key) {
            letter.publishing = true;
            let qos = Qos::AtLeastOnce.max(*qos);
            actions.dead_letters.push(DeadLetter { key, event: letter.event.clone(), qos });
        }
    }

    /// Leaves it to the broker, without an acknowledgement: returns it where the
    /// broker understands that. At qos 0 the broker has none to give back to.
    pub(super) fn leave(
        &mut self,
        key: SlotKey,
        delay: Duration,
        charged: bool,
        actions: &mut Actions,
    ) {
        let Some(held) = self.remove(key, actions) else { return };
        if held.qos == Qos::AtMostOnce {
            self.stats.dropped += 1;
        } else if self.broker_returns {
            actions.settle(held.token, Settlement::Return { delay, charged });
        }
    }

    /// Those that waited for a verdict on their event, which did not come, are
    /// handed out after all.
    pub(super) fn unpark(&mut self, identity: Option<u128>, actions: &mut Actions) {
        let Some(identity) = identity else { return };
        for key in self.dedupe.abandon(identity) {
            if let Some(held) = self.slots.get_mut(key)
                && matches!(held.state, State::Parked)
            {
                held.state = State::Ready;
                self.ready.push_back(key);
                actions.wake = true;
            }
        }
    }

    fn remove(&mut self, key: SlotKey, actions: &mut Actions) -> Option<Held> {
        let held = self.slots.remove(key)?;
        self.bytes -= held.size;
        actions.freed += held.size;
        self.leased -= usize::from(matches!(held.state, State::Leased { .. }));
        if let Some(lane) = held.lane
            && let Some(next) = self.lanes.leave(lane)
            && let Some(next_held) = self.slots.get_mut(next)
        {
            next_held.state = State::Ready;
            self.ready.push_back(next);
            actions.wake = true;
        }
        if self.blocked {
            self.blocked = false;
            actions.wake = true;
        }
        Some(held)
    }
}
