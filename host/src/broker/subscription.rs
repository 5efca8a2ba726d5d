//! An open subscription: the lock, the wakers and the timer around its
//! deliveries.

use super::delivery::{Actions, DeadLetter, Deliveries, GivenUp, Handout, SlotKey, Watcher};
use super::drain::Drain;
use super::driver::{Incoming, Parting, Ready, Source, SubscribeRequest, Token};
use super::waiters::{WaiterId, Waiters};
use super::{
    Broker, BrokerError, Exhausted, Lease, Share, Stats, SubscriptionSettings, Verdict, timer,
};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How long one try to store a dead letter may take.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many events are passed over before the lock is released for others, and
/// what was decided of them is carried out.
const PASSED_OVER_MAX: usize = 64;
/// How often that happens before a taker lets other tasks go on.
const ROUNDS_MAX: usize = 16;

/// An open subscription, shared by all who take from it.
pub struct Subscription {
    settings: Arc<SubscriptionSettings>,
    broker: Arc<Broker>,
    source: Arc<dyn Source>,
    share: Arc<Share>,
    state: Mutex<State>,
    waiters: Arc<Waiters>,
    /// Tells the timer to look again, or that this is gone.
    timer: Arc<Notify>,
    runtime: Handle,
    drain: Drain,
    /// For the tasks that store dead letters.
    this: Weak<Subscription>,
}

struct State {
    deliveries: Deliveries,
    /// Why there are no further leases.
    closed: Option<BrokerError>,
    /// Holds one event for a moment; kept for its memory.
    arrived: Vec<Incoming>,
}

/// What a taker finds.
enum Taken {
    Event(Handout),
    Nothing,
    /// Nothing yet: it is to look again.
    More,
}

impl Subscription {
    pub(super) async fn open(
        settings: SubscriptionSettings,
        broker: &Arc<Broker>,
    ) -> Result<Arc<Self>, BrokerError> {
        let waiters = Arc::new(Waiters::default());
        let ready = waiters.clone();
        let share = Share::new(broker.budget());
        let request = SubscribeRequest {
            label: settings.known_as().to_owned(),
            filter: settings.filter.clone(),
            group: settings.group.clone(),
            qos: settings.qos,
            order: settings.order.clone(),
            event_filter: settings.event_filter.clone(),
            start: settings.start,
            is_temporary: settings.is_temporary,
            max_in_flight: settings.max_in_flight,
            max_in_flight_bytes: settings.max_in_flight_bytes,
            group_max_in_flight: settings.group_max_in_flight,
            share: share.clone(),
            backlog_bound: None,
            not_from: settings.not_from.clone(),
            ready: Ready(Arc::new(move || ready.wake_all())),
        };
        let source = broker.connection().subscribe(request).await?;
        let settings = Arc::new(settings);
        let rng = broker.rng(&settings.label);
        let deliveries =
            Deliveries::new(settings.clone(), broker.features().delayed_redelivery, rng);
        let subscription = Arc::new_cyclic(|this| Self {
            settings,
            broker: broker.clone(),
            source,
            share,
            state: Mutex::new(State { deliveries, closed: None, arrived: Vec::with_capacity(1) }),
            waiters,
            timer: Arc::new(Notify::new()),
            runtime: Handle::current(),
            drain: Drain::default(),
            this: this.clone(),
        });
        let changed = subscription.timer.clone();
        tokio::spawn(timer::run(Arc::downgrade(&subscription), changed));
        Ok(subscription)
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &SubscriptionSettings {
        &self.settings
    }

    /// The next event to handle; those that are due again come first. Several
    /// takers may poll at once and get different events; each one's waker is
    /// kept until there may be something.
    ///
    /// # Errors
    /// `Closed`: it was stopped, or has ended for good, for the reason given.
    pub fn poll_next(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Lease, BrokerError>> {
        self.poll_as(None, cx)
    }

    /// Waits for the next event to handle. Cancel-safe.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    pub async fn next(self: &Arc<Self>) -> Result<Lease, BrokerError> {
        if let Some(lease) = self.try_next()? {
            return Ok(lease);
        }
        let waiter = self.waiters.waiter();
        std::future::poll_fn(|cx| self.poll_as(Some(waiter.id), cx)).await
    }

    /// The next event to handle, if there is one now. There may be one behind
    /// a great number that the filter does not want: then a waiting call finds it.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    pub fn try_next(self: &Arc<Self>) -> Result<Option<Lease>, BrokerError> {
        Ok(match self.look()? {
            Taken::Event(handout) => Some(self.lease(handout)),
            Taken::Nothing | Taken::More => None,
        })
    }

