//! One simulated world: hosts, publishers, guests, a broker, and what befalls them.

use crate::belief::{Belief, Stamp, Wants};
use crate::checker::{Checker, Seen};
use crate::guest::{Desk, Mood, tell};
use crate::model::{Faults, Model};
use crate::plants::Plant;
use crate::scenario::{self, Backend, Plan, Scenario, millis};
use crate::takers::{Manner, Taker, pass_by};
use crate::trace::Trace;
use crate::watch::Watch;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::Connection;
use wasi_pubsub::broker::{
    Broker, BrokerError, Budget, Exhausted, Limits, Qos, SubscriptionSettings, Topic,
};

/// How long, in simulated time, all that is left may take once nothing fails any
/// more: far longer than every delay together.
const REST_MAX: Duration = Duration::from_secs(600);
/// How long a host may take to drain: guests and dead letters take less.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// So many events come at the end, and so many who take one of them and leave.
const LAST_EVENTS: usize = 4;
/// How often everybody has a turn before all are idle: who is woken wakes others.
const IDLE_ROUNDS: usize = 24;

/// What went wrong, and on the way to it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) trace: String,
}

/// Simulates the world of one seed.
pub(crate) fn run(seed: u64, plant: Option<Plant>) -> Result<Seen, Failure> {
    let trace = Arc::new(Trace::new(false));
    let result = simulate(seed, plant, &trace);
    result.map_err(|what| {
        // The same again, with its steps.
        let (_, trace) = run_traced(seed, plant);
        Failure { what, trace }
    })
}

/// As `run`, and tells the steps.
pub(crate) fn run_traced(seed: u64, plant: Option<Plant>) -> (Result<Seen, String>, String) {
    let trace = Arc::new(Trace::new(true));
    let result = simulate(seed, plant, &trace);
    (result, trace.text())
}

fn simulate(seed: u64, plant: Option<Plant>, trace: &Arc<Trace>) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut rng = Rng::with_seed(seed);
        let mut scenario = Scenario::new(seed, &mut rng);
        trace.step(|| format!("{scenario:#?}"));
        let mut world = World::new(&mut scenario, plant, rng, trace.clone()).await;
        world.run().await
    })
}

struct World {
    scenario: Scenario,
    plant: Option<Plant>,
    rng: Rng,
    trace: Arc<Trace>,
    checker: Arc<Checker>,
    mood: Arc<Mood>,
    broker: Shore,
    hosts: Vec<Host>,
    /// Publishers outside of the hosts.
    publishers: Vec<JoinHandle<()>>,
    published: u64,
    identities: u64,
    /// What was published at qos 2, and where.
    once: BTreeSet<(u64, Topic)>,
}

/// What the hosts connect to.
enum Shore {
    Model(Arc<Model>),
    Memory(Arc<dyn Connection>),
}

/// One life of one host.
struct Host {
    number: usize,
    link: Option<usize>,
    watch: Arc<Watch>,
    broker: Arc<Broker>,
    budget: Arc<Budget>,
    desks: Vec<(String, Desk)>,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn new(
        scenario: &mut Scenario,
        plant: Option<Plant>,
        mut rng: Rng,
        trace: Arc<Trace>,
    ) -> Self {
        let checker = Checker::new(trace.clone());
        let broker = match scenario.backend {
            Backend::Model { returns } => {
                Shore::Model(Model::new(returns, rng.fork(), checker.clone(), trace.clone()))
            }
            Backend::Memory => Shore::Memory(memory::open_with(memory::Settings {
                queue_events_max: rng.usize(3..40),
                dead_letter_events_reserved: 2,
                qos0_events_max: 4,
                ..memory::Settings::default()
            })),
        };
        let mut world = Self {
            mood: Mood::new(scenario.guest_faults),
            scenario: scenario.clone(),
            plant,
            rng,
            trace,
            checker,
            broker,
            hosts: Vec::new(),
            publishers: Vec::new(),
            published: 0,
            identities: 0,
            once: BTreeSet::new(),
        };
        for number in 0..scenario.hosts {
            let host = world.start(number).await;
            world.hosts.push(host);
        }
        world
    }

