//! One simulated world: a broker on a storage, publishers, subscribers, and people
//! who look after what is kept.

use crate::disk::{self, Disk, Still};
use crate::model::{Fact, Fate, From, Member, MemberId, Model, Publish, Seen, publish_of};
use crate::plain::{Kept, Plain};
use crate::plants::Plant;
use crate::probe::{Probe, Shared, Traffic};
use crate::scenario::{self, Kind, Plan, Scenario};
use crate::trace::Trace;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasi_pubsub::backends::memory::MemoryStorage;
use wasi_pubsub::broker::driver::{
    Connection, Incoming, Parting, Ready, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{
    BrokerError, Budget, Event, EventFilter, Qos, Share, Start, TopicFilter,
};
use wasi_pubsub::builtin::storage::{Storage, TopicStats};
use wasi_pubsub::builtin::{BuiltIn, Clock, SeekTo, Settings};

/// The longest simulated time that something may take.
const LONG: Duration = Duration::from_secs(300);
/// Longer than a page takes to come.
const STILL: Duration = Duration::from_millis(200);
/// What the storage of `pubsub.memory` may keep.
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// What went wrong, and on the way to it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) trace: String,
}

/// Simulates the world of one seed.
pub(crate) fn run(kind: Kind, seed: u64, plant: Option<Plant>) -> Result<Seen, Failure> {
    if kind == Kind::Disk {
        // Threads do not do the same each time.
        let (result, trace) = run_traced(kind, seed, plant);
        return result.map_err(|what| Failure { what, trace });
    }
    simulate(kind, seed, plant, &Arc::new(Trace::new(false))).map_err(|what| {
        // The same again, with its steps.
        let (again, trace) = run_traced(kind, seed, plant);
        let same = again.is_err_and(|again| again == what);
        let what = if same { what } else { format!("{what} (another time not)") };
        Failure { what, trace }
    })
}

/// As `run`, and tells the steps.
pub(crate) fn run_traced(
    kind: Kind,
    seed: u64,
    plant: Option<Plant>,
) -> (Result<Seen, String>, String) {
    let trace = Arc::new(Trace::new(true));
    let result = simulate(kind, seed, plant, &trace);
    (result, trace.text())
}

fn simulate(
    kind: Kind,
    seed: u64,
    plant: Option<Plant>,
    trace: &Arc<Trace>,
) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::new(kind, &mut rng);
        trace.step(|| format!("{scenario:#?}"));
        let mut world = World::new(scenario, plant, rng, trace.clone());
        world.run().await?;
        let seen = world.model.lock().seen;
        Ok(seen)
    })
}

struct World {
    scenario: Scenario,
    plans: Vec<Arc<Plan>>,
    plant: Option<Plant>,
    rng: Rng,
    trace: Arc<Trace>,
    model: Shared,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    node: Node,
    hands: Vec<Hand>,
    publishers: Vec<(Publish, JoinHandle<()>)>,
    members: MemberId,
    identities: u64,
    is_failing: bool,
}

/// One life of the broker.
struct Node {
    broker: Arc<BuiltIn>,
    plain: Option<Arc<Plain>>,
    disk: Option<Arc<Disk>>,
    probe: Arc<Probe>,
    traffic: Arc<Traffic>,
}

/// One subscriber.
struct Hand {
    id: MemberId,
    plan: Arc<Plan>,
    source: Arc<dyn Source>,
    share: Arc<Share>,
    /// Whether it was told that there may be something.
    told: Arc<AtomicBool>,
    /// Whether it found less than it asked for since then.
    is_idle: bool,
    has: Vec<(Token, Publish, usize)>,
    /// Settled, for doing it a second time.
    over: Vec<Token>,
}

impl World {
    fn new(scenario: Scenario, plant: Option<Plant>, rng: Rng, trace: Arc<Trace>) -> Self {
        let is_durable = scenario.kind != Kind::Memory;
        let model = Model::new(is_durable, scenario.bounds, trace.clone());
        let model = Shared(Arc::new(std::sync::Mutex::new(model)));
        let began = Instant::now();
        let clock = Arc::new(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + began.elapsed()
        });
        let mut rng = rng;
        let disk = (scenario.kind == Kind::Disk).then(|| Arc::new(Disk::new()));
        let node =
            Node::open(&scenario, (Kept::default(), disk), &mut rng, plant, &model, clock.clone());
        let plans = scenario.plans.iter().cloned().map(Arc::new).collect();
        Self {
            scenario,
            plans,
            plant,
            rng,
            trace,
            model,
            clock,
            node,
            hands: Vec::new(),
            publishers: Vec::new(),
            members: 0,
            identities: 0,
            is_failing: false,
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        for step in 0..self.scenario.steps {
            self.step().await;
            self.settle_down().await;
            if step % 5 == 0 {
                self.check_idle().await;
            }
            self.check()?;
        }
        self.end().await;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        self.model.lock().violation().map_or(Ok(()), Err)
    }

