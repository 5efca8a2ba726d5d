//! What must hold, whatever happens: the checker sees all that passes between
//! the core and the broker on one side, and the core and its takers on the
//! other, and knows what each delivery may do next.

use crate::belief::{Belief, Delivery, Said, Stamp, State, Window};
use crate::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use wasi_pubsub::broker::driver::{Incoming, Settlement, Token};
use wasi_pubsub::broker::{Event, Exhausted, Lease, Qos, Stats, Subscription};

/// Names one opening of a subscription: each life of a host has its own.
pub(crate) type Opening = usize;

/// Watches over all subscriptions of one simulated world.
pub(crate) struct Checker {
    state: Mutex<Checks>,
    trace: Arc<Trace>,
}

#[derive(Default)]
struct Checks {
    violation: Option<String>,
    trace: Option<Arc<Trace>>,
    open: Vec<Watched>,
    sessions: BTreeMap<String, Session>,
    leases: u64,
    seen: Seen,
}

/// What the broker owes to those who hold one session, over all their lives.
#[derive(Default)]
struct Session {
    owed: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// It did not outlive its subscription.
    forgiven: bool,
}

/// How often things happened that the invariants are about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) begun: u64,
    pub(crate) retries: u64,
    pub(crate) letters: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) repetitions: u64,
    pub(crate) given_back: u64,
    pub(crate) isolated: u64,
    pub(crate) filtered: u64,
    pub(crate) in_order: u64,
    pub(crate) at_bound: u64,
    pub(crate) oversize: u64,
    pub(crate) kills: u64,
    pub(crate) at_budget: u64,
    pub(crate) drains: u64,
    pub(crate) ended: u64,
}

impl Seen {
    fn counts(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("begun", &mut self.begun),
            ("retries", &mut self.retries),
            ("letters", &mut self.letters),
            ("dropped", &mut self.dropped),
            ("expired", &mut self.expired),
            ("repetitions", &mut self.repetitions),
            ("given back", &mut self.given_back),
            ("isolated", &mut self.isolated),
            ("filtered", &mut self.filtered),
            ("in order", &mut self.in_order),
            ("at the bound", &mut self.at_bound),
            ("oversize", &mut self.oversize),
            ("at the budget", &mut self.at_budget),
            ("drains", &mut self.drains),
        ]
    }

    /// A simulation in which one of these never happens shows nothing about it.
    /// Those that are named cannot happen.
    pub(crate) fn check_all(mut self, never: &[&str]) {
        let text = format!("{self:?}");
        for (name, count) in self.counts() {
            let enough = *count > 100 || never.contains(&name);
            assert!(enough, "{name}: too few in {text}");
        }
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, mut other: Self) {
        for ((_, sum), (_, more)) in self.counts().into_iter().zip(other.counts()) {
            *sum += *more;
        }
    }
}

/// One open subscription, as the checker believes it to be.
struct Watched {
    belief: Belief,
    alive: bool,
    stopped: bool,
    arrivals: u64,
    held: Vec<Delivery>,
    window: Window,
    expected: Stats,
    /// The identities of what was done with just now.
    done: Vec<u64>,
}