    async fn run(&mut self) -> Result<Seen, String> {
        for step in 0..self.scenario.steps {
            self.step().await;
            self.check()?;
            if step % 10 == 0 {
                self.check_idle().await;
            }
        }
        self.rest().await?;
        self.end().await?;
        Ok(self.checker.seen())
    }

    fn check(&self) -> Result<(), String> {
        for host in &self.hosts {
            for (_, desk) in &host.desks {
                self.checker.within_bounds(desk.opening, &desk.subscription);
            }
            let openings: Vec<_> = host.desks.iter().map(|(_, desk)| desk.opening).collect();
            self.checker.within_budget(&openings, self.scenario.budget_bytes);
        }
        self.checker.violation().map_or(Ok(()), Err)
    }

    /// Nobody may wait while there is something to take and room for it.
    async fn check_idle(&self) {
        let Shore::Model(model) = &self.broker else { return };
        // Everybody does all that is to be done at this time.
        for _ in 0..IDLE_ROUNDS {
            yield_now().await;
        }
        for host in self.hosts.iter().filter(|_| self.scenario.budget_bytes == usize::MAX) {
            for (label, desk) in host.desks.iter().filter(|(_, desk)| desk.has_waiting()) {
                let session = session_of(desk.subscription.settings());
                let link = host.link.unwrap_or_default();
                if model.has_something(link, &session) && self.checker.has_room(desk.opening) {
                    self.checker.report(format!("takers of {label} wait, and there is something"));
                }
            }
        }
    }

    async fn step(&mut self) {
        if self.rng.u32(0..100) < self.scenario.faults {
            return self.fault().await;
        }
        match self.rng.u8(0..20) {
            0..8 => self.publish(),
            8 => (0..self.rng.usize(2..8)).for_each(|_| self.publish()),
            9 => self.pass_by(),
            10..13 => yield_now().await,
            13..18 => sleep(millis(self.rng.u64(0..20))).await,
            _ => sleep(millis(self.rng.u64(0..1000))).await,
        }
    }

    async fn fault(&mut self) {
        let number = self.rng.usize(..self.hosts.len());
        let (Shore::Model(model), Some(link)) = (self.broker.clone(), self.hosts[number].link)
        else {
            // It ends with its host, which can only be stopped and started again.
            self.drain(number).await;
            return self.restart(number).await;
        };
        match self.rng.u8(0..10) {
            0..3 => model.cut(link, millis(self.rng.u64(0..4000))),
            3..5 => {
                let mut count = || self.rng.u32(0..4);
                model.plan_faults(
                    link,
                    Faults {
                        acks_lost: count(),
                        publishes_refused: count(),
                        confirmations_lost: count(),
                    },
                );
            }
            5..8 => self.kill(number).await,
            end => {
                if end == 8 {
                    self.checker.count(|seen| seen.ended += 1);
                    model.end(link);
                    sleep(millis(self.rng.u64(0..1000))).await;
                }
                self.drain(number).await;
                self.restart(number).await;
            }
        }
    }

    /// Publishes an event, from one of the hosts or from outside.
    fn publish(&mut self) {
        let again = self.rng.u8(0..8) == 0 && self.identities > 0;
        let known = if again { self.rng.u64(0..self.identities) } else { self.identities };
        let (topic, qos) = (scenario::topic(&mut self.rng), scenario::qos(&mut self.rng));
        // The built-in broker stores nothing of what was published before at qos 2,
        // and this repetition may be one that a filter wants.
        let taken = qos == Qos::EffectivelyOnce && !self.once.insert((known, topic.clone()));
        let identity = if taken { self.identities } else { known };
        if taken {
            self.once.insert((identity, topic.clone()));
        }
        self.identities += u64::from(identity == self.identities);
        let number = self.rng.usize(..self.hosts.len());
        let mut publisher = Publisher {
            broker: self.hosts[number].broker.clone(),
            checker: self.checker.clone(),
            sessions: self.sessions(&topic, qos),
            topic,
            qos,
            identity,
            copies: self.published + 1,
            rng: self.rng.fork(),
        };
        // Each try has a number of its own.
        self.published += Publisher::TRIES_MAX;
        let outside = self.rng.bool();
        match &self.broker {
            Shore::Model(model) if outside => {
                let event = publisher.event();
                model.store(&publisher.topic, &Arc::new(event), qos);
            }
            _ => self.publishers.push(tokio::spawn(Box::pin(publisher.run()))),
        }
    }

