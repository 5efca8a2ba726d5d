//! What a backend implements.
//!
//! Drivers are thin. Retry, back-off, dead letters, deduplication, limits and
//! topic checks live once, above these traits, in [`Broker`](super::Broker) and
//! [`Subscription`](super::Subscription). A driver returns its errors as they
//! are, with their kind; the core wraps and retries.

use super::{
    BacklogBound, BrokerError, Event, EventFilter, Order, Qos, RetentionRule, Share, Start,
    StoreBounds, Topic, TopicFilter,
};
use async_trait::async_trait;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a kind of broker can do by itself. What it lacks the core supplies
/// where it can, and configuration refuses where it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Subscribers can share a queue.
    pub queue: bool,
    /// The events of a queue keep their order when there is one subscriber in
    /// the whole group, and the broker can say so: see
    /// [`SubscribeRequest::order`].
    pub ordered_queue: bool,
    /// The events of a queue keep their order whoever takes them: what has one
    /// key goes to one subscriber at a time.
    pub pins_keys: bool,
    /// [`SubscribeRequest::event_filter`] is applied before events are delivered.
    pub filters: bool,
    /// The highest quality of service.
    pub qos_max: Qos,
    /// [`Settlement::Return`] is understood: the broker holds an event back
    /// and delivers it again, counting attempts.
    pub delayed_redelivery: bool,
    /// Topics remember: [`SubscribeRequest::start`] and
    /// [`Connection::set_retention`] are understood.
    pub replay: bool,
    /// [`SubscribeRequest::group_max_in_flight`] is understood.
    pub group_limits: bool,
    /// The broker can be reached by other processes.
    pub network: bool,
    /// The broker lives in this process, which can put it on the network.
    pub listener: bool,
}

/// One broker, reached with one set of connection settings.
///
/// Dropping it ends everything at once; [`close`](Self::close) ends it well.
#[async_trait]
pub trait Connection: Send + Sync + 'static {
    /// What this broker can do.
    fn features(&self) -> Features;

    /// Publishes an event. Returns once the broker has taken responsibility:
    /// at qos 1 and 2 after its acknowledgement. Called concurrently. May wait
    /// without limit while the broker cannot be reached; the core sets the
    /// limit, and drops the call at it. A call that was dropped may still have
    /// its effect.
    ///
    /// `from` is the publisher's name, for [`SubscribeRequest::not_from`];
    /// brokers outside the process ignore it.
    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError>;

    /// Publishes an event in two steps, and changes [`records`](Self::records) with it: a
    /// crash leaves both or neither. Returns once its place among others is settled: what
    /// is submitted after that comes after it. The rest of it, if there is any, ends
    /// when and as [`publish`](Self::publish) would. So a publisher can have several
    /// under way and keeps their order.
    async fn submit(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
        changes: Vec<RecordChange>,
    ) -> Result<Submitted, BrokerError> {
        self.publish(topic, event, qos, from).await?;
        match self.records() {
            Some(records) if !changes.is_empty() => records.put(changes).await?,
            _ => {}
        }
        Ok(Submitted::Done)
    }

    /// Publishes a dead letter. As [`publish`](Self::publish), except that a
    /// broker inside the process has room reserved for these, so that an event
    /// that nobody can handle makes way while its topics are full.
    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.publish(topic, event, qos, from).await
    }

    /// Opens a subscription and returns once the broker has confirmed it. An
    /// unreachable broker is no error: the call goes on trying, and is dropped
    /// by who does not want to wait. An error is final: the broker refused.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError>;

    /// Whether somebody subscribes to a topic at the moment; `None` where the broker
    /// does not know, or it would take long to find out.
    fn has_subscribers(&self, _topic: &Topic) -> Option<bool> {
        None
    }

    /// The highest number that an event has got so far, where the broker numbers them:
    /// what is published from now on has a higher one.
    fn last_number(&self) -> Option<u64> {
        None
    }

    /// Forgets the subscriptions that the broker has kept and nobody takes from, of those
    /// that no group shares, where `is_over` says so of their label and topics. Returns how
    /// many there were.
    ///
    /// # Errors
    /// One cannot be removed.
    async fn forget_subscriptions(
        &self,
        _is_over: &(dyn for<'a> Fn(&'a str, &'a TopicFilter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        Ok(0)
    }

    /// What those who serve the broker's clients can keep with it; `None` where it
    /// keeps nothing beyond the process.
    fn records(&self) -> Option<Arc<dyn Records>> {
        None
    }

    /// Says what topics are to remember, instead of what was said before. Only for
    /// brokers with [`Features::replay`].
    fn set_retention(&self, _rules: Vec<RetentionRule>) {}

    /// Changes the bounds of what is kept. Only for brokers that keep it inside the
    /// process.
    fn set_store_bounds(&self, _bounds: StoreBounds) {}

    /// Ends the connection after what was settled and published has been sent,
    /// within `grace`. Sessions that the broker keeps stay.
    async fn close(&self, grace: Duration);
}

