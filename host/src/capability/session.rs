//! What one instance has in hand: the state behind the functions of both
//! versions of the interface.

use super::bindings::{Error, Event as WitEvent};
use super::closing::Taker;
use super::convert;
use super::links::{Links, Route};
use super::observe::{Observation, Observers};
use crate::broker::{BrokerError, Lease, Qos, Subscription, Verdict};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::component::GuestTaskId;

/// The most events that one `pull` or `read` returns, whatever `max` says.
const BATCH_EVENTS_MAX: u32 = 1_024;

/// How an instance is used, which decides what settles what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A command: the next call, or a clean end, acknowledges.
    Command,
    /// A handler with one event at a time: its verdict settles all that it received.
    Handler,
    /// A handler with many events at a time, whose verdicts cannot be told
    /// apart for what the instance received: `receive` and `stream` at qos 0 only.
    ConcurrentHandler,
}

/// Events that were handed to the guest by one stream and are not settled.
pub(super) type Handed = Arc<Mutex<Vec<Lease>>>;

/// The state of one instance. All functions of both versions end here.
pub struct Session {
    links: Arc<dyn Links>,
    role: Role,
    slots: Mutex<HashMap<String, Slot>>,
    streams: Mutex<Vec<Weak<Mutex<Vec<Lease>>>>>,
    any_abandoned: AtomicBool,
    abandoned: Mutex<HashSet<GuestTaskId>>,
    observers: Observers,
    observed: Mutex<Observed>,
}

/// The handlings under way that observers follow.
#[derive(Default)]
struct Observed {
    /// Where one event is handled at a time.
    only: Option<Arc<Observation>>,
    /// Where many are, by the task of each call.
    calls: HashMap<GuestTaskId, Arc<Observation>>,
}

/// What `receive` keeps for one subscription.
#[derive(Default)]
struct Slot {
    busy: bool,
    held: Vec<Lease>,
}

impl Session {
    /// The state of a new instance.
    #[must_use]
    pub fn new(links: Arc<dyn Links>, role: Role, observers: Observers) -> Arc<Self> {
        Arc::new(Self {
            links,
            role,
            slots: Mutex::default(),
            streams: Mutex::default(),
            any_abandoned: AtomicBool::new(false),
            abandoned: Mutex::default(),
            observers,
            observed: Mutex::default(),
        })
    }

    /// Publishes an event where the component's grants send it. `task` is the
    /// call that publishes, where many are under way and observers want to know.
    pub(super) async fn publish(
        &self,
        topic: &str,
        event: WitEvent,
        task: Option<GuestTaskId>,
    ) -> Result<(), Error> {
        let Route { broker, topic, qos, timeout } = self.links.route(topic)?;
        let component = self.links.component();
        let mut event = convert::from_wit(event);
        if self.observers.is_empty() {
            return Ok(broker.publish(component, &topic, event, qos, timeout).await?);
        }
        broker.complete(component, &mut event);
        let observation = self.observation(task);
        let publishing =
            self.observers.publishing(observation.as_deref(), component, &topic, &mut event);
        let result = broker.publish(component, &topic, event, qos, timeout).await;
        publishing.end(result.as_ref().copied());
        Ok(result?)
    }

    /// The handler is about to be called with an event. `task` is the call, where
    /// many are under way.
    pub fn observe(&self, observation: &Arc<Observation>, task: Option<GuestTaskId>) {
        let mut observed = self.observed.lock();
        match task {
            Some(task) => {
                observed.calls.insert(task, Arc::clone(observation));
            }
            None => observed.only = Some(Arc::clone(observation)),
        }
    }

    /// The call is over.
    pub fn observed(&self, task: Option<GuestTaskId>) {
        let mut observed = self.observed.lock();
        match task {
            Some(task) => drop(observed.calls.remove(&task)),
            None => observed.only = None,
        }
    }

    /// Whether observers follow any of many calls; to be asked before the task
    /// of a call is looked for.
    pub(super) fn tells_calls_apart(&self) -> bool {
        self.role == Role::ConcurrentHandler && !self.observers.is_empty()
    }

    fn observation(&self, task: Option<GuestTaskId>) -> Option<Arc<Observation>> {
        let observed = self.observed.lock();
        match task {
            Some(task) => observed.calls.get(&task).cloned(),
            None => observed.only.clone(),
        }
    }

    /// Acknowledges what the last call on this subscription returned, unless the
    /// handler's verdict is to do that, and waits for the next event, or for the
    /// end of the subscription or of this version of the component.
    pub(super) async fn receive(&self, name: &str) -> Result<WitEvent, Error> {
        let subscription = self.open(name)?;
        let busy = Busy::enter(self, name)?;
        if self.next_call_acknowledges() {
            for held in busy.take_held() {
                acknowledge(held).await?;
            }
        }
        let lease = self.taker(subscription).next().await?;
        let event = convert::to_wit(&lease);
        busy.hold(lease);
        Ok(event)
    }