    /// The sessions of the built-in broker that get an event. The model knows by
    /// itself which of its sessions do.
    fn sessions(&self, topic: &Topic, qos: Qos) -> Vec<(String, Option<Wants>)> {
        let Shore::Memory(_) = self.broker else { return Vec::new() };
        let mut sessions = Vec::new();
        for host in 0..self.scenario.hosts {
            for plan in &self.scenario.plans {
                let settings = settings_of(plan, host);
                if settings.filter.matches(topic) && qos.min(settings.qos) > Qos::AtMostOnce {
                    sessions.push((session_of(&settings), plan.wants));
                }
            }
        }
        sessions
    }

    fn pass_by(&mut self) {
        let host = self.rng.usize(..self.hosts.len());
        let desks = &self.hosts[host].desks;
        let desk = desks[self.rng.usize(..desks.len())].1.clone();
        let task = tokio::spawn(pass_by(desk, self.rng.fork()));
        self.hosts[host].tasks.push(task);
    }

    async fn start(&mut self, number: usize) -> Host {
        let (link, connection) = match &self.broker {
            Shore::Model(model) => {
                let (link, connection) = model.connect();
                (Some(link), connection)
            }
            Shore::Memory(connection) => (None, connection.clone()),
        };
        let returns = connection.features().delayed_redelivery;
        let mut settings = Vec::new();
        let mut beliefs = BTreeMap::new();
        for plan in &self.scenario.plans {
            let own = settings_of(plan, number);
            let (session, label) = (session_of(&own), own.label.clone());
            let belief = Belief { session, settings: own.clone(), returns, wants: plan.wants };
            beliefs.insert(label, belief);
            settings.push(own);
        }
        let watch = Watch::new(connection, self.checker.clone(), beliefs);
        let connection = match self.plant {
            Some(plant) => plant.connection(watch.clone()),
            None => watch.clone(),
        };
        let (bytes_max, seed) = (self.scenario.budget_bytes, self.rng.u64(..));
        let bytes_max = self.plant.map_or(bytes_max, |plant| plant.budget(bytes_max));
        let budget = Budget::new(bytes_max);
        let broker =
            Broker::with_seed("simulated", connection, Limits::default(), budget.clone(), seed);
        let mut host =
            Host { number, link, watch, broker, budget, desks: Vec::new(), tasks: Vec::new() };
        for settings in settings {
            self.open(&mut host, settings).await;
        }
        self.hire(&mut host);
        host
    }

    async fn open(&self, host: &mut Host, mut settings: SubscriptionSettings) {
        let label = settings.label.clone();
        if let Some(plant) = self.plant {
            plant.settings(&mut settings);
        }
        let subscription = host.broker.subscribe(settings).await.unwrap();
        let desk = Desk {
            opening: host.watch.opening(&label),
            subscription,
            checker: self.checker.clone(),
            tongue: self.plant.map_or(tell, Plant::tongue),
            waiting: Arc::default(),
        };
        host.desks.push((label, desk));
    }