    fn report(&self, what: String) {
        self.model.lock().report(what);
    }

    fn say(&self, text: impl FnOnce() -> String) {
        self.trace.step(text);
    }

    /// Everybody does what is to be done at this time.
    async fn settle_down(&mut self) {
        self.node.traffic.rest().await;
        self.publishers.retain(|(_, task)| !task.is_finished());
        self.model.lock().sweep((self.clock)());
    }

    async fn step(&mut self) {
        let roll = self.rng.u32(0..100);
        if roll < self.scenario.faults {
            return self.fault().await;
        }
        if roll < self.scenario.faults + self.scenario.looks {
            return self.look().await;
        }
        match self.rng.u8(0..24) {
            0..6 => self.publish(),
            6 => (0..self.rng.usize(2..10)).for_each(|_| self.publish()),
            7..13 => self.take(),
            13..18 => self.settle().await,
            18 => self.leave().await,
            19..21 => self.join().await,
            21..23 => self.pass(20).await,
            _ => {
                let millis = if self.rng.u8(..20) == 0 { 130_000 } else { 1500 };
                self.pass(millis).await;
            }
        }
    }

    async fn pass(&mut self, millis_max: u64) {
        let time = Duration::from_millis(self.rng.u64(0..=millis_max));
        self.say(|| format!("{time:?} pass"));
        tokio::time::sleep(time).await;
    }

