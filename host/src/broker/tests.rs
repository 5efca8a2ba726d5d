//! The core over a broker that can do as little as any: no queues, no counting,
//! nothing taken back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::driver::{
    Connection, Features, Incoming, Ready, Settlement, Source, SubscribeRequest, Token,
};
use super::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what must happen; the clock stands still until
/// nothing else is left to do.
const LONG: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Option<Ready>,
    arrived: Vec<Incoming>,
    tokens: u64,
    settled: Vec<(u64, Settlement)>,
    stopped: bool,
    ended: Option<BrokerError>,
    published: Vec<(String, Arc<Event>, Qos, Option<String>)>,
    /// What publishing answers, one after the other; then `Ok`.
    answers: Vec<Result<(), BrokerError>>,
    /// Publishing never ends.
    hangs: bool,
}

impl Fake {
    fn deliver(&self, id: &str, qos: Qos) {
        let event = Event { id: id.into(), source: "s".into(), ..Event::default() };
        self.change(|state| {
            state.tokens += 1;
            state.arrived.push(Incoming {
                token: Token(state.tokens),
                event: Arc::new(event),
                topic: Topic::new("t").unwrap(),
                qos,
                attempt: None,
                number: None,
            });
        });
    }

    fn end(&self, error: BrokerError) {
        self.change(|state| state.ended = Some(error));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let ready = {
            let mut state = self.state.lock();
            change(&mut state);
            state.ready.clone()
        };
        ready.unwrap().notify();
    }

    fn settled(&self) -> Vec<(u64, Settlement)> {
        self.state.lock().settled.clone()
    }
}

struct FakeConnection(Arc<Fake>);

#[async_trait]
impl Connection for FakeConnection {
    fn features(&self) -> Features {
        Features {
            queue: false,
            ordered_queue: false,
            pins_keys: false,
            filters: false,
            qos_max: Qos::EffectivelyOnce,
            delayed_redelivery: false,
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
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        let answer = {
            let mut state = self.0.state.lock();
            let from = from.map(str::to_owned);
            state.published.push((topic.as_str().to_owned(), event, qos, from));
            if state.hangs { None } else { Some(state.answers.pop().unwrap_or(Ok(()))) }
        };
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.0.state.lock().ready = Some(request.ready);
        Ok(Arc::new(FakeSource(self.0.clone())))
    }

    async fn close(&self, _grace: Duration) {}
}

struct FakeSource(Arc<Fake>);

#[async_trait]
impl Source for FakeSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let mut state = self.0.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let count = if state.stopped { 0 } else { max.min(state.arrived.len()) };
        into.extend(state.arrived.drain(..count));
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        self.0.state.lock().settled.push((token.0, settlement));
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        let known = self.0.settled().contains(&(token.0, Settlement::Ack));
        if known { Ok(()) } else { Err(BrokerError::LeaseExpired) }
    }

    fn dropped(&self) -> u64 {
        7
    }

    fn stop(&self) {
        self.0.state.lock().stopped = true;
    }
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings {
        max_in_flight: 2,
        retry: RetryPolicy { max_attempts: Some(3), backoff: SECOND, backoff_max: 4 * SECOND },
        exhausted: Exhausted::DeadLetter(Topic::new("dead").unwrap()),
        ..SubscriptionSettings::new(TopicFilter::new("t").unwrap())
    }
}

fn broker() -> (Arc<Fake>, Arc<Broker>) {
    let fake = Arc::new(Fake::default());
    let connection = Arc::new(FakeConnection(fake.clone()));
    (fake, Broker::with_seed("fake", connection, Limits::default(), Budget::unbounded(), 1))
}

async fn open(settings: SubscriptionSettings) -> (Arc<Fake>, Arc<Subscription>) {
    let (fake, broker) = broker();
    let subscription = broker.subscribe(settings).await.unwrap();
    (fake, subscription)
}

async fn next(subscription: &Arc<Subscription>) -> Lease {
    timeout(LONG, subscription.next()).await.expect("no event came").unwrap()
}

fn retry() -> Verdict {
    Verdict::Retry { after: None, reason: "failed".into() }
}