    /// Gives each subscription its takers, and all those of push one worker more.
    fn hire(&mut self, host: &mut Host) {
        let mut pushed = Vec::new();
        let mut hired = Vec::new();
        for ((_, desk), plan) in host.desks.iter().zip(&self.scenario.plans) {
            hired.extend(plan.takers.iter().map(|manner| (vec![desk.clone()], *manner)));
            if plan.settings.ack_deadline.is_none() {
                pushed.push(desk.clone());
            }
        }
        if pushed.len() > 1 {
            let manner = if self.rng.bool() { Manner::Serial } else { Manner::Concurrent(3) };
            hired.push((pushed, manner));
        }
        for (desks, manner) in hired {
            let (mood, rng) = (self.mood.clone(), self.rng.fork());
            let taker = Taker { desks, mood, rng, waits: Vec::new() };
            host.tasks.push(tokio::spawn(Box::pin(taker.run(manner))));
        }
    }

    /// Ends a host without a word, and starts it again.
    async fn kill(&mut self, number: usize) {
        self.trace.step(|| format!("host {number} is killed"));
        self.checker.count(|seen| seen.kills += 1);
        let host = &mut self.hosts[number];
        // First of all nothing passes any more: what is dropped in the simulation
        // tells its broker so, what is killed doesn't.
        host.watch.kill();
        host.desks.iter().for_each(|(_, desk)| self.checker.over(desk.opening));
        if let (Shore::Model(model), Some(link)) = (&self.broker, host.link) {
            model.disconnect(link);
        }
        host.tasks.drain(..).for_each(|task| task.abort());
        host.desks.clear();
        sleep(millis(self.rng.u64(0..500))).await;
        self.restart(number).await;
    }

    async fn restart(&mut self, number: usize) {
        let host = self.start(number).await;
        self.hosts[number] = host;
    }

    /// Ends a host as SIGTERM does.
    async fn drain(&mut self, number: usize) {
        self.trace.step(|| format!("host {number} drains"));
        self.checker.count(|seen| seen.drains += 1);
        let host = &mut self.hosts[number];
        if let Err(what) = host.drain(&self.checker).await {
            self.checker.report(format!("host {number} was stopped: {what}"));
        }
        match self.broker {
            Shore::Model(_) => host.close().await,
            // What is published meanwhile is not kept for topic subscriptions.
            Shore::Memory(_) => {
                host.desks.iter().for_each(|(label, _)| self.checker.forgive(label))
            }
        }
        host.watch.kill();
        host.desks.iter().for_each(|(_, desk)| self.checker.over(desk.opening));
        host.desks.clear();
    }

    /// Lets everything run out.
    async fn rest(&mut self) -> Result<(), String> {
        // Nobody takes on for those who leave: what they settle at the end is all
        // that can wake the others.
        for _ in 0..LAST_EVENTS {
            self.publish();
            self.pass_by();
        }
        yield_now().await;
        self.trace.step(|| "nothing fails any more".into());
        self.mood.calm();
        if let Shore::Model(model) = &self.broker {
            model.calm();
        }
        let end = Instant::now() + REST_MAX;
        loop {
            // A second is long for all that is done at once, and short beside what
            // waits for its time.
            sleep(Duration::from_secs(1)).await;
            self.check()?;
            let Some(left) = self.left() else { return Ok(()) };
            if Instant::now() >= end {
                return Err(format!("not at rest after {REST_MAX:?}: {left}"));
            }
        }
    }

    /// What is not done yet, as text.
    fn left(&self) -> Option<String> {
        if self.publishers.iter().any(|publisher| !publisher.is_finished()) {
            return Some("a publisher waits".into());
        }
        let model = match &self.broker {
            Shore::Model(model) => model.left(),
            Shore::Memory(_) => None,
        };
        model.or_else(|| self.checker.debts()).or_else(|| {
            let desks = self.hosts.iter().flat_map(|host| &host.desks);
            let stats = desks.map(|(label, desk)| (label, desk.subscription.stats()));
            let busy = stats.filter(|(_, stats)| stats.in_flight + stats.waiting > 0);
            busy.map(|(label, stats)| format!("{label}: {stats:?}")).next()
        })
    }