    /// Waits for what the broker was asked for.
    async fn within<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<T, BrokerError>>,
    ) -> Option<T> {
        match tokio::time::timeout(LONG, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                self.say(|| format!("{what}: {error}"));
                let excused = self.is_failing && error.is_temporary();
                if !excused {
                    self.report(format!("{what} failed: {error}"));
                }
                None
            }
            Err(_) => {
                self.report(format!("{what} does not end"));
                None
            }
        }
    }

    fn publish(&mut self) {
        let again = self.rng.u8(0..6) == 0 && self.identities > 0;
        let identity = if again { self.rng.u64(0..self.identities) } else { self.identities };
        self.identities += u64::from(!again);
        let publish = self.model.lock().facts.len();
        let event = Arc::new(scenario::event(publish, identity, &mut self.rng));
        let topic = scenario::topic(&mut self.rng);
        let qos = scenario::qos(&mut self.rng);
        let from = [None, Some("me"), Some("you")][self.rng.usize(..3)];
        let is_dead_letter = self.rng.u8(..12) == 0;
        let number = self.model.lock().asked(Fact {
            topic: topic.clone(),
            event: event.clone(),
            qos,
            from: from.map(str::to_owned),
            is_dead_letter,
            fate: Fate::Waiting,
            place: None,
            number: None,
            time: (self.clock)(),
            is_kept: false,
            may_be_gone: false,
            is_answered: false,
            repeats: None,
        });
        debug_assert_eq!(publish, number);
        self.model.lock().seen.dead_letters += u64::from(is_dead_letter);
        self.say(|| {
            let (topic, size) = (topic.as_str(), event.size());
            let Event { attributes, ordering_key: key, .. } = &*event;
            let identity = format!("{} {}", event.source, event.id);
            format!(
                "publish {publish} to {topic} at {qos} from {from:?}: {identity}, {size} bytes, \
                 {attributes:?}, {key:?}, dead letter: {is_dead_letter}"
            )
        });
        let (broker, model, trace) =
            (self.node.broker.clone(), self.model.clone(), self.trace.clone());
        let task = tokio::spawn(async move {
            let answer = match is_dead_letter {
                false => broker.publish(&topic, event, qos, from).await,
                true => broker.publish_dead_letter(&topic, event, qos, from).await,
            };
            trace.step(|| format!("publish {publish} answered: {answer:?}"));
            model.lock().answered(publish, answer.err().map(|error| error.to_string()));
        });
        self.publishers.push((publish, task));
    }

    async fn join(&mut self) {
        let plan = self.plans[self.rng.usize(..self.plans.len())].clone();
        let members = self.hands.iter().filter(|hand| hand.plan.label == plan.label).count();
        if members < plan.members_max {
            self.open(&plan).await;
        }
    }

    async fn open(&mut self, plan: &Arc<Plan>) {
        let name = plan.name();
        let is_new = !self.model.lock().subs.contains_key(&name);
        let told = Arc::new(AtomicBool::new(false));
        let share = Share::new(&Budget::unbounded());
        let qos = if self.rng.u8(..8) == 0 { scenario::qos(&mut self.rng) } else { plan.qos };
        let (start, from) = self.start();
        let mut request = SubscribeRequest {
            label: plan.label.clone(),
            filter: plan.filter.clone(),
            group: plan.group.clone(),
            qos,
            order: plan.order.clone(),
            event_filter: plan.wants.map(|wants| EventFilter::new(wants.text).unwrap()),
            start,
            max_in_flight: self.rng.usize(1..=8),
            max_in_flight_bytes: if self.rng.bool() { self.rng.usize(50..600) } else { 1 << 20 },
            group_max_in_flight: plan.group_max_in_flight.filter(|_| self.rng.u8(..3) > 0),
            share: share.clone(),
            backlog_bound: None,
            not_from: plan.not_from.clone(),
            is_temporary: false,
            ready: Ready(Arc::new({
                let told = told.clone();
                move || told.store(true, Ordering::SeqCst)
            })),
        };
        let member = Member {
            sub: name.clone(),
            qos,
            max_in_flight: request.max_in_flight,
            max_in_flight_bytes: request.max_in_flight_bytes,
            group_max_in_flight: request.group_max_in_flight,
            has_stopped: false,
        };
        if let Some(plant) = self.plant {
            plant.request(&mut request);
        }
        self.members += 1;
        let id = self.members;
        self.say(|| {
            format!("member {id} of {name} at {qos} begins with {start:?} (new: {is_new})")
        });
        let since = self.model.lock().places.len();
        let opened = self.within("to subscribe", self.node.broker.subscribe(request)).await;
        let Some(source) = opened else { return };
        let source = match self.plant {
            Some(plant) => plant.source(source),
            None => source,
        };
        let mut model = self.model.lock();
        model.joined(id, member, plan);
        if is_new {
            model.begin(&name, &from, since);
        }
        drop(model);
        let plan = plan.clone();
        let (has, over) = (Vec::new(), Vec::new());
        self.hands.push(Hand { id, plan, source, share, told, is_idle: false, has, over });
    }

    /// Where something begins.
    fn start(&mut self) -> (Start, From<'static>) {
        let facts = self.model.lock();
        let known: Vec<_> =
            facts.facts.iter().filter_map(|fact| Some((fact.number?, fact.time))).collect();
        drop(facts);
        let at = (!known.is_empty()).then(|| known[self.rng.usize(..known.len())]);
        match (self.rng.u8(..5), at) {
            (0, _) => (Start::Earliest, From::Earliest),
            (1, Some((number, _))) => (Start::Number(number), From::Number(number)),
            (2, Some((_, time))) => (Start::Time(time), From::Time(time)),
            _ => (Start::New, From::New),
        }
    }

    fn hand(&mut self) -> Option<usize> {
        (!self.hands.is_empty()).then(|| self.rng.usize(..self.hands.len()))
    }

    fn take(&mut self) {
        let Some(hand) = self.hand() else { return };
        let max = self.rng.usize(1..=6);
        // Who was not told looks now and then all the same.
        let hand = &self.hands[hand];
        if !hand.is_idle || hand.told.load(Ordering::SeqCst) || self.rng.u8(..10) == 0 {
            let id = hand.id;
            self.take_with(id, max);
        }
    }

    /// Returns how many came.
    fn take_with(&mut self, id: MemberId, max: usize) -> usize {
        let Some(hand) = self.hands.iter_mut().find(|hand| hand.id == id) else { return 0 };
        hand.told.store(false, Ordering::SeqCst);
        let mut taken: Vec<Incoming> = Vec::new();
        if let Err(error) = hand.source.take(max, &mut taken) {
            self.model.lock().report(format!("member {id} cannot take: {error}"));
            return 0;
        }
        hand.is_idle = taken.len() < max;
        for incoming in &taken {
            let (publish, size) = (publish_of(&incoming.event), incoming.event.size());
            self.trace.step(|| {
                let Incoming { token, qos, attempt, .. } = incoming;
                format!("member {id} takes {publish:?} as {token:?} at {qos}, attempt {attempt:?}")
            });
            self.model.lock().taken(id, incoming);
            match incoming.qos {
                // It is over.
                Qos::AtMostOnce => hand.share.remove(size),
                _ => hand.has.push((incoming.token, publish.unwrap_or(Publish::MAX), size)),
            }
        }
        taken.len()
    }

    async fn settle(&mut self) {
        let Some(hand) = self.hand() else { return };
        let count = self.rng.usize(1..=4);
        for _ in 0..count {
            self.settle_one(hand);
        }
        if self.rng.u8(..4) == 0 {
            self.confirm(hand).await;
        }
    }

    fn settle_one(&mut self, hand: usize) {
        let (roll, millis) = (self.rng.u32(0..100), self.rng.u64(0..2000));
        let (charged, stale) = (self.rng.bool(), self.rng.u8(..10) == 0);
        let hand = &mut self.hands[hand];
        let id = hand.id;
        if stale && !hand.over.is_empty() {
            let token = hand.over[self.rng.usize(..hand.over.len())];
            if !self.model.lock().has(id, token) {
                self.trace.step(|| format!("member {id} settles {token:?} again"));
                hand.source.settle(token, Settlement::Ack);
            }
            return;
        }
        if hand.has.is_empty() {
            return;
        }
        let (token, publish, size) = hand.has.swap_remove(self.rng.usize(..hand.has.len()));
        hand.over.push(token);
        hand.share.remove(size);
        if roll >= self.scenario.returns {
            self.trace.step(|| format!("member {id} acknowledges {publish}"));
            self.model.lock().acknowledged(id, token);
            hand.source.settle(token, Settlement::Ack);
        } else {
            let delay =
                if roll.is_multiple_of(2) { Duration::ZERO } else { Duration::from_millis(millis) };
            self.trace.step(|| format!("member {id} returns {publish} for {delay:?} ({charged})"));
            self.model.lock().returned(id, token, delay, charged);
            hand.source.settle(token, Settlement::Return { delay, charged });
        }
    }

    /// Waits until the last acknowledgement of a member is confirmed, and with it
    /// all that came before.
    async fn confirm(&mut self, hand: usize) {
        let hand = &self.hands[hand];
        let Some(token) = hand.over.last().copied() else { return };
        let (source, name) = (hand.source.clone(), hand.plan.name());
        let at_qos_2 = self
            .model
            .lock()
            .members
            .get(&hand.id)
            .is_some_and(|member| member.qos == Qos::EffectivelyOnce);
        let done = self.model.lock().done(&name);
        self.say(|| format!("{name} waits for the confirmation of {done:?}"));
        let _still = (self.scenario.kind == Kind::Disk).then(Still::new);
        // A lease that was over is refused; what was settled in time is confirmed.
        let confirmed = tokio::time::timeout(LONG, source.confirmed(token)).await;
        match confirmed {
            Ok(Ok(())) if at_qos_2 => self.model.lock().confirmed(&name, &done),
            Ok(Ok(()) | Err(BrokerError::LeaseExpired)) => {}
            Ok(Err(error)) => self.report(format!("an acknowledgement is not confirmed: {error}")),
            // Until the storage works again.
            Err(_) if self.is_failing => {}
            Err(_) => self.report("an acknowledgement is never confirmed".into()),
        }
    }

    async fn leave(&mut self) {
        let Some(index) = self.hand() else { return };
        let hand = self.hands.swap_remove(index);
        self.leave_with(hand).await;
    }

    async fn leave_with(&mut self, hand: Hand) {
        let (id, name) = (hand.id, hand.plan.name());
        let is_topic = hand.plan.group.is_none();
        let parting = match self.rng.u8(..6) {
            0 if !self.is_failing => Some(Parting::Removed),
            1 if is_topic => Some(Parting::Replaced),
            _ => None,
        };
        self.say(|| format!("member {id} of {name} leaves: {parting:?}"));
        if let Some(parting) = parting {
            self.model.lock().seen.partings += 1;
            hand.source.part(parting);
        }
        hand.source.stop();
        {
            let mut model = self.model.lock();
            model.stopped(id);
            let is_last = model.members_of(&name) == 0;
            let is_durable = model.subs.get(&name).is_some_and(|sub| sub.is_durable);
            let stays = model.subs.get(&name).is_some_and(|sub| sub.stays);
            let ends = match parting {
                Some(Parting::Removed) => is_last && !stays,
                Some(Parting::Replaced) => false,
                None => is_topic && !is_durable,
            };
            if let Some(sub) = model.subs.get_mut(&name)
                && parting != Some(Parting::Removed)
                && !is_topic
            {
                sub.stays = true;
            }
            if ends {
                model.subs.remove(&name);
                model.seen.removals += 1;
            }
        }
        let after = match self.rng.bool() {
            true => None,
            // What it has it can still settle.
            false => Some(self.rng.usize(0..3)),
        };
        for (token, publish, size) in hand.has.iter().take(after.unwrap_or(0)) {
            self.say(|| format!("member {id}, stopped, acknowledges {publish}"));
            self.model.lock().acknowledged(id, *token);
            hand.source.settle(*token, Settlement::Ack);
            hand.share.remove(*size);
        }
        if parting.is_some() {
            let parted = tokio::time::timeout(LONG, hand.source.parted()).await;
            if parted.is_err() {
                self.report(format!("the parting of {name} does not end"));
            }
        }
        // Before the drop tells others.
        self.model.lock().gone(id);
        drop(hand);
        if parting == Some(Parting::Replaced) {
            let plan = self.plans.iter().find(|plan| plan.name() == name).cloned();
            if let Some(plan) = plan {
                self.open(&plan).await;
            }
        }
    }

    // People who look after what is kept.

    async fn look(&mut self) {
        match self.rng.u8(0..14) {
            0..3 => self.seek().await,
            3..5 => self.snapshot().await,
            5 => self.remove_snapshot().await,
            6..8 => {
                let rules = scenario::retention(&mut self.rng);
                self.say(|| format!("retention is {rules:?}"));
                self.model.lock().retention.clone_from(&rules);
                self.node.broker.set_retention(rules);
            }
            8..11 => self.trim().await,
            11 => self.purge().await,
            12 => self.remove().await,
            _ => self.check_stored(None).await,
        }
    }

    fn some_subscription(&mut self) -> Option<String> {
        let names: Vec<_> = self.model.lock().subs.keys().cloned().collect();
        (!names.is_empty()).then(|| names[self.rng.usize(..names.len())].clone())
    }

    fn some_snapshot(&mut self) -> Option<String> {
        let names: Vec<_> = self.model.lock().snapshots.keys().cloned().collect();
        (!names.is_empty()).then(|| names[self.rng.usize(..names.len())].clone())
    }

    async fn seek(&mut self) {
        let Some(name) = self.some_subscription() else { return };
        let snapshot = self.some_snapshot().filter(|_| self.rng.bool());
        let (start, from) = self.start();
        let to = match &snapshot {
            Some(snapshot) => SeekTo::Snapshot(snapshot.clone()),
            None => SeekTo::Start(start),
        };
        self.say(|| format!("{name} seeks {to:?}"));
        let since = self.model.lock().places.len();
        let sought = self.within("to seek", self.node.broker.seek(&name, &to)).await;
        let mut model = self.model.lock();
        model.seen.seeks += 1;
        if sought.is_none() {
            return;
        }
        match snapshot.and_then(|name| model.snapshots.remove_entry(&name)) {
            Some((key, snap)) => {
                model.begin(&name, &From::Snapshot(&snap), since);
                model.snapshots.insert(key, snap);
            }
            None => model.begin(&name, &from, since),
        }
        drop(model);
        self.forget_hands(&name);
    }

    /// What the members of a subscription had is void.
    fn forget_hands(&mut self, name: &str) {
        for hand in self.hands.iter_mut().filter(|hand| hand.plan.name() == name) {
            for (token, _, size) in hand.has.drain(..) {
                hand.share.remove(size);
                hand.over.push(token);
            }
        }
    }

    async fn snapshot(&mut self) {
        let Some(subscription) = self.some_subscription() else { return };
        let name = format!("snapshot-{}", self.rng.u8(..3));
        self.say(|| format!("snapshot {name} of {subscription}"));
        let snap = self.model.lock().snapshot(&subscription);
        let made = self.node.broker.snapshot(&name, &subscription);
        let made = self.within("to make a snapshot", made).await;
        let mut model = self.model.lock();
        model.seen.snapshots += 1;
        if let (Some(()), Some(snap)) = (made, snap) {
            model.snapshots.insert(name, snap);
        }
    }

    async fn remove_snapshot(&mut self) {
        let Some(name) = self.some_snapshot() else { return };
        self.say(|| format!("snapshot {name} is removed"));
        let removed = self.node.broker.remove_snapshot(&name);
        if self.within("to remove a snapshot", removed).await.is_some() {
            self.model.lock().snapshots.remove(&name);
        }
    }

    async fn trim(&mut self) {
        self.say(|| "trim".into());
        self.look_at_all().await;
        let began = (self.clock)();
        let trimmed = async { Ok(self.node.broker.trim().await?) };
        if self.within("to trim", trimmed).await.is_none() {
            return;
        }
        self.model.lock().seen.trims += 1;
        self.check_stored(Some(began)).await;
    }

    async fn purge(&mut self) {
        if self.is_failing {
            return;
        }
        let filter = scenario::filter(&mut self.rng);
        self.say(|| format!("purge of {filter:?}"));
        // Nothing may be under way: it would be here or there.
        self.model.lock().seen.purges += 1;
        let since = self.model.lock().places.len();
        let purged = async { Ok(self.node.broker.purge(&filter).await?) };
        self.within("to purge", purged).await;
        self.model.lock().purged(&filter, since);
    }

    async fn remove(&mut self) {
        let Some(name) = self.some_subscription().filter(|_| !self.is_failing) else { return };
        let has_members = self.model.lock().members_of(&name) > 0;
        self.say(|| format!("{name} is to be removed"));
        let removed = tokio::time::timeout(LONG, self.node.broker.remove_subscription(&name)).await;
        match removed {
            Ok(Ok(())) if has_members => self.report(format!("{name} was removed, and is used")),
            Ok(Ok(())) => {
                let mut model = self.model.lock();
                model.subs.remove(&name);
                model.seen.removals += 1;
            }
            Ok(Err(error)) if has_members && !error.is_temporary() => {}
            other => self.report(format!("{name} is not removed: {other:?}")),
        }
    }

    /// Reads everything that is stored, past the broker.
    async fn stored(&self) -> Option<BTreeMap<u64, Publish>> {
        let all = TopicFilter::new("#").unwrap();
        let peeked = self.node.broker.peek(&all, Start::Earliest, usize::MAX);
        let stored = self.within("to peek", peeked).await?;
        let mut found = BTreeMap::new();
        let mut last = 0;
        for stored in stored {
            if stored.number <= last {
                self.report(format!("number {} comes after {last}", stored.number));
            }
            last = stored.number;
            found.insert(stored.number, publish_of(&stored.event)?);
        }
        Some(found)
    }

    /// Waits until all queues have looked at what is stored.
    async fn look_at_all(&self) {
        if self.is_failing {
            return;
        }
        let places = || -> Vec<_> {
            let all = self.node.broker.subscriptions();
            all.into_iter().map(|info| (info.name, info.next)).collect()
        };
        if self.scenario.kind != Kind::Memory {
            let mut before = places();
            loop {
                tokio::time::sleep(STILL).await;
                let now = places();
                if std::mem::replace(&mut before, now) == before {
                    break;
                }
            }
        }
        self.node.traffic.rest().await;
        self.wait_for_threads();
        self.model.lock().looked();
    }

    /// Waits until what was published is delivered, where threads do that.
    fn wait_for_threads(&self) {
        // A thread may be about to deliver.
        let deadline = std::time::Instant::now() + disk::TELL_MAX;
        let is_at_rest = || self.node.probe.durable_number() == self.node.probe.last_number();
        while self.scenario.kind == Kind::Disk
            && !is_at_rest()
            && std::time::Instant::now() < deadline
        {
            std::thread::yield_now();
        }
    }

    /// `trimmed`: everything was trimmed, after this time.
    async fn check_stored(&mut self, trimmed: Option<SystemTime>) {
        // While some are under way, it is of no use.
        self.node.traffic.rest().await;
        let before =
            self.model.lock().facts.iter().filter(|fact| fact.fate == Fate::Handed).count();
        self.model.lock().sweep((self.clock)());
        let Some(topics) = self.topics().await else { return };
        let kept = self.model.lock().kept();
        if let Some(found) = self.stored().await
            && !self.is_failing
        {
            let now = (self.clock)();
            self.model.lock().check_stored(&found, &kept, now, trimmed.filter(|_| before == 0));
            self.check_topics(&found, &topics).await;
        }
    }

    async fn topics(&self) -> Option<Vec<TopicStats>> {
        let topics = async { Ok(self.node.broker.topics().await?) };
        self.within("to list the topics", topics).await
    }

    /// What is said of the topics is what is `found`, unless it has changed since
    /// `before`.
    async fn check_topics(&self, found: &BTreeMap<u64, Publish>, before: &[TopicStats]) {
        let Some(topics) = self.topics().await.filter(|topics| topics == before) else { return };
        let model = self.model.lock();
        let mut expected: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for publish in found.values() {
            let fact = &model.facts[*publish];
            let (events, bytes) = expected.entry(fact.topic.as_str()).or_default();
            *events += 1;
            *bytes += fact.event.size() as u64;
        }
        let mut topics: Vec<_> = topics
            .iter()
            .map(|stats| (stats.topic.as_str(), (stats.events, stats.bytes)))
            .collect();
        topics.sort_unstable();
        let right = expected.into_iter().eq(topics.iter().copied());
        drop(model);
        if !right {
            self.report(format!("the topics are said to have {topics:?}"));
        }
    }

    // What befalls the broker.

    async fn fault(&mut self) {
        if self.scenario.kind == Kind::Memory {
            return;
        }
        let plain = self.node.plain.clone();
        match self.rng.u8(..4) {
            0 => self.restart(false).await,
            1 | 2 => self.restart(true).await,
            _ => {
                let Some(plain) = plain else { return };
                self.is_failing = !self.is_failing;
                self.model.lock().seen.failures += 1;
                self.say(|| format!("the storage fails: {}", self.is_failing));
                plain.fail(self.is_failing);
            }
        }
    }

    /// Ends the broker, and opens another on what it has left.
    async fn restart(&mut self, crashes: bool) {
        let (plain, disk) = (self.node.plain.clone(), self.node.disk.clone());
        self.say(|| format!("restart, crash: {crashes}"));
        if crashes {
            self.node.traffic.cut();
            self.model.lock().seen.crashes += 1;
        } else {
            self.is_failing = false;
            if let Some(plain) = &plain {
                plain.fail(false);
            }
            self.model.lock().seen.closes += 1;
            if tokio::time::timeout(LONG, self.node.broker.close(LONG)).await.is_err() {
                self.report("closing does not end".into());
            }
            self.node.traffic.rest().await;
            self.node.traffic.cut();
        }
        let kept = plain.map(|plain| plain.kept()).unwrap_or_default();
        for (_, task) in self.publishers.drain(..) {
            task.abort();
        }
        tokio::task::yield_now().await;
        self.model.lock().ended(crashes);
        self.hands.clear();
        self.is_failing = false;
        if disk.is_some()
            && let Some(storage) = self.node.probe.end()
        {
            disk::ended(storage).await;
        }
        let node = Node::open(
            &self.scenario,
            (kept, disk),
            &mut self.rng,
            self.plant,
            &self.model,
            self.clock.clone(),
        );
        self.node = node;
        let rules = self.model.lock().retention.clone();
        self.node.broker.set_retention(rules);
        let before = self.model.lock().kept();
        if let Some(found) = self.stored().await {
            let mut model = self.model.lock();
            model.found_again(&found);
            model.check_stored(&found, &before, (self.clock)(), None);
        }
        self.check_subscriptions();
    }

    /// What the broker says of its subscriptions.
    fn check_subscriptions(&self) {
        let infos = self.node.broker.subscriptions();
        let model = self.model.lock();
        let found: Vec<_> = infos.iter().map(|info| info.name.as_str()).collect();
        let expected: Vec<_> = model.subs.keys().map(String::as_str).collect();
        let differs = found != expected;
        let mut wrong =
            differs.then(|| format!("the subscriptions are {found:?}, and should be {expected:?}"));
        for (info, (name, sub)) in infos.iter().zip(&model.subs).filter(|_| !differs) {
            let members = model.members.values().filter(|m| m.sub == *name && !m.has_stopped);
            let right = info.filter == sub.plan.filter
                && info.group == sub.plan.group
                && info.qos >= sub.qos
                && info.subscribers == members.count()
                && info.event_filter.as_ref().map(EventFilter::as_str)
                    == sub.plan.wants.map(|wants| wants.text);
            if !right {
                wrong = Some(format!("{name} is said to be {info:?}"));
            }
        }
        let snapshots: Vec<_> =
            self.node.broker.snapshots().into_iter().map(|record| record.name).collect();
        let expected: Vec<_> = model.snapshots.keys().cloned().collect();
        if snapshots != expected {
            wrong = Some(format!("the snapshots are {snapshots:?}, and should be {expected:?}"));
        }
        drop(model);
        if let Some(wrong) = wrong {
            self.report(wrong);
        }
    }

    /// Nobody may wait while there is something for him.
    async fn check_idle(&mut self) {
        if self.is_failing {
            return;
        }
        // What failed before is tried again, and pages come one after the other.
        if self.scenario.kind != Kind::Memory {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.node.traffic.rest().await;
        for hand in &self.hands {
            self.check_idle_hand(hand).await;
        }
        self.model.lock().check_publishers();
        self.check_subscriptions();
    }

    async fn check_idle_hand(&self, hand: &Hand) {
        let wrong = || {
            let is_idle = hand.is_idle && !hand.told.load(Ordering::SeqCst);
            if is_idle { self.model.lock().waits_in_vain(hand.id) } else { None }
        };
        // A thread may be about to tell.
        let deadline = std::time::Instant::now() + disk::TELL_MAX;
        while self.scenario.kind == Kind::Disk
            && wrong().is_some()
            && std::time::Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        if let Some(wrong) = wrong() {
            self.report(wrong);
        }
    }

    // The end.

    /// Nothing fails any more, and everything comes to its end.
    async fn end(&mut self) {
        self.say(|| "the end begins".into());
        self.is_failing = false;
        if let Some(plain) = &self.node.plain {
            plain.fail(false);
        }
        let plans: Vec<_> = self.plans.clone();
        for plan in &plans {
            let is_there = self.model.lock().subs.contains_key(&plan.name());
            let has_hand = self.hands.iter().any(|hand| hand.plan.label == plan.label);
            if is_there && !has_hand {
                self.open(plan).await;
            }
        }
        if self.scenario.manner.events_max < usize::MAX {
            // What is remembered leaves no room for the rest.
            self.forget_remembered().await;
        }
        self.drain().await;
        self.check_drained();
        self.check_dropped();
        self.forget_remembered().await;
        // Positions are kept a moment later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.trim().await;
        self.check_idle().await;
        if self.check().is_ok() {
            self.check_room().await;
        }
    }

    async fn forget_remembered(&mut self) {
        if self.scenario.manner.events_max < usize::MAX {
            self.model.lock().retention.clear();
            self.node.broker.set_retention(Vec::new());
        }
        let names: Vec<_> = self.model.lock().snapshots.keys().cloned().collect();
        for name in names {
            self.within("to remove", self.node.broker.remove_snapshot(&name)).await;
            self.model.lock().snapshots.remove(&name);
        }
    }

    /// Everybody takes and acknowledges until there is nothing.
    async fn drain(&mut self) {
        let deadline = Instant::now() + LONG;
        while self.check().is_ok() {
            tokio::time::sleep(Duration::from_millis(700)).await;
            self.wait_for_threads();
            self.settle_down().await;
            let mut moved = false;
            for index in 0..self.hands.len() {
                let id = self.hands[index].id;
                moved |= self.take_with(id, 10) > 0;
                for (token, publish, size) in std::mem::take(&mut self.hands[index].has) {
                    moved = true;
                    self.say(|| format!("member {id} acknowledges {publish} at the end"));
                    self.model.lock().acknowledged(id, token);
                    self.hands[index].source.settle(token, Settlement::Ack);
                    self.hands[index].share.remove(size);
                }
            }
            let is_held_back = self.model.lock().subs.values().any(|sub| sub.is_held_back());
            if !moved && self.publishers.is_empty() && !is_held_back {
                return;
            }
            if Instant::now() > deadline {
                let waiting: Vec<_> = self.publishers.iter().map(|(publish, _)| *publish).collect();
                return self.report(format!("it does not come to an end; {waiting:?} wait"));
            }
        }
    }

    fn check_drained(&self) {
        let mut model = self.model.lock();
        let mut missing = Vec::new();
        for (name, sub) in &model.subs {
            for entry in sub.entries.values().filter(|entry| entry.waits() && !entry.is_optional) {
                missing.push(format!("event {} never came to {name}", entry.publish));
            }
        }
        for what in missing {
            model.report(what);
        }
        drop(model);
        for info in self.node.broker.subscriptions() {
            if info.queued != 0 || info.unsettled != 0 {
                self.report(format!("nothing is left, and {info:?}"));
            }
        }
    }

    fn check_dropped(&self) {
        // Who has left has taken his count along.
        for hand in &self.hands {
            let model = self.model.lock();
            let expected = model.subs.get(&hand.plan.name()).map_or(0, |sub| sub.dropped);
            drop(model);
            if self.scenario.kind == Kind::Memory && hand.source.dropped() > expected {
                self.report(format!(
                    "{} dropped {}, {expected} at most",
                    hand.plan.name(),
                    hand.source.dropped()
                ));
            }
        }
    }

    /// All room was given back: as much can be published as at the beginning.
    async fn check_room(&mut self) {
        if self.scenario.kind != Kind::Memory || self.hands.is_empty() {
            return;
        }
        let waiting = |world: &Self| world.publishers.len();
        for _ in 0..self.scenario.bounds.queue_events_max * 3 {
            self.publish();
        }
        self.settle_down().await;
        self.model.lock().check_publishers();
        let _ = waiting;
        self.drain().await;
        self.check_drained();
    }
}

