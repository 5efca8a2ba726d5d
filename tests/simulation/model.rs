//! A model of a broker with sessions that outlive the host, and of the links
//! to it, which fail as the seed says.

use crate::belief::Stamp;
use crate::checker::Checker;
use crate::trace::Trace;
use async_trait::async_trait;
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Ready, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Event, Qos, Share, Topic, TopicFilter};

/// Events of qos 0 that a session keeps at most.
const QOS_0_MAX: usize = 6;

/// The broker.
pub(crate) struct Model {
    state: Mutex<State>,
    returns: bool,
    checker: Arc<Checker>,
    trace: Arc<Trace>,
}

struct State {
    rng: Rng,
    sessions: Vec<Session>,
    links: Vec<Link>,
    sources: Vec<Feed>,
    published: u64,
    tokens: u64,
    /// No faults any more.
    calm: bool,
}

/// What the broker keeps for one subscription, or for one group.
struct Session {
    name: String,
    filter: TopicFilter,
    qos: Qos,
    /// How many times its subscribers are going to be told of something.
    untold: usize,
    /// By number.
    queue: VecDeque<Stored>,
    delayed: Vec<Stored>,
}

#[derive(Clone)]
struct Stored {
    number: u64,
    event: Arc<Event>,
    topic: Topic,
    qos: Qos,
    attempt: u32,
}

/// One connection of one host.
#[derive(Default)]
struct Link {
    is_down: bool,
    is_dead: bool,
    /// Another client has taken the sessions over.
    is_over: bool,
    faults: Faults,
    changed: Arc<Notify>,
}

/// What is going to fail next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// So many acknowledgements do not arrive.
    pub(crate) acks_lost: u32,
    /// So many publishes are refused.
    pub(crate) publishes_refused: u32,
    /// Of so many the confirmation is lost.
    pub(crate) confirmations_lost: u32,
}

/// One source of one connection.
struct Feed {
    session: usize,
    link: usize,
    qos: Qos,
    max_in_flight: usize,
    max_in_flight_bytes: usize,
    ready: Ready,
    share: Arc<Share>,
    unsettled: BTreeMap<Token, Stored>,
    /// What became of acknowledgements.
    acks: BTreeMap<Token, Ack>,
    /// To be sent when the link is up again.
    kept: Vec<(Token, Stored)>,
    /// To be delivered again when the link is up again.
    lost: Vec<Stored>,
    limited: bool,
    ordered: bool,
    stopped: bool,
    dropped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ack {
    Kept,
    Arrived,
    Lost,
}

impl Model {
    pub(crate) fn new(
        returns: bool,
        rng: Rng,
        checker: Arc<Checker>,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let state = State {
            rng,
            sessions: Vec::new(),
            links: Vec::new(),
            sources: Vec::new(),
            published: 0,
            tokens: 0,
            calm: false,
        };
        Arc::new(Self { state: Mutex::new(state), returns, checker, trace })
    }

    /// A host connects. The number names the link.
    pub(crate) fn connect(self: &Arc<Self>) -> (usize, Arc<dyn Connection>) {
        let mut state = self.lock();
        state.links.push(Link::default());
        let link = state.links.len() - 1;
        (link, Arc::new(ModelConnection { model: self.clone(), link }))
    }

    /// The host on that link is gone: what it had is delivered again.
    pub(crate) fn disconnect(&self, link: usize) {
        let told = {
            let mut state = self.lock();
            state.links[link].is_dead = true;
            state.links[link].changed.notify_waiters();
            state.take_back(link)
        };
        tell(told);
    }

    /// The link fails for a while. Acknowledgements that are given meanwhile are
    /// kept, or the events are delivered again.
    pub(crate) fn cut(self: &Arc<Self>, link: usize, duration: Duration) {
        self.trace.step(|| format!("link {link} is down for {duration:?}"));
        self.lock().links[link].is_down = true;
        let model = self.clone();
        tokio::spawn(async move {
            sleep(duration).await;
            model.mend(link);
        });
    }