    async fn end(&mut self) -> Result<(), String> {
        for host in &mut self.hosts {
            host.drain(&self.checker).await?;
        }
        for host in &self.hosts {
            host.close().await;
        }
        self.check()
    }
}

impl Clone for Shore {
    fn clone(&self) -> Self {
        match self {
            Self::Model(model) => Self::Model(model.clone()),
            Self::Memory(connection) => Self::Memory(connection.clone()),
        }
    }
}

impl Host {
    /// Stops all subscriptions, waits until nothing is in flight, and closes.
    async fn drain(&mut self, checker: &Checker) -> Result<(), String> {
        for (_, desk) in &self.desks {
            checker.stopping(desk.opening);
            desk.subscription.stop();
            checker.stopped(desk.opening);
        }
        let end = Instant::now() + DRAIN_MAX;
        for (label, desk) in &self.desks {
            let drained = tokio::time::timeout_at(end, desk.subscription.drained()).await;
            if drained.is_err() {
                let stats = desk.subscription.stats();
                return Err(format!("{label} is not drained after {DRAIN_MAX:?}: {stats:?}"));
            }
            let dropped = self.watch.dropped(label);
            checker.at_rest(desk.opening, &desk.subscription, dropped);
        }
        if self.budget.bytes_used() > 0 {
            return Err(format!("nothing is held, and it counts in the budget: {:?}", self.budget));
        }
        for task in self.tasks.drain(..) {
            match timeout(DRAIN_MAX, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("a taker failed: {error}")),
                Err(_) => return Err(format!("a taker of host {} waits for ever", self.number)),
            }
        }
        Ok(())
    }

    async fn close(&self) {
        self.broker.close(Duration::from_secs(5)).await;
    }
}

/// The settings of a subscription of a host.
fn settings_of(plan: &Plan, host: usize) -> SubscriptionSettings {
    let mut settings = plan.settings.clone();
    settings.label = format!("{host}/{}", settings.label);
    if let Exhausted::DeadLetter(topic) = &mut settings.exhausted {
        // Each has a topic of its own, which tells whose dead letter it is.
        *topic = Topic::new(&format!("$dead/{}", settings.label)).unwrap();
    }
    settings
}

/// What lasts at the broker: those of one group share it.
fn session_of(settings: &SubscriptionSettings) -> String {
    settings.group.clone().unwrap_or_else(|| settings.label.clone())
}

/// Publishes one event until that is confirmed, or it loses patience.
struct Publisher {
    broker: Arc<Broker>,
    checker: Arc<Checker>,
    /// Each with the events that it wants.
    sessions: Vec<(String, Option<Wants>)>,
    topic: Topic,
    qos: Qos,
    identity: u64,
    copies: u64,
    rng: Rng,
}

impl Publisher {
    const TRIES_MAX: u64 = 4;

    fn event(&mut self) -> wasi_pubsub::broker::Event {
        let stamp = Stamp { copy: self.copies, identity: self.identity };
        self.copies += 1;
        scenario::event(stamp, &mut self.rng)
    }

    async fn run(mut self) {
        for _ in 0..Self::TRIES_MAX {
            let event = self.event();
            let stamp = Stamp::of(&event);
            let wants = |wants: &Option<Wants>| wants.is_none_or(|of| (of.wants)(&event));
            let wanting = self.sessions.iter().filter(|(_, of)| wants(of));
            let wanting: Vec<String> = wanting.map(|(session, _)| session.clone()).collect();
            let patience = millis(self.rng.u64(50..3000));
            let publish = self.broker.publish("tester", &self.topic, event, self.qos, patience);
            match publish.await {
                Ok(()) => {
                    return wanting.iter().for_each(|session| self.checker.owe(session, stamp));
                }
                Err(BrokerError::Unavailable(_)) => {}
                Err(BrokerError::Closed(_)) => return,
                Err(error) => return self.checker.report(format!("a publish failed: {error}")),
            }
        }
    }
}