    fn look(&self) -> Result<Taken, BrokerError> {
        for _ in 0..ROUNDS_MAX {
            let (taken, settled) = self.act(|state, actions| {
                let taken = state.take(&*self.source, actions);
                (taken, actions.settles())
            });
            match taken? {
                // What was acknowledged at once has made room at the source.
                Taken::Nothing if settled => {}
                Taken::More => {}
                found => return Ok(found),
            }
        }
        Ok(Taken::More)
    }

    /// Begins the drain: no further leases, waiting calls return `Closed`, and
    /// what waits for a retry stays unacknowledged.
    pub fn stop(&self) {
        self.source.stop();
        self.share.withdraw();
        self.act(|state, actions| {
            let stopped = || BrokerError::Closed("the subscription was stopped".into());
            state.closed.get_or_insert_with(stopped);
            state.deliveries.stop(actions);
        });
    }

    /// As [`stop`](Self::stop), where the process goes on without this one.
    pub fn part(&self, parting: Parting) {
        self.source.part(parting);
        self.stop();
    }

    /// Whether it was stopped, or was found to have ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Ends the source, once what was settled is sent, and waits until the
    /// broker has taken note, so that a successor finds it so. To be called
    /// after [`part`](Self::part); bounded by the backend.
    pub async fn parted(&self) {
        self.source.parted().await;
    }

    /// Waits until every lease is settled or given back and every dead letter
    /// stored or given up. To be called after [`stop`](Self::stop).
    pub async fn drained(&self) {
        self.drain.wait(|| self.state.lock().deliveries.is_empty()).await;
    }

