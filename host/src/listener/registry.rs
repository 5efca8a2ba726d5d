//! Which client has which session: takeover, expiry, and wills that wait.

use super::archive::Promise;
use super::packets::Will;
use super::session::Session;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// How long a new connection waits for the one before to let go of the session.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(10);

/// What is asked of a connection from outside.
pub(super) enum Control {
    /// Another connection of the client takes the session; `ends` says whether it is
    /// to end.
    TakeOver { ends: bool, reply: oneshot::Sender<Option<Box<Session>>> },
    /// The server ends.
    ShutDown,
}

/// How a connection is reached.
pub(super) type ControlSender = mpsc::UnboundedSender<Control>;

/// All sessions.
#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    /// Something is due earlier than before.
    changed: Notify,
}

#[derive(Default)]
struct State {
    slots: HashMap<Arc<str>, Slot>,
    /// When a slot has to be looked at.
    due: BTreeMap<(Instant, u64), Arc<str>>,
    last: u64,
    offline: usize,
}

struct Slot {
    number: u64,
    holder: Holder,
}

enum Holder {
    Online(ControlSender),
    Offline(Box<Parked>),
}

/// A session without a connection.
struct Parked {
    session: Option<Box<Session>>,
    expires: Option<Instant>,
    will: Option<(Will, Instant)>,
    due: Option<Instant>,
}

/// What a connection holds while the session is its own.
pub(super) struct Claim {
    number: u64,
    pub(super) client_id: Arc<str>,
    /// The session of an earlier connection.
    pub(super) session: Option<Box<Session>>,
    /// The will of an earlier connection that is to be published now, as its
    /// session ends.
    pub(super) will: Option<Will>,
    /// Once it is kept, an earlier session that was to end is not found any more.
    pub(super) ended: Promise,
}

/// What is due.
pub(super) enum Due {
    Will(Arc<str>, Box<Will>),
    Expired(Box<Session>),
}

impl Registry {
    /// Makes a session the connection's own. `None` where the connection before does
    /// not let go of it.
    pub(super) async fn claim(
        &self,
        client_id: &Arc<str>,
        clean: bool,
        control: ControlSender,
    ) -> Option<Claim> {
        let (number, before) = {
            let mut state = self.state.lock();
            state.last += 1;
            let number = state.last;
            let slot = Slot { number, holder: Holder::Online(control) };
            let before = state.slots.insert(client_id.clone(), slot);
            if let Some(Slot { number, holder: Holder::Offline(parked) }) = &before {
                state.offline -= 1;
                if let Some(due) = parked.due {
                    state.due.remove(&(due, *number));
                }
            }
            (number, before)
        };
        let mut claim = Claim {
            number,
            client_id: client_id.clone(),
            session: None,
            will: None,
            ended: Promise::default(),
        };
        match before.map(|slot| slot.holder) {
            None => {}
            Some(Holder::Offline(parked)) => {
                claim.session = parked.session;
                claim.will = parked.will.filter(|_| clean).map(|(will, _)| will);
            }
            Some(Holder::Online(other)) => {
                let (reply, taken) = oneshot::channel();
                if other.send(Control::TakeOver { ends: clean, reply }).is_ok() {
                    match tokio::time::timeout(TAKEOVER_TIME_MAX, taken).await {
                        Ok(Ok(session)) => claim.session = session,
                        Ok(Err(_)) => {}
                        Err(_) => {
                            self.forget(&claim);
                            return None;
                        }
                    }
                }
            }
        }
        if clean && let Some(session) = claim.session.take() {
            claim.ended = session.end();
        }
        Some(claim)
    }

    fn forget(&self, claim: &Claim) {
        let mut state = self.state.lock();
        if state.slots.get(&claim.client_id).is_some_and(|slot| slot.number == claim.number) {
            state.slots.remove(&claim.client_id);
        }
    }

    /// Ends a claim without keeping the session. Returns whether it was there.
    pub(super) fn release(&self, claim: &Claim) {
        self.forget(claim);
    }