    fn mend(&self, link: usize) {
        self.trace.step(|| format!("link {link} is up"));
        let told = {
            let mut state = self.lock();
            state.links[link].is_down = false;
            state.links[link].changed.notify_waiters();
            state.reconnected(link)
        };
        tell(told);
    }

    /// The subscriptions on that link end for good.
    pub(crate) fn end(&self, link: usize) {
        self.trace.step(|| format!("link {link}: its sessions are taken over"));
        let told = {
            let mut state = self.lock();
            state.links[link].is_over = true;
            state.readies(|feed| feed.link == link)
        };
        tell(told);
    }

    pub(crate) fn plan_faults(&self, link: usize, faults: Faults) {
        self.trace.step(|| format!("link {link}: {faults:?}"));
        self.lock().links[link].faults = faults;
    }

    /// From now on nothing fails.
    pub(crate) fn calm(&self) {
        let links = {
            let mut state = self.lock();
            state.calm = true;
            state.links.iter_mut().for_each(|link| link.faults = Faults::default());
            state.links.len()
        };
        (0..links).for_each(|link| self.mend(link));
    }

    /// Puts an event into every session that it belongs to.
    pub(crate) fn store(self: &Arc<Self>, topic: &Topic, event: &Arc<Event>, qos: Qos) {
        let (told, delay) = {
            let mut state = self.lock();
            let sessions = state.store(topic, event, qos);
            for &session in &sessions {
                if qos.min(state.sessions[session].qos) > Qos::AtMostOnce {
                    self.checker.owe(&state.sessions[session].name, Stamp::of(event));
                }
            }
            let delay = (state.rng.u8(0..4) == 0).then(|| state.rng.u64(0..20));
            if delay.is_some() {
                sessions.iter().for_each(|session| state.sessions[*session].untold += 1);
            }
            (state.readies(|feed| sessions.contains(&feed.session)), delay.map(|d| (d, sessions)))
        };
        let Some((millis, sessions)) = delay else { return tell(told) };
        let model = self.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            sessions.iter().for_each(|session| model.lock().sessions[*session].untold -= 1);
            tell(told);
        });
    }

    /// Whether a source, which has been told, would find something.
    pub(crate) fn has_something(&self, link: usize, session: &str) -> bool {
        let state = self.lock();
        let is_open = |feed: &&Feed| {
            let own = &state.sessions[feed.session];
            let is_open = feed.link == link && !feed.stopped && own.name == session;
            // Another member may have taken what there was no room for. Then it is
            // told with the next that it settles.
            is_open && own.untold == 0 && !feed.limited
        };
        let Link { is_down, is_dead, is_over, .. } = state.links[link];
        let has_something = |feed: &Feed| {
            let first = state.sessions[feed.session].queue.front();
            first.is_some_and(|first| feed.admits(first))
        };
        let is_up = !(is_down || is_dead || is_over);
        is_up && state.sources.iter().find(is_open).is_some_and(has_something)
    }

    /// What is still there, as text.
    pub(crate) fn left(&self) -> Option<String> {
        let state = self.lock();
        let queued = |session: &Session| session.queue.len() + session.delayed.len();
        let mut left = Vec::new();
        for session in state.sessions.iter().filter(|session| queued(session) > 0) {
            left.push(format!("{} in the queue of {}", queued(session), session.name));
        }
        for (number, feed) in state.sources.iter().enumerate() {
            let unsettled: Vec<_> =
                feed.unsettled.values().map(|stored| Stamp::of(&stored.event)).collect();
            if !unsettled.is_empty() {
                left.push(format!("not settled at source {number}: {unsettled:?}"));
            }
        }
        (!left.is_empty()).then(|| left.join("; "))
    }

    fn promote(self: &Arc<Self>, session: usize, at: Instant, stored: Stored) {
        let number = stored.number;
        self.lock().sessions[session].delayed.push(stored);
        let model = self.clone();
        tokio::spawn(async move {
            sleep_until(at).await;
            let told = {
                let mut state = model.lock();
                let delayed = &mut state.sessions[session].delayed;
                let due = delayed.iter().position(|stored| stored.number == number);
                let due = due.map(|index| delayed.remove(index));
                state.sessions[session].put_back(due);
                state.readies(|feed| feed.session == session)
            };
            tell(told);
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn put_back(&mut self, stored: impl IntoIterator<Item = Stored>) {
        for stored in stored {
            let index = self.queue.partition_point(|other| other.number < stored.number);
            self.queue.insert(index, stored);
        }
    }
}

impl State {
    fn store(&mut self, topic: &Topic, event: &Arc<Event>, qos: Qos) -> Vec<usize> {
        self.published += 1;
        let number = self.published;
        let mut stored_in = Vec::new();
        for (index, session) in self.sessions.iter_mut().enumerate() {
            if !session.filter.matches(topic) {
                continue;
            }
            let qos = qos.min(session.qos);
            let waiting = session.queue.iter().filter(|stored| stored.qos == qos).count();
            if qos == Qos::AtMostOnce && waiting >= QOS_0_MAX {
                let feed = self.sources.iter_mut().rev().find(|feed| feed.session == index);
                feed.into_iter().for_each(|feed| feed.dropped += 1);
                continue;
            }
            let (event, topic) = (event.clone(), topic.clone());
            session.queue.push_back(Stored { number, event, topic, qos, attempt: 1 });
            stored_in.push(index);
        }
        stored_in
    }

    /// Takes back what a host that is gone had not settled.
    fn take_back(&mut self, link: usize) -> Vec<Ready> {
        for feed in self.sources.iter_mut().filter(|feed| feed.link == link) {
            let unsettled = std::mem::take(&mut feed.unsettled).into_values();
            let kept = std::mem::take(&mut feed.kept).into_iter().map(|(_, stored)| stored);
            let lost = std::mem::take(&mut feed.lost);
            self.sessions[feed.session].put_back(unsettled.chain(kept).chain(lost));
        }
        self.readies(|_| true)
    }

    /// Deliveries whose acknowledgements were lost are repeated; those that were
    /// kept arrive.
    fn reconnected(&mut self, link: usize) -> Vec<Ready> {
        for feed in self.sources.iter_mut().filter(|feed| feed.link == link) {
            for (token, _) in feed.kept.drain(..) {
                feed.acks.insert(token, Ack::Arrived);
            }
            self.sessions[feed.session].put_back(feed.lost.drain(..));
        }
        self.readies(|_| true)
    }

    fn readies(&self, which: impl Fn(&Feed) -> bool) -> Vec<Ready> {
        let told = self.sources.iter().filter(|feed| which(feed));
        let alive = told.filter(|feed| !self.links[feed.link].is_dead);
        alive.map(|feed| feed.ready.clone()).collect()
    }

    /// The next delivery of a source, if there is one and room for it.
    fn next(&mut self, source: usize) -> Option<Incoming> {
        let feed = &mut self.sources[source];
        let link = &self.links[feed.link];
        if feed.stopped || link.is_down || link.is_dead {
            return None;
        }
        let queue = &mut self.sessions[feed.session].queue;
        let first = queue.front()?;
        let qos = first.qos.min(feed.qos);
        if !feed.admits(first) {
            feed.limited = true;
            return None;
        }
        if !feed.share.try_add(first.event.size()) {
            return None;
        }
        let stored = queue.pop_front()?;
        self.tokens += 1;
        let token = Token(self.tokens);
        let incoming = Incoming {
            token,
            event: stored.event.clone(),
            topic: stored.topic.clone(),
            qos,
            attempt: None,
            number: None,
        };
        let attempt = stored.attempt;
        if qos > Qos::AtMostOnce {
            feed.unsettled.insert(token, stored);
        }
        Some(Incoming { attempt: Some(attempt), ..incoming })
    }

    /// Whether an acknowledgement arrives.
    fn fate(&mut self, link: usize) -> Ack {
        let calm = self.calm;
        let Link { is_down, faults, .. } = &mut self.links[link];
        if *is_down {
            return if self.rng.bool() { Ack::Kept } else { Ack::Lost };
        }
        if calm || faults.acks_lost == 0 {
            return Ack::Arrived;
        }
        faults.acks_lost -= 1;
        Ack::Lost
    }
}

impl Feed {
    /// Whether there is room for it.
    fn admits(&self, stored: &Stored) -> bool {
        let size = stored.event.size();
        let bytes: usize = self.unsettled.values().map(|stored| stored.event.size()).sum();
        stored.qos.min(self.qos) == Qos::AtMostOnce
            || self.unsettled.is_empty()
            || self.unsettled.len() < self.max_in_flight.max(1)
                && bytes + size <= self.max_in_flight_bytes
    }
}

struct ModelConnection {
    model: Arc<Model>,
    link: usize,
}

impl ModelConnection {
    /// Waits while the link is down; fails when the host is gone.
    async fn up(&self) -> Result<(), BrokerError> {
        loop {
            let changed = {
                let state = self.model.lock();
                let link = &state.links[self.link];
                if link.is_dead {
                    return Err(BrokerError::Closed("the connection has ended".into()));
                }
                if !link.is_down {
                    return Ok(());
                }
                // Made while the lock is held, so that no change is missed.
                link.changed.clone().notified_owned()
            };
            changed.await;
        }
    }

    /// Does what a publish does, or what becomes of it.
    async fn carry(&self, store: impl FnOnce() + Send) -> Result<(), BrokerError> {
        self.up().await?;
        let (delay, refused, unconfirmed) = {
            let mut state = self.model.lock();
            let delay = Duration::from_micros(state.rng.u64(0..3000));
            let faults = &mut state.links[self.link].faults;
            let refused = faults.publishes_refused > 0;
            let unconfirmed = !refused && faults.confirmations_lost > 0;
            faults.publishes_refused -= u32::from(refused);
            faults.confirmations_lost -= u32::from(unconfirmed);
            (delay, refused, unconfirmed)
        };
        sleep(delay).await;
        self.up().await?;
        if refused {
            return Err(BrokerError::Unavailable("the link failed".into()));
        }
        store();
        if unconfirmed && delay.as_micros() % 2 == 0 {
            std::future::pending::<()>().await;
        }
        match unconfirmed {
            true => Err(BrokerError::Unavailable("the confirmation was lost".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Connection for ModelConnection {
    fn features(&self) -> Features {
        Features {
            queue: true,
            ordered_queue: true,
            pins_keys: false,
            filters: false,
            qos_max: Qos::EffectivelyOnce,
            delayed_redelivery: self.model.returns,
            replay: false,
            group_limits: false,
            listener: false,
            network: true,
        }
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        _from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.carry(|| self.model.store(topic, &event, qos)).await
    }

    /// What is stored there nobody subscribes to: the checker has looked at it.
    async fn publish_dead_letter(
        &self,
        _topic: &Topic,
        _event: Arc<Event>,
        _qos: Qos,
        _from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.carry(|| ()).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.up().await?;
        // Those of one group share a session.
        let name = request.group.clone().unwrap_or_else(|| request.label.clone());
        request.share.on_room(request.ready.clone());
        let mut state = self.model.lock();
        let known = state.sessions.iter().position(|session| session.name == name);
        let session = known.unwrap_or_else(|| {
            let (filter, qos) = (request.filter.clone(), request.qos);
            let (queue, delayed) = (VecDeque::new(), Vec::new());
            state.sessions.push(Session { name, filter, qos, untold: 0, queue, delayed });
            state.sessions.len() - 1
        });
        state.sources.push(Feed {
            session,
            link: self.link,
            qos: request.qos,
            max_in_flight: request.max_in_flight,
            max_in_flight_bytes: request.max_in_flight_bytes,
            ready: request.ready,
            share: request.share,
            unsettled: BTreeMap::new(),
            acks: BTreeMap::new(),
            kept: Vec::new(),
            lost: Vec::new(),
            limited: false,
            ordered: request.order != wasi_pubsub::broker::Order::None,
            stopped: false,
            dropped: 0,
        });
        let source = state.sources.len() - 1;
        Ok(Arc::new(ModelSource { model: self.model.clone(), source }))
    }

    async fn close(&self, grace: Duration) {
        // What was settled is sent within the grace.
        let _late = tokio::time::timeout(grace, self.up()).await;
        self.model.disconnect(self.link);
    }
}

struct ModelSource {
    model: Arc<Model>,
    source: usize,
}

impl ModelSource {
    fn acknowledge(&self, token: Token) {
        let (told, flap) = {
            let mut state = self.model.lock();
            let link = state.sources[self.source].link;
            let Some(stored) = state.sources[self.source].unsettled.remove(&token) else { return };
            let fate = state.fate(link);
            let was_up = !state.links[link].is_down;
            let feed = &mut state.sources[self.source];
            feed.acks.insert(token, fate);
            match fate {
                Ack::Arrived => {}
                Ack::Kept => feed.kept.push((token, stored)),
                Ack::Lost => feed.lost.push(stored),
            }
            let limited = std::mem::take(&mut feed.limited);
            let told = limited.then(|| feed.ready.clone());
            let millis = state.rng.u64(1..500);
            (told, (fate == Ack::Lost && was_up).then_some((link, millis)))
        };
        tell(told);
        if let Some((link, millis)) = flap {
            // An acknowledgement is lost with its connection.
            self.model.cut(link, Duration::from_millis(millis));
        }
    }

    fn take_back(&self, token: Token, delay: Duration, charged: bool) {
        let told = {
            let mut state = self.model.lock();
            let feed = &mut state.sources[self.source];
            let Some(mut stored) = feed.unsettled.remove(&token) else { return };
            let session = feed.session;
            feed.limited = false;
            stored.attempt += u32::from(charged);
            if delay.is_zero() || feed.ordered {
                state.sessions[session].put_back([stored]);
            } else {
                drop(state);
                self.model.promote(session, Instant::now() + delay, stored);
                state = self.model.lock();
            }
            state.readies(|feed| feed.session == session)
        };
        tell(told);
    }
}

#[async_trait]
impl Source for ModelSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let mut state = self.model.lock();
        let counts = self.model.returns;
        if state.links[state.sources[self.source].link].is_over {
            return Err(BrokerError::Other("another client has taken the session over".into()));
        }
        for _ in 0..max {
            let Some(incoming) = state.next(self.source) else { break };
            let attempt = incoming.attempt.filter(|_| counts);
            into.push(Incoming { attempt, ..incoming });
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        match settlement {
            Settlement::Ack => self.acknowledge(token),
            Settlement::Return { delay, charged } => self.take_back(token, delay, charged),
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        loop {
            let changed = {
                let state = self.model.lock();
                let feed = &state.sources[self.source];
                let link = &state.links[feed.link];
                match feed.acks.get(&token) {
                    Some(Ack::Arrived) => return Ok(()),
                    Some(Ack::Kept) if !link.is_dead => link.changed.clone().notified_owned(),
                    _ => return Err(BrokerError::LeaseExpired),
                }
            };
            changed.await;
        }
    }

    fn dropped(&self) -> u64 {
        self.model.lock().sources[self.source].dropped
    }

    fn stop(&self) {
        self.model.lock().sources[self.source].stopped = true;
    }
}

/// Without the lock: whoever is told may ask at once.
fn tell(told: impl IntoIterator<Item = Ready>) {
    told.into_iter().for_each(|ready| ready.notify());
}