    /// Whether its broker is reached at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.source.is_connected()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.state.lock().deliveries.stats();
        stats.dropped += self.source.dropped();
        stats.queued = self.source.queued();
        stats
    }

    pub(super) fn settle(
        self: &Arc<Self>,
        key: SlotKey,
        verdict: Verdict,
        watcher: Option<Watcher>,
    ) -> Result<(), BrokerError> {
        self.act(|state, actions| state.deliveries.settle(key, verdict, watcher, now, actions))
    }

    pub(super) async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.source.confirmed(token).await
    }

    pub(super) fn extend(&self, key: SlotKey, deadline: Duration) -> Result<(), BrokerError> {
        self.act(|state, actions| state.deliveries.extend(key, deadline, now, actions))
    }

    pub(super) fn give_back(&self, key: SlotKey, isolate: bool) {
        self.act(|state, actions| state.deliveries.give_back(key, isolate, now, actions));
    }

    pub(super) fn tick(&self) -> Option<Instant> {
        self.act(|state, actions| state.deliveries.tick(now(), actions))
    }

    fn poll_as(
        self: &Arc<Self>,
        id: Option<WaiterId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Lease, BrokerError>> {
        loop {
            let epoch = self.waiters.epoch();
            match self.look() {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Taken::Event(handout)) => return Poll::Ready(Ok(self.lease(handout))),
                Ok(Taken::Nothing) => {}
                Ok(Taken::More) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if self.waiters.register(epoch, id, cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    fn lease(self: &Arc<Self>, handout: Handout) -> Lease {
        Lease {
            key: handout.key,
            token: handout.token,
            event: handout.event,
            topic: handout.topic,
            attempt: handout.attempt,
            qos: handout.qos,
            isolated: handout.isolated,
            settled: false,
            reservation: None,
            subscription: self.clone(),
        }
    }

    /// Decides something with the lock, and carries it out without.
    fn act<R>(&self, decide: impl FnOnce(&mut State, &mut Actions) -> R) -> R {
        let mut actions = Actions::default();
        let mut state = self.state.lock();
        let decided = decide(&mut state, &mut actions);
        if actions.is_empty() {
            drop(state);
        } else {
            self.drain.begin();
            drop(state);
            self.perform(actions);
            self.drain.end();
        }
        self.drain.changed();
        decided
    }

    fn perform(&self, mut actions: Actions) {
        for (token, settlement) in actions.take_settlements() {
            self.source.settle(token, settlement);
        }
        if actions.freed() > 0 {
            self.share.remove(actions.freed());
        }
        for (watcher, acknowledged) in actions.take_watchers() {
            // Who waited may have gone away.
            let _gone = watcher.send(acknowledged);
        }
        for given_up in actions.take_given_up() {
            self.log_given_up(&given_up);
        }
        for letter in actions.take_dead_letters() {
            self.send(letter);
        }
        if actions.rearms() {
            self.timer.notify_one();
        }
        if actions.wakes() {
            self.waiters.wake_all();
        }
    }

    fn send(&self, letter: DeadLetter) {
        let Some(this) = self.this.upgrade() else { return };
        self.runtime.spawn(async move {
            let stored = this.store(&letter).await;
            if stored {
                this.log_stored(&letter);
            }
            this.act(|state, actions| {
                state.deliveries.dead_letter_done(letter.key, stored, now, actions);
            });
        });
    }

    async fn store(&self, letter: &DeadLetter) -> bool {
        let Exhausted::DeadLetter(topic) = &self.settings.exhausted else { return false };
        let from = self.settings.not_from.as_deref();
        let connection = self.broker.connection();
        let publish = connection.publish_dead_letter(topic, letter.event.clone(), letter.qos, from);
        let error = match tokio::time::timeout(DEAD_LETTER_TIMEOUT, publish).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(_) => BrokerError::Timeout,
        };
        tracing::warn!(
            broker = self.broker.name(),
            subscription = self.settings.label,
            id = %letter.event.id,
            %topic,
            %error,
            "a dead letter could not be stored; its event stays unacknowledged"
        );
        false
    }

    fn log_stored(&self, letter: &DeadLetter) {
        let Exhausted::DeadLetter(topic) = &self.settings.exhausted else { return };
        tracing::warn!(
            broker = self.broker.name(),
            subscription = self.settings.label,
            id = %letter.event.id,
            "given up: the event is stored on the dead-letter topic `{topic}`"
        );
    }

    fn log_given_up(&self, given_up: &GivenUp) {
        tracing::warn!(
            broker = self.broker.name(),
            subscription = self.settings.label,
            id = %given_up.event.id,
            topic = %given_up.topic,
            attempts = given_up.attempts,
            reason = given_up.reason,
            "given up: {}",
            match self.settings.exhausted {
                Exhausted::Drop => "the event is dropped, as `on_exhausted` says",
                _ => "the event is dropped; there is no dead-letter topic for it",
            }
        );
    }
}

impl State {
    fn take(&mut self, source: &dyn Source, actions: &mut Actions) -> Result<Taken, BrokerError> {
        for _ in 0..PASSED_OVER_MAX {
            if let Some(error) = &self.closed {
                return Err(error.clone());
            }
            if let Some(handout) = self.deliveries.next_held(now, actions) {
                return Ok(Taken::Event(handout));
            }
            if !self.deliveries.has_room() {
                return Ok(Taken::Nothing);
            }
            if let Err(error) = source.take(1, &mut self.arrived) {
                self.closed = Some(match error {
                    BrokerError::Closed(_) => error,
                    other => BrokerError::Closed(other.to_string()),
                });
                self.deliveries.stop(actions);
                continue;
            }
            let Some(incoming) = self.arrived.pop() else { return Ok(Taken::Nothing) };
            if let Some(handout) = self.deliveries.offer(incoming, now, actions) {
                return Ok(Taken::Event(handout));
            }
        }
        Ok(Taken::More)
    }
}

/// The time of tokio, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.timer.notify_one();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("label", &self.settings.label).finish_non_exhaustive()
    }
}