impl Checker {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        let checks = Checks { trace: Some(trace.clone()), ..Checks::default() };
        Arc::new(Self { state: Mutex::new(checks), trace })
    }

    /// What was found to be wrong first.
    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(crate) fn report(&self, what: String) {
        self.lock().fail(what);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Seen)) {
        count(&mut self.lock().seen);
    }

    /// A subscription is opened.
    pub(crate) fn open(&self, belief: Belief) -> Opening {
        let mut checks = self.lock();
        let opening = checks.open.len();
        self.trace.step(|| format!("open {opening}: {belief:?}"));
        checks.open.push(Watched {
            window: Window::new(belief.settings.dedupe),
            belief,
            alive: true,
            stopped: false,
            arrivals: 0,
            held: Vec::new(),
            expected: Stats::default(),
            done: Vec::new(),
        });
        opening
    }

    /// The broker owes this event to a session.
    pub(crate) fn owe(&self, session: &str, stamp: Stamp) {
        let mut checks = self.lock();
        match checks.sessions.get_mut(session) {
            Some(known) => _ = known.owed.insert(stamp.identity),
            None => {
                let owed = [stamp.identity].into();
                checks.sessions.insert(session.to_owned(), Session { owed, ..Session::default() });
            }
        }
    }

    /// The session of this name has ended, and nothing is owed to it any more.
    pub(crate) fn forgive(&self, session: &str) {
        self.lock().sessions.entry(session.to_owned()).or_default().forgiven = true;
    }

    /// What is owed still, as text; nothing if all is done.
    pub(crate) fn debts(&self) -> Option<String> {
        let checks = self.lock();
        let open =
            |session: &Session| session.owed.difference(&session.done).copied().collect::<Vec<_>>();
        let kept = checks.sessions.iter().filter(|(_, session)| !session.forgiven);
        let debts = kept.map(|(name, session)| (name, open(session)));
        let debts: Vec<_> = debts.filter(|(_, open)| !open.is_empty()).collect();
        (!debts.is_empty()).then(|| format!("not handled: {debts:?}"))
    }

    /// The source has handed an event to the core.
    pub(crate) fn arrived(&self, opening: Opening, incoming: &Incoming) {
        self.trace.step(|| format!("{opening}: arrived {}", Stamp::of(&incoming.event)));
        self.lock().with(opening, |watched, seen| watched.arrived(incoming, seen));
    }

    /// The core has handed a lease to a taker. The number names the lease.
    pub(crate) fn begin(&self, opening: Opening, lease: &Lease) -> u64 {
        let mut checks = self.lock();
        checks.leases += 1;
        let number = checks.leases;
        self.trace.step(|| {
            let (stamp, attempt) = (Stamp::of(lease.event()), lease.attempt());
            format!("{opening}: begin {stamp} attempt {attempt} as lease {number}")
        });
        checks.seen.begun += 1;
        checks.with(opening, |watched, seen| watched.begin(lease, number, seen));
        number
    }

    /// A taker is about to tell the core this of its lease.
    pub(crate) fn said(&self, opening: Opening, lease: u64, said: &Said) {
        self.trace.step(|| format!("{opening}: lease {lease}: {said:?}"));
        self.lock().with(opening, |watched, seen| {
            watched.said(lease, said, seen);
            Ok(())
        });
    }

    /// The core has settled a delivery at the source.
    pub(crate) fn settled(&self, opening: Opening, token: Token, settlement: Settlement) {
        self.trace.step(|| format!("{opening}: settle {token:?} {settlement:?}"));
        self.lock().with(opening, |watched, seen| watched.settled(token, settlement, seen));
    }

    /// Storing a dead letter has ended, well or not.
    pub(crate) fn letter(&self, opening: Opening, letter: &Event, stored: bool) {
        self.trace.step(|| format!("{opening}: letter {} stored: {stored}", Stamp::of(letter)));
        self.lock().with(opening, |watched, seen| watched.letter(letter, stored, seen));
    }

    /// The core says that there are no further leases.
    pub(crate) fn closed(&self, opening: Opening) {
        self.lock().with(opening, |watched, _| {
            if watched.stopped { Ok(()) } else { Err("it ended without being stopped".into()) }
        });
    }

    /// The subscription is about to be stopped, or the core learns that it has ended:
    /// what no taker has is left to the broker.
    pub(crate) fn stopping(&self, opening: Opening) {
        self.trace.step(|| format!("{opening}: stop"));
        self.lock().with(opening, |watched, seen| {
            watched.refresh_all(seen);
            watched.stopped = true;
            watched.leave_held(true);
            Ok(())
        });
    }

    /// The subscription has been stopped.
    pub(crate) fn stopped(&self, opening: Opening) {
        self.lock().with(opening, |watched, _| {
            watched.leave_held(false);
            let kept = watched.held.iter().find(|held| matches!(held.state, State::Held));
            kept.map_or(Ok(()), |kept| Err(format!("{} was kept over the stop", kept.stamp)))
        });
    }

    /// The host was killed: nothing that it still does counts.
    pub(crate) fn over(&self, opening: Opening) {
        self.trace.step(|| format!("{opening}: over"));
        if let Some(watched) = self.lock().open.get_mut(opening) {
            watched.alive = false;
        }
    }

    /// Nothing may be held or in flight, and the counts must agree.
    pub(crate) fn at_rest(&self, opening: Opening, subscription: &Subscription, dropped: u64) {
        let stats = subscription.stats();
        self.lock().with(opening, |watched, seen| watched.at_rest(stats, dropped, seen));
    }

    /// The bounds, as the core itself counts.
    pub(crate) fn within_bounds(&self, opening: Opening, subscription: &Subscription) {
        let stats = subscription.stats();
        self.lock().with(opening, |watched, _| {
            let (held, max) = (stats.in_flight + stats.waiting, watched.belief.max_in_flight());
            if held <= max { Ok(()) } else { Err(format!("{held} held, {max} allowed: {stats:?}")) }
        });
    }

    /// Whether the core may take one more.
    pub(crate) fn has_room(&self, opening: Opening) -> bool {
        let checks = self.lock();
        let watched = &checks.open[opening];
        let bytes: usize = watched.held.iter().map(|delivery| delivery.size).sum();
        let settings = &watched.belief.settings;
        let is_below =
            watched.held.len() < settings.max_in_flight && bytes < settings.max_in_flight_bytes;
        !watched.stopped && (is_below || watched.held.is_empty())
    }

    /// What the subscriptions of one process hold together stays below the bound
    /// and one event for each of them.
    pub(crate) fn within_budget(&self, openings: &[Opening], bytes_max: usize) {
        let mut checks = self.lock();
        let (mut bytes, mut exempt) = (0, 0);
        for opening in openings {
            let held = || checks.open[*opening].held.iter().map(|delivery| delivery.size);
            bytes += held().sum::<usize>();
            exempt += held().max().unwrap_or_default();
        }
        checks.seen.at_budget += u64::from(bytes >= bytes_max);
        if bytes > bytes_max.saturating_add(exempt) {
            checks.fail(format!("{bytes} bytes are held by {openings:?}, {bytes_max} allowed"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checks {
    fn fail(&mut self, what: String) {
        if let Some(trace) = &self.trace {
            trace.step(|| format!("WRONG: {what}"));
        }
        self.violation.get_or_insert(what);
    }

    /// Has an open subscription checked; what is over is not looked at.
    fn with(
        &mut self,
        opening: Opening,
        check: impl FnOnce(&mut Watched, &mut Seen) -> Result<(), String>,
    ) {
        let watched = self.open.get_mut(opening).filter(|watched| watched.alive);
        let Some(watched) = watched else { return };
        let result = check(watched, &mut self.seen);
        if !watched.done.is_empty() {
            let session = self.sessions.entry(watched.belief.session.clone()).or_default();
            session.done.extend(watched.done.drain(..));
        }
        if let Err(what) = result {
            let session = watched.belief.session.clone();
            self.fail(format!("subscription {opening} of session {session}: {what}"));
        }
    }
}

impl Watched {
    fn arrived(&mut self, incoming: &Incoming, seen: &mut Seen) -> Result<(), String> {
        let size = incoming.event.size();
        let (held, bytes) = self.load(Qos::AtMostOnce);
        let (_, unsettled) = self.load(Qos::AtLeastOnce);
        let (max, bytes_max) =
            (self.belief.max_in_flight(), self.belief.settings.max_in_flight_bytes);
        let stamp = Stamp::of(&incoming.event);
        if self.stopped {
            return Err(format!("{stamp} was taken after the stop"));
        }
        if held >= max {
            return Err(format!("{stamp} was taken with {held} held, {max} allowed"));
        }
        // The broker counts what is not settled, the core all that it holds: an event
        // of qos 0, whose size the core learns when it has it, may go beyond.
        let is_settled = incoming.qos == Qos::AtMostOnce;
        let is_too_much = !is_settled && unsettled > 0 && unsettled + size > bytes_max;
        if is_too_much || bytes >= bytes_max && held > 0 {
            return Err(format!("{stamp} was taken: {bytes} + {size} bytes, {bytes_max} allowed"));
        }
        seen.at_bound += u64::from(held + 1 == max);
        seen.oversize += u64::from(size > bytes_max);
        self.arrivals += 1;
        self.held.push(Delivery {
            arrival: self.arrivals,
            token: incoming.token,
            stamp,
            key: self.belief.key_of(incoming),
            qos: incoming.qos,
            size,
            topic: incoming.topic.clone(),
            attempt: incoming.attempt.unwrap_or(1),
            isolated: false,
            not_before: None,
            state: State::Held,
        });
        if self.belief.wants(&incoming.event) {
            return Ok(());
        }
        // It is acknowledged, and that is all.
        seen.filtered += 1;
        self.expected.filtered += 1;
        self.conclude(self.held.len() - 1, State::Unwanted);
        Ok(())
    }

    /// What counts against the bounds, in events and bytes.
    fn load(&mut self, qos_min: Qos) -> (usize, usize) {
        let mut load = (0, 0);
        for delivery in self.held.iter().filter(|held| held.counts() && held.qos >= qos_min) {
            // A repetition of what is done with is acknowledged in the same breath.
            let is_repetition = matches!(delivery.state, State::Held)
                && delivery.qos == Qos::EffectivelyOnce
                && self.window.contains(delivery.stamp.identity);
            if !is_repetition {
                load = (load.0 + 1, load.1 + delivery.size);
            }
        }
        load
    }

    fn begin(&mut self, lease: &Lease, number: u64, seen: &mut Seen) -> Result<(), String> {
        let stamp = Stamp::of(lease.event());
        if self.stopped {
            return Err(format!("{stamp} was begun after the stop"));
        }
        self.refresh_all(seen);
        let index = self.position(stamp).ok_or_else(|| format!("{stamp} was not taken"))?;
        self.held[index].check_lease(lease)?;
        self.check_attempts(index)?;
        self.check_first(index)?;
        self.check_order(index)?;
        let delivery = &self.held[index];
        seen.isolated += u64::from(delivery.isolated);
        let later =
            |other: &Delivery| other.key == delivery.key && other.arrival > delivery.arrival;
        seen.in_order += u64::from(delivery.key.is_some() && self.held.iter().any(later));
        let deadline = match self.belief.settings.ack_deadline {
            Some(deadline) if delivery.qos > Qos::AtMostOnce => Some(Instant::now() + deadline),
            _ => None,
        };
        self.held[index].state = State::Leased { number, deadline };
        self.expected.received += 1;
        Ok(())
    }

    fn check_attempts(&self, index: usize) -> Result<(), String> {
        let Delivery { attempt, stamp, .. } = self.held[index];
        match self.belief.max_attempts() {
            Some(max) if attempt > max => {
                Err(format!("{stamp} was begun for the {attempt}th time, {max} are allowed"))
            }
            _ => Ok(()),
        }
    }

    /// At qos 2 nothing is handled twice.
    fn check_first(&mut self, index: usize) -> Result<(), String> {
        let Delivery { qos, stamp, .. } = self.held[index];
        if qos < Qos::EffectivelyOnce {
            return Ok(());
        }
        if self.window.contains(stamp.identity) {
            return Err(format!("{stamp} was begun again after its verdict"));
        }
        let others = self.held.iter().enumerate();
        let handled = others.filter(|(other, delivery)| {
            *other != index
                && delivery.qos == qos
                && delivery.stamp.identity == stamp.identity
                && matches!(delivery.state, State::Leased { .. } | State::Dead { .. })
        });
        match handled.map(|(_, delivery)| delivery.stamp).next() {
            Some(other) => Err(format!("{stamp} was begun while {other} is being handled")),
            None => Ok(()),
        }
    }

    /// Every earlier event of the same key has ended.
    fn check_order(&self, index: usize) -> Result<(), String> {
        let Delivery { ref key, arrival, stamp, .. } = self.held[index];
        let earlier = self.held.iter().find(|other| {
            key.is_some() && other.counts() && other.key == *key && other.arrival < arrival
        });
        match earlier {
            Some(other) => {
                Err(format!("{stamp} was begun before {} of {key:?} ended", other.stamp))
            }
            None => Ok(()),
        }
    }

    fn said(&mut self, lease: u64, said: &Said, seen: &mut Seen) {
        self.refresh_all(seen);
        // A lease that is over has no effect.
        let Some(index) = self.leased(lease) else { return };
        match said {
            Said::Ack => {
                self.expected.acked += 1;
                self.conclude(index, State::Done);
            }
            Said::Retry { after, reason } => self.fail(index, *after, reason, seen),
            Said::Reject { reason } => {
                self.expected.rejected += 1;
                self.exhaust(index, reason, seen);
            }
            Said::Extend(Duration::ZERO) => {
                self.fail(index, Some(Duration::ZERO), "it was given back", seen);
            }
            Said::Extend(deadline) => {
                if self.held[index].qos > Qos::AtMostOnce {
                    let deadline = Some(Instant::now() + *deadline);
                    self.held[index].state = State::Leased { number: lease, deadline };
                }
            }
            Said::GiveBack { isolate } => self.give_back(index, *isolate, seen),
        }
    }

    fn give_back(&mut self, index: usize, isolate: bool, seen: &mut Seen) {
        seen.given_back += 1;
        let returns = self.belief.returns;
        let delivery = &mut self.held[index];
        delivery.isolated |= isolate;
        let at_most_once = delivery.qos == Qos::AtMostOnce;
        let leaves = self.stopped || !at_most_once && self.belief.is_returned(delivery);
        if at_most_once && (isolate || self.stopped) {
            self.expected.dropped += 1;
            self.held.remove(index);
        } else if leaves && returns {
            delivery.state = State::Returning { delay: Some(Duration::ZERO), charged: false };
        } else if leaves {
            self.held.remove(index);
        } else {
            delivery.state = State::Held;
        }
    }

    fn fail(&mut self, index: usize, after: Option<Duration>, reason: &str, seen: &mut Seen) {
        let delivery = &mut self.held[index];
        if delivery.qos == Qos::AtMostOnce {
            self.expected.dropped += 1;
            self.held.remove(index);
            return;
        }
        if self.belief.max_attempts().is_some_and(|max| delivery.attempt >= max) {
            return self.exhaust(index, reason, seen);
        }
        seen.retries += 1;
        self.expected.retried += 1;
        if self.belief.returns && (self.stopped || self.belief.is_returned(delivery)) {
            // Where there is an order, nothing may overtake it at the broker.
            let delay = if self.belief.is_ordered() { Some(Duration::ZERO) } else { after };
            delivery.state = State::Returning { delay, charged: true };
        } else if self.stopped {
            self.held.remove(index);
        } else {
            delivery.attempt += 1;
            delivery.not_before = after.map(|after| Instant::now() + after);
            delivery.state = State::Held;
        }
    }

    fn exhaust(&mut self, index: usize, reason: &str, seen: &mut Seen) {
        if let Exhausted::DeadLetter(_) = self.belief.settings.exhausted {
            self.held[index].state = State::Dead { reason: reason.to_owned(), stored: false };
            return;
        }
        seen.dropped += 1;
        self.expected.dropped += 1;
        self.conclude(index, State::Done);
    }

    /// The verdict that it is done with; at qos 0 the broker is not told.
    fn conclude(&mut self, index: usize, state: State) {
        self.done.push(self.held[index].stamp.identity);
        if self.held[index].qos == Qos::AtMostOnce {
            self.held.remove(index);
        } else {
            self.held[index].state = state;
        }
    }

    fn settled(
        &mut self,
        token: Token,
        settlement: Settlement,
        seen: &mut Seen,
    ) -> Result<(), String> {
        self.refresh_all(seen);
        let index = self.held.iter().position(|delivery| delivery.token == token);
        let index = index.ok_or_else(|| format!("{token:?} was settled, and is not held"))?;
        if self.held[index].qos == Qos::AtMostOnce {
            return Err(format!("{} was settled at qos 0", self.held[index].stamp));
        }
        match settlement {
            Settlement::Ack => self.acknowledged(index, seen)?,
            Settlement::Return { delay, charged } => self.returned(index, delay, charged)?,
        }
        self.held.remove(index);
        Ok(())
    }

    fn acknowledged(&mut self, index: usize, seen: &mut Seen) -> Result<(), String> {
        let Delivery { stamp, qos, ref state, .. } = self.held[index];
        match state {
            State::Done | State::Dead { stored: true, .. } => {
                if qos == Qos::EffectivelyOnce {
                    self.window.record(stamp.identity);
                }
                Ok(())
            }
            State::Unwanted => Ok(()),
            State::Held if self.window.just_recorded(stamp.identity) => {
                seen.repetitions += 1;
                self.expected.acked += 1;
                self.done.push(stamp.identity);
                Ok(())
            }
            state => Err(format!("{stamp} was acknowledged in state {state:?}")),
        }
    }

    fn returned(&self, index: usize, delay: Duration, charged: bool) -> Result<(), String> {
        let Delivery { stamp, attempt, ref state, .. } = self.held[index];
        let bound = self.belief.settings.retry.bound(attempt);
        let is_right = match state {
            State::Returning { delay: asked, charged: asked_charged } => {
                charged == *asked_charged && asked.map_or(delay <= bound, |asked| delay == asked)
            }
            // What no taker has goes back at the stop, and so does what died and
            // could not be stored.
            State::Held | State::Dead { stored: false, .. } => {
                self.stopped && !charged && delay.is_zero()
            }
            _ => false,
        };
        if is_right && self.belief.returns {
            return Ok(());
        }
        Err(format!("{stamp} was returned after {delay:?}, charged: {charged}, in state {state:?}"))
    }

    fn letter(&mut self, letter: &Event, stored: bool, seen: &mut Seen) -> Result<(), String> {
        self.refresh_all(seen);
        let stamp = Stamp::of(letter);
        let index = self.position(stamp).ok_or_else(|| format!("a letter of {stamp}, not held"))?;
        self.held[index].check_letter(letter, &self.belief.settings.label)?;
        let at_most_once = self.held[index].qos == Qos::AtMostOnce;
        if !stored {
            if self.stopped && (at_most_once || !self.belief.returns) {
                self.expected.dropped += u64::from(at_most_once);
                self.held.remove(index);
            }
            return Ok(());
        }
        seen.letters += 1;
        self.expected.dead_lettered += 1;
        if let State::Dead { stored, .. } = &mut self.held[index].state {
            *stored = true;
        }
        if at_most_once {
            self.held.remove(index);
        }
        self.done.push(stamp.identity);
        Ok(())
    }

    /// Notices the leases whose deadlines have passed. A verdict changes nothing
    /// from then on, whether or not the core has noticed.
    fn refresh_all(&mut self, seen: &mut Seen) {
        let now = Instant::now();
        for index in (0..self.held.len()).rev() {
            if let State::Leased { deadline: Some(deadline), .. } = self.held[index].state
                && deadline <= now
            {
                seen.expired += 1;
                self.expected.expired += 1;
                let reason = "the acknowledgement deadline has passed";
                self.fail(index, Some(Duration::ZERO), reason, seen);
            }
        }
    }

    /// What no taker has is left to the broker, which is told so where it takes
    /// events back. Repetitions may be on their way to be acknowledged.
    fn leave_held(&mut self, keeps_repetitions: bool) {
        let (returns, window) = (self.belief.returns, &mut self.window);
        let dropped = &mut self.expected.dropped;
        self.held.retain(|delivery| {
            let is_repetition = delivery.qos == Qos::EffectivelyOnce
                && window.just_recorded(delivery.stamp.identity);
            let is_dropped = delivery.qos == Qos::AtMostOnce;
            let leaves = matches!(delivery.state, State::Held)
                && (is_dropped || !(returns || keeps_repetitions && is_repetition));
            *dropped += u64::from(leaves && is_dropped);
            !leaves
        });
    }

    fn at_rest(&mut self, stats: Stats, dropped: u64, seen: &mut Seen) -> Result<(), String> {
        self.refresh_all(seen);
        if !self.held.is_empty() {
            return Err(format!("left at the end: {:?}", self.held));
        }
        let mut expected = self.expected;
        expected.dropped += dropped;
        if stats == expected {
            return Ok(());
        }
        Err(format!("the counts are {stats:?}, and should be {expected:?}"))
    }

    fn position(&self, stamp: Stamp) -> Option<usize> {
        self.held.iter().position(|delivery| delivery.stamp == stamp)
    }

    fn leased(&self, lease: u64) -> Option<usize> {
        self.held.iter().position(
            |delivery| matches!(delivery.state, State::Leased { number, .. } if number == lease),
        )
    }
}