impl Node {
    fn open(
        scenario: &Scenario,
        (kept, disk): (Kept, Option<Arc<Disk>>),
        rng: &mut Rng,
        plant: Option<Plant>,
        model: &Shared,
        clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    ) -> Self {
        let plain = (scenario.kind == Kind::Plain)
            .then(|| Arc::new(Plain::open(kept, scenario.manner.clone(), rng.fork())));
        let storage: Arc<dyn Storage> = match (&plain, &disk) {
            (Some(plain), _) => plain.clone(),
            (None, Some(disk)) => disk.open(),
            (None, None) => Arc::new(MemoryStorage::new(MEMORY_BYTES_MAX)),
        };
        let traffic = Arc::new(Traffic::new(disk.is_some()));
        let bounds = scenario.bounds;
        let settings = Settings {
            queue_events_max: bounds.queue_events_max,
            queue_bytes_max: bounds.queue_bytes_max,
            dead_letter_events_reserved: bounds.dead_letter_events_reserved,
            dead_letter_bytes_reserved: bounds.dead_letter_bytes_reserved,
            qos0_events_max: bounds.qos0_events_max,
            publish_once_window: bounds.once_window,
            clock: Clock(clock.clone()),
            ..Settings::default()
        };
        let probe = Arc::new(Probe {
            holds_backlog: storage.holds_backlog(),
            inner: Mutex::new(Some(storage)),
            model: model.clone(),
            traffic: traffic.clone(),
            plant,
            count: 1.into(),
            clock,
        });
        let broker = BuiltIn::open(probe.clone(), settings).unwrap();
        Self { broker, plain, disk, probe, traffic }
    }
}