fn reject() -> Verdict {
    Verdict::Reject { reason: "bad".into() }
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_and_end_in_a_dead_letter() {
    let (fake, subscription) = open(settings()).await;
    fake.deliver("1", Qos::AtLeastOnce);
    let start = Instant::now();
    for attempt in 1..=3 {
        let lease = next(&subscription).await;
        assert_eq!(lease.attempt(), attempt);
        assert_eq!(fake.settled(), []);
        lease.settle(retry());
    }
    assert!(start.elapsed() <= 3 * SECOND, "1 s and 2 s at most, and no longer");
    subscription.stop();
    timeout(LONG, subscription.drained()).await.unwrap();
    assert_eq!(fake.settled(), [(1, Settlement::Ack)]);
    let (to, letter, qos, _) = fake.state.lock().published.pop().unwrap();
    assert_eq!((to.as_str(), letter.id.as_str(), qos), ("dead", "1", Qos::AtLeastOnce));
    assert_eq!(letter.attribute("deadletterreason"), Some("failed"));
    assert_eq!(letter.attribute("deadlettertopic"), Some("t"));
    assert_eq!(letter.attribute("deadletterattempts"), Some("3"));
    let stats = subscription.stats();
    assert_eq!((stats.received, stats.retried, stats.dead_lettered, stats.dropped), (3, 2, 1, 7));
}

#[tokio::test(start_paused = true)]
async fn confirm_waits_for_the_dead_letter_however_long_it_takes() {
    let (fake, subscription) = open(settings()).await;
    let refused = || Err(BrokerError::Unavailable("down".into()));
    fake.state.lock().answers = vec![refused(), refused(), Err(BrokerError::TooLarge { limit: 1 })];
    fake.deliver("1", Qos::AtLeastOnce);
    next(&subscription).await.confirm(reject()).await.unwrap();
    assert_eq!(fake.settled(), [(1, Settlement::Ack)]);
    assert_eq!(fake.state.lock().published.len(), 4);
    assert_eq!(subscription.stats().received, 1, "the handler is not called again");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_cannot_be_stored_hold_up_new_events() {
    let (fake, subscription) = open(settings()).await;
    fake.state.lock().hangs = true;
    for id in ["1", "2", "3"] {
        fake.deliver(id, Qos::AtLeastOnce);
    }
    next(&subscription).await.settle(reject());
    let rejected = next(&subscription).await;
    let rejected = tokio::spawn(rejected.confirm(reject()));
    sleep(LONG).await;
    assert!(subscription.try_next().unwrap().is_none());
    assert!(fake.state.lock().published.len() > 10, "it is not tried again");

    let drained = {
        let subscription = subscription.clone();
        tokio::spawn(async move { subscription.drained().await })
    };
    subscription.stop();
    timeout(LONG, drained).await.unwrap().unwrap();
    assert_eq!(fake.settled(), [], "it was acknowledged without being stored");
    let given_up = rejected.await.unwrap();
    assert!(matches!(given_up, Err(BrokerError::Closed(_))), "{given_up:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_takers_are_woken_by_events_and_by_room() {
    let (fake, subscription) = open(settings()).await;
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let subscription = subscription.clone();
            tokio::spawn(async move { next(&subscription).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for id in ["1", "2", "3"] {
        fake.deliver(id, Qos::AtLeastOnce);
    }
    let (mut leases, mut waiting) = (Vec::new(), Vec::new());
    sleep(SECOND).await;
    for taker in takers {
        if taker.is_finished() {
            leases.push(taker.await.unwrap());
        } else {
            waiting.push(taker);
        }
    }
    assert_eq!((leases.len(), waiting.len()), (2, 1));
    leases.pop().unwrap().settle(Verdict::Ack);
    let last = waiting.pop().unwrap().await.unwrap();
    assert_eq!(last.event().id, "3");
}

#[tokio::test(start_paused = true)]
async fn repetitions_at_qos_2_make_room_for_what_follows() {
    let (fake, subscription) = open(settings()).await;
    for id in ["1", "1", "1", "2"] {
        fake.deliver(id, Qos::EffectivelyOnce);
    }
    next(&subscription).await.confirm(Verdict::Ack).await.unwrap();
    let lease = next(&subscription).await;
    assert_eq!(lease.event().id, "2");
    let acked = |token| (token, Settlement::Ack);
    assert_eq!(fake.settled(), [acked(1), acked(2), acked(3)]);
}

#[tokio::test(start_paused = true)]
async fn many_events_that_nobody_wants_are_passed_over_in_turns() {
    const UNWANTED: usize = 10_000;
    let filter = EventFilter::new("attributes.id = \"wanted\"").unwrap();
    let wanted = SubscriptionSettings { event_filter: Some(filter), ..settings() };
    let (fake, subscription) = open(wanted).await;
    for _ in 0..UNWANTED {
        fake.deliver("unwanted", Qos::AtLeastOnce);
    }
    fake.deliver("wanted", Qos::AtLeastOnce);
    assert!(subscription.try_next().unwrap().is_none(), "one call does not take them all");

    let turns = Arc::new(Mutex::new(0));
    let counted = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            *counted.lock() += 1;
            tokio::task::yield_now().await;
        }
    });
    let lease = next(&subscription).await;
    other.abort();
    assert_eq!(lease.event().id, "wanted");
    assert!(*turns.lock() >= 5, "others had {} turns meanwhile", turns.lock());
    assert_eq!(fake.settled().len(), UNWANTED);
    assert_eq!(subscription.stats().filtered, UNWANTED as u64);
}

#[tokio::test(start_paused = true)]
async fn takers_get_one_event_of_a_key_each() {
    let order = SubscriptionSettings {
        order: Order::Key(OrderBy::Attribute("id".into())),
        max_in_flight: 10,
        ..settings()
    };
    let (fake, subscription) = open(order).await;
    for id in ["a", "a", "b", "a", "c"] {
        fake.deliver(id, Qos::AtLeastOnce);
    }
    let take_all =
        || -> Vec<Lease> { std::iter::from_fn(|| subscription.try_next().unwrap()).collect() };
    let ids = |leases: &[Lease]| -> Vec<String> {
        leases.iter().map(|lease| lease.event().id.clone()).collect()
    };
    let first = take_all();
    assert_eq!(ids(&first), ["a", "b", "c"]);
    let waiting = tokio::spawn({
        let subscription = subscription.clone();
        async move { next(&subscription).await }
    });
    tokio::task::yield_now().await;
    for lease in first {
        lease.settle(Verdict::Ack);
    }
    let second = waiting.await.unwrap();
    assert_eq!(second.event().id, "a", "whoever waits is woken");
    assert!(take_all().is_empty());
    drop(second);
    assert_eq!(take_all().len(), 1, "it comes again before the last one");
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_delivered_again_by_itself() {
    let pull = SubscriptionSettings { ack_deadline: Some(30 * SECOND), ..settings() };
    let (fake, subscription) = open(pull).await;
    fake.deliver("1", Qos::AtLeastOnce);
    let late = next(&subscription).await;
    late.extend(40 * SECOND).unwrap();
    let start = Instant::now();
    let again = next(&subscription).await;
    assert_eq!((again.attempt(), start.elapsed().as_secs()), (2, 40));
    assert_eq!(late.confirm(Verdict::Ack).await, Err(BrokerError::LeaseExpired));
    assert_eq!(fake.settled(), []);
    again.confirm(Verdict::Ack).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_source_is_told_with_its_reason() {
    let (fake, subscription) = open(settings()).await;
    let taker = {
        let subscription = subscription.clone();
        tokio::spawn(async move { next(&subscription).await.settle(Verdict::Ack) })
    };
    fake.deliver("1", Qos::AtLeastOnce);
    tokio::task::yield_now().await;
    fake.end(BrokerError::Denied("taken over".into()));
    taker.await.unwrap();
    let expected = BrokerError::Closed("access denied: taken over".into());
    assert_eq!(subscription.next().await.map(drop), Err(expected.clone()));
    // What came before is kept: a stop says nothing new.
    subscription.stop();
    assert_eq!(subscription.try_next().map(drop), Err(expected));
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_what_waits_unacknowledged() {
    let (fake, subscription) = open(settings()).await;
    for id in ["1", "2"] {
        fake.deliver(id, Qos::AtLeastOnce);
    }
    next(&subscription).await.settle(Verdict::Retry { after: Some(LONG), reason: String::new() });
    let lease = next(&subscription).await;
    subscription.stop();
    assert!(fake.state.lock().stopped);
    assert!(timeout(SECOND, subscription.drained()).await.is_err());
    drop(lease);
    timeout(SECOND, subscription.drained()).await.unwrap();
    assert_eq!(fake.settled(), []);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_its_source_and_its_timer_when_dropped() {
    let (fake, subscription) = open(settings()).await;
    fake.deliver("1", Qos::AtLeastOnce);
    let lease = next(&subscription).await;
    drop(subscription);
    assert_eq!(Arc::strong_count(&fake), 3, "a lease keeps its subscription");
    lease.settle(Verdict::Retry { after: Some(LONG), reason: String::new() });
    // This, and none of: source, connection of the broker it held.
    assert_eq!(Arc::strong_count(&fake), 1);
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn publishing_fills_in_what_is_missing_and_checks_the_rest() {
    let (fake, broker) = broker();
    let topic = Topic::new("t").unwrap();
    let publish = |event| broker.publish("shop", &topic, event, Qos::AtLeastOnce, SECOND);
    publish(Event::default()).await.unwrap();
    publish(Event::default()).await.unwrap();
    publish(Event { id: "7".into(), source: "mine".into(), ..Event::default() }).await.unwrap();
    let published = std::mem::take(&mut fake.state.lock().published);
    let [(_, first, ..), (_, second, ..), (_, third, _, from)] = &published[..] else {
        unreachable!("three were published");
    };
    assert!(!first.id.is_empty() && first.id != second.id && first.source == "shop");
    assert_eq!((third.id.as_str(), third.source.as_str()), ("7", "mine"));
    assert_eq!(from.as_deref(), Some("shop"));

    let large = Event { data: vec![0; 10 * 1024 * 1024].into(), ..Event::default() };
    let limit = Limits::default().event_bytes_max as u64;
    assert_eq!(publish(large).await, Err(BrokerError::TooLarge { limit }));
    assert!(fake.state.lock().published.is_empty());
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_no_longer_than_allowed() {
    let (fake, broker) = broker();
    fake.state.lock().hangs = true;
    let start = Instant::now();
    let topic = Topic::new("t").unwrap();
    let result = broker.publish("m", &topic, Event::default(), Qos::AtLeastOnce, 5 * SECOND).await;
    assert!(matches!(result, Err(BrokerError::Unavailable(_))), "{result:?}");
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test]
async fn what_the_broker_cannot_do_is_refused() {
    let (_, broker) = broker();
    let queue = SubscriptionSettings { group: Some("g".into()), ..settings() };
    let refused = broker.subscribe(queue).await.map(drop);
    assert!(matches!(refused, Err(BrokerError::Unsupported(_))), "{refused:?}");
}