/// Small records that a broker keeps for those who serve its clients: what they mean
/// it does not know.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// A page of the records of a kind, each with its key, in the order of the keys:
    /// those after a key, with an empty one from the first on. An empty page is the
    /// end.
    ///
    /// # Errors
    /// They cannot be read.
    async fn load(&self, kind: u8, after: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, BrokerError>;

    /// Changes records, all or none. What was asked for takes effect in the order of
    /// the calls, and is durable when they return.
    ///
    /// # Errors
    /// They cannot be written. None was changed.
    async fn put(&self, changes: Vec<RecordChange>) -> Result<(), BrokerError>;
}

/// A change of one of the [`Records`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// What kind of record it is: each kind has its own keys.
    pub kind: u8,
    /// Not empty.
    pub key: Vec<u8>,
    /// What it is from now on; `None`: it is removed. One that is not there is no
    /// error.
    pub value: Option<Vec<u8>>,
}

/// How far a [submitted](Connection::submit) event is.
pub enum Submitted {
    /// The broker has taken responsibility, as far as the quality of service asks.
    Done,
    /// It will have when this ends.
    UnderWay(Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send>>),
}

impl Submitted {
    /// Waits until the broker has taken responsibility.
    ///
    /// # Errors
    /// It has not: those of [`Connection::publish`].
    pub async fn stored(self) -> Result<(), BrokerError> {
        match self {
            Self::Done => Ok(()),
            Self::UnderWay(stored) => stored.await,
        }
    }
}

/// What a subscription asks of the broker.
#[derive(Clone)]
pub struct SubscribeRequest {
    /// What tells this subscription from others of the same process at this
    /// broker, and is the same after a restart: the component's or the group's name
    /// and the filter, or a name that was given to it. For sessions and logs.
    pub label: String,
    /// The topics.
    pub filter: TopicFilter,
    /// The group that shares the queue; `None` for a topic subscription, of
    /// which every subscriber gets every event.
    pub group: Option<String>,
    /// The quality of service to ask for.
    pub qos: Qos,
    /// Whether the order of events matters. Where it does, what is given back goes
    /// before all that was published after it, at once and whatever its settlement
    /// says of a delay. With [`Features::pins_keys`] there is one delivery for
    /// each key at a time, over all subscribers of the queue.
    pub order: Order,
    /// Which events are wanted. Only brokers with [`Features::filters`] look at it.
    pub event_filter: Option<EventFilter>,
    /// Where it begins if the broker does not know it yet. Only brokers with
    /// [`Features::replay`] look at it.
    pub start: Start,
    /// Whether it ends with its [`Source`], whatever the broker would keep otherwise.
    /// Only brokers with [`Features::replay`] look at it.
    pub is_temporary: bool,
    /// The most events that may be buffered in the driver or unsettled, together.
    pub max_in_flight: usize,
    /// The largest number of bytes, likewise. One event above it may be taken
    /// when nothing else is there.
    pub max_in_flight_bytes: usize,
    /// The most events that all subscribers of the queue may have unsettled,
    /// together; `None`: no limit. Where they say different things, the smallest
    /// counts. Only brokers with [`Features::group_limits`] look at it.
    pub group_max_in_flight: Option<usize>,
    /// The subscription's part of what the whole process may hold. A driver takes
    /// nothing from the broker that [`Share::try_add`] finds no room for, goes on
    /// serving its connection, and is told by [`Share::on_room`]. What
    /// [`Source::take`] has returned the core gives back when it is over; what is
    /// dropped before that, the driver.
    pub share: Arc<Share>,
    /// What may wait for who subscribes; beyond it the oldest events are discarded.
    /// `None`: publishers wait. A queue has a bound as long as nobody without one has
    /// shared it. Only brokers inside the process know it; others ignore it.
    pub backlog_bound: Option<Arc<BacklogBound>>,
    /// Events that this name published through the same connection are not
    /// wanted. Only brokers inside the process know it; others ignore it.
    pub not_from: Option<String>,
    /// To be called whenever [`Source::take`] may have something, or has ended.
    pub ready: Ready,
}