    /// Keeps a session for the client's next connection, and its will until it is
    /// due. Where another connection has claimed it meanwhile, that one gets it.
    pub(super) fn park(
        &self,
        claim: &Claim,
        session: Box<Session>,
        expiry: Option<Duration>,
        will: Option<Will>,
        sessions_max: usize,
    ) -> Option<Box<Session>> {
        let now = Instant::now();
        let expires = expiry.and_then(|expiry| now.checked_add(expiry));
        let will = will.map(|will| {
            let delay = now + Duration::from_secs(will.delay.into());
            (will, expires.map_or(delay, |expires| delay.min(expires)))
        });
        let evicted = {
            let mut state = self.state.lock();
            if state.slots.get(&claim.client_id).is_none_or(|slot| slot.number != claim.number) {
                return Some(session);
            }
            state.park(claim.number, session, (expires, will), sessions_max)
        };
        self.parked(evicted);
        None
    }

    /// Keeps a session of a process before. Nobody has claimed it.
    pub(super) fn restore(
        &self,
        session: Box<Session>,
        expires: Option<Instant>,
        will: Option<(Will, Instant)>,
        sessions_max: usize,
    ) {
        let evicted = {
            let mut state = self.state.lock();
            state.last += 1;
            let number = state.last;
            state.park(number, session, (expires, will), sessions_max)
        };
        self.parked(evicted);
    }

    fn parked(&self, evicted: Option<Box<Session>>) {
        self.changed.notify_one();
        if let Some(session) = evicted {
            session.end();
        }
    }

    /// Waits until something is due.
    pub(super) async fn next_due(&self) -> Due {
        loop {
            let next = self.state.lock().due.keys().next().map(|(at, _)| *at);
            let changed = self.changed.notified();
            match next {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                },
            }
            if let Some(due) = self.state.lock().pop_due(Instant::now()) {
                return due;
            }
        }
    }

    /// Tells all connections to end.
    pub(super) fn shut_down(&self) {
        for slot in self.state.lock().slots.values() {
            if let Holder::Online(control) = &slot.holder {
                // One that is gone needs no telling.
                let _ = control.send(Control::ShutDown);
            }
        }
    }

    /// How many clients are connected, and how many sessions are kept for others.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.slots.len() - state.offline, state.offline)
    }
}

impl State {
    /// Puts a session where its client finds it. Returns the one that makes way.
    fn park(
        &mut self,
        number: u64,
        session: Box<Session>,
        (expires, will): (Option<Instant>, Option<(Will, Instant)>),
        sessions_max: usize,
    ) -> Option<Box<Session>> {
        let evicted = if self.offline >= sessions_max { self.evict() } else { None };
        let will_at = will.as_ref().map(|(_, at)| *at);
        let due = [will_at, expires].into_iter().flatten().min();
        let client_id = session.client_id.clone();
        let parked = Parked { session: Some(session), expires, will, due };
        self.offline += 1;
        if let Some(due) = due {
            self.due.insert((due, number), client_id.clone());
        }
        self.slots.insert(client_id, Slot { number, holder: Holder::Offline(Box::new(parked)) });
        evicted
    }

    fn pop_due(&mut self, now: Instant) -> Option<Due> {
        loop {
            let (at, number) = *self.due.keys().next()?;
            if at > now {
                return None;
            }
            let client_id = self.due.remove(&(at, number))?;
            let Some(slot) = self.slots.get_mut(&client_id) else { continue };
            let Holder::Offline(parked) = &mut slot.holder else { continue };
            if slot.number != number {
                continue;
            }
            if parked.will.as_ref().is_some_and(|(_, at)| *at <= now) {
                let will = parked.will.take()?;
                if let Some(kept) = parked.session.as_mut().and_then(|found| found.kept.as_mut()) {
                    kept.will_is_out();
                }
                parked.due = parked.expires;
                if let Some(expires) = parked.expires {
                    self.due.insert((expires, number), client_id.clone());
                }
                return Some(Due::Will(client_id, Box::new(will.0)));
            }
            let session = parked.session.take();
            self.slots.remove(&client_id);
            self.offline -= 1;
            if let Some(session) = session {
                return Some(Due::Expired(session));
            }
        }
    }

    /// Takes out the session that would expire first.
    fn evict(&mut self) -> Option<Box<Session>> {
        let first = self.due.iter().map(|(key, client_id)| (*key, client_id.clone())).next();
        let (key, client_id) = first?;
        self.due.remove(&key);
        let slot = self.slots.remove(&client_id)?;
        self.offline -= 1;
        match slot.holder {
            Holder::Offline(parked) => parked.session,
            Holder::Online(_) => None,
        }
    }
}