    /// The subscription that a stream reads from, and the list of what it hands out.
    pub(super) fn open_stream(&self, name: &str) -> Result<(Taker, Handed), Error> {
        let subscription = self.open(name)?;
        let handed = Handed::default();
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&handed));
        Ok((self.taker(subscription), handed))
    }

    /// Takes up to `max` events, waiting up to `wait_ms` milliseconds for the first.
    pub(super) async fn pull(
        &self,
        name: &str,
        max: u32,
        wait_ms: u64,
    ) -> Result<Vec<Lease>, Error> {
        let taker = self.taker(self.find(name)?);
        let mut leases = Vec::new();
        let max = max.min(BATCH_EVENTS_MAX) as usize;
        if max == 0 {
            return Ok(leases);
        }
        match tokio::time::timeout(Duration::from_millis(wait_ms), taker.next()).await {
            Ok(lease) => leases.push(lease?),
            Err(_) => return Ok(leases),
        }
        // What is in hand is handed over, also when the subscription ends now:
        // the next call says so.
        while leases.len() < max
            && let Ok(Some(lease)) = taker.try_next()
        {
            leases.push(lease);
        }
        Ok(leases)
    }

    /// Settles everything that `receive` and streams handed out: acknowledged
    /// after a success, otherwise to be delivered again for the reason given.
    pub fn settle(&self, outcome: Result<(), &str>) {
        let mut leases: Vec<Lease> = Vec::new();
        for slot in self.slots.lock().values_mut() {
            leases.append(&mut slot.held);
        }
        for stream in self.streams.lock().iter().filter_map(Weak::upgrade) {
            leases.append(&mut stream.lock());
        }
        for lease in leases {
            lease.settle(match outcome {
                Ok(()) => Verdict::Ack,
                Err(reason) => Verdict::Retry { after: None, reason: reason.to_owned() },
            });
        }
    }

    /// From now on the call refuses what this task asks for: its deadline is over.
    pub fn abandon(&self, task: GuestTaskId) {
        self.abandoned.lock().insert(task);
        self.any_abandoned.store(true, Ordering::Release);
    }

    /// Whether any call was abandoned; cheap, to be asked first.
    pub(super) fn has_abandoned(&self) -> bool {
        self.any_abandoned.load(Ordering::Acquire)
    }

    /// Whether a call was abandoned.
    pub(super) fn is_abandoned(&self, task: GuestTaskId) -> bool {
        self.abandoned.lock().contains(&task)
    }

    /// Whether a call acknowledges what the calls before it returned. In a
    /// handler its verdict does.
    pub(super) fn next_call_acknowledges(&self) -> bool {
        self.role == Role::Command
    }

    fn taker(&self, subscription: Arc<Subscription>) -> Taker {
        Taker::new(Arc::clone(&self.links), subscription)
    }

    fn find(&self, name: &str) -> Result<Arc<Subscription>, Error> {
        self.links.subscription(name).ok_or_else(|| Error::NoSuchSubscription(name.to_owned()))
    }

    /// A subscription for `receive` or `stream`, where the role allows it.
    fn open(&self, name: &str) -> Result<Arc<Subscription>, Error> {
        let subscription = self.find(name)?;
        if self.role == Role::ConcurrentHandler && subscription.settings().qos > Qos::AtMostOnce {
            return Err(Error::Unsupported(format!(
                "`receive` and `stream` in an asynchronous handler need qos 0, and `{name}` has qos {}: \
                 use `pull`, which acknowledges each event by itself",
                subscription.settings().qos
            )));
        }
        Ok(subscription)
    }
}

/// Acknowledges an event that an earlier call returned. Only at qos 2 does it
/// matter to the guest that this came too late: the event will come again.
pub(super) async fn acknowledge(lease: Lease) -> Result<(), Error> {
    let confirmed = lease.qos() == Qos::EffectivelyOnce;
    match lease.confirm(Verdict::Ack).await {
        Err(BrokerError::LeaseExpired) if !confirmed => Ok(()),
        result => Ok(result?),
    }
}

/// Marks a subscription as being received from, until it is dropped.
struct Busy<'a> {
    session: &'a Session,
    name: &'a str,
}

impl<'a> Busy<'a> {
    fn enter(session: &'a Session, name: &'a str) -> Result<Self, Error> {
        let mut slots = session.slots.lock();
        let slot = slots.entry(name.to_owned()).or_default();
        if slot.busy {
            return Err(Error::Unsupported(format!(
                "another `receive` on `{name}` is under way in this instance: \
                 use `pull` or `on-message` to handle several events at once"
            )));
        }
        slot.busy = true;
        Ok(Self { session, name })
    }

    fn take_held(&self) -> Vec<Lease> {
        let mut slots = self.session.slots.lock();
        slots.get_mut(self.name).map(|slot| std::mem::take(&mut slot.held)).unwrap_or_default()
    }

    fn hold(&self, lease: Lease) {
        if let Some(slot) = self.session.slots.lock().get_mut(self.name) {
            slot.held.push(lease);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.session.slots.lock().get_mut(self.name) {
            slot.busy = false;
        }
    }
}