/// Called by a driver when a [`Source`] has something to take. Cheap, never
/// blocks, may be called from any thread and more often than needed.
///
/// It wakes the takers, and a waker is foreign code: a driver holds no lock of
/// its own meanwhile, and does not call it from within [`Source::take`].
#[derive(Clone)]
pub struct Ready(pub Arc<dyn Fn() + Send + Sync>);

impl Ready {
    /// Tells the core that there may be something to take.
    pub fn notify(&self) {
        (self.0)();
    }
}

/// Names one delivery within its source, until it is settled. A broker that
/// repeats a delivery that is not settled yet does not get it a second token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// One event as the broker delivered it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// For settling it.
    pub token: Token,
    /// The event, complete: `id`, `source` and `kind` are filled in.
    pub event: Arc<Event>,
    /// The topic that it was published to.
    pub topic: Topic,
    /// The quality of service of this delivery. At 0 it is settled already.
    pub qos: Qos,
    /// Which delivery this is, where the broker counts; from 1.
    pub attempt: Option<u32>,
    /// The number of the event in the broker, which stays what it is over restarts,
    /// where the broker numbers its events.
    pub number: Option<u64>,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with.
    Ack,
    /// It is to be delivered again, to any subscriber, not before the delay.
    /// `charged` says whether it counts as an attempt. Only for brokers with
    /// [`Features::delayed_redelivery`].
    Return {
        /// How long to hold it back.
        delay: Duration,
        /// Whether the next delivery's attempt is one higher.
        charged: bool,
    },
}

/// What becomes of a subscription that ends while its process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The same label subscribes to the same topics again, at once: what the
    /// broker has for it by then is for its successor.
    Replaced,
    /// Nobody wants its events any more: the broker is to forget it, and what it
    /// has kept for it.
    Removed,
}

/// The receiving side of one open subscription.
///
/// Nothing here runs a guest, and nothing waits for one: the connection goes on
/// being served while deliveries are unsettled.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Moves up to `max` events that have arrived to `into`, in their order,
    /// without waiting. Nothing to take is no error; nor is an outage. Calls
    /// of one source come one after the other, while the core holds its lock:
    /// nothing in here calls back.
    ///
    /// # Errors
    /// The subscription has ended for good.
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError>;

    /// Settles a delivery. Never blocks; a second time it has no effect. While
    /// the broker cannot be reached, an acknowledgement is kept until it is back,
    /// or dropped where the broker will deliver the event again in any case.
    fn settle(&self, token: Token, settlement: Settlement);

    /// Waits until the broker knows of an acknowledgement: at qos 1 until it is
    /// written to the connection, at qos 2 until the broker has confirmed it.
    ///
    /// # Errors
    /// `LeaseExpired` where it came too late: the event will be delivered again.
    async fn confirmed(&self, token: Token) -> Result<(), BrokerError>;

    /// How many events were dropped at qos 0 because the buffer was full.
    fn dropped(&self) -> u64;

    /// How many events are there for this subscription and not taken: buffered in
    /// the driver, or stored, where the broker is in this process. 0 where nothing
    /// is.
    fn queued(&self) -> usize {
        0
    }

    /// Whether the event of this number is still to be delivered here, or was and is
    /// not settled, where the broker numbers its events.
    fn awaits(&self, _number: u64) -> bool {
        false
    }

    /// Whether the broker is reached at the moment. A broker in this process
    /// always is.
    fn is_connected(&self) -> bool {
        true
    }

    /// Stops taking events from the broker. What is unsettled can still be
    /// settled until the connection is closed. What was buffered goes back to
    /// the broker, and `take` finds nothing any more.
    ///
    /// Without a [`part`](Self::part) before it the process is about to end, and
    /// what the broker keeps longer than that is kept.
    fn stop(&self);

    /// Says, before [`stop`](Self::stop), that the process goes on without this
    /// source, and what is to become of what the broker keeps for it. Never
    /// blocks. A backend whose brokers keep nothing beyond [`stop`](Self::stop)
    /// but what others share needs none.
    fn part(&self, _parting: Parting) {}

    /// Ends this source, after [`part`](Self::part) and [`stop`](Self::stop),
    /// and waits until what was settled is sent and the broker has taken note.
    /// What is unsettled by then goes back. Takes a second or two at most.
    async fn parted(&self) {}
}
