#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::broker::driver::{Parting, SubscribeRequest};
use crate::broker::{
    Broker, BrokerError, Budget, Event, Exhausted, Lease, Limits, Qos, RetryPolicy, Share,
    Subscription, SubscriptionSettings, Topic, TopicFilter, Verdict,
};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what must happen. Most clocks here stand still
/// until nothing else is left to do.
const LONG: Duration = Duration::from_secs(60);

fn small() -> Settings {
    Settings {
        queue_events_max: 4,
        queue_bytes_max: 1000,
        dead_letter_events_reserved: 2,
        dead_letter_bytes_reserved: 1000,
        qos0_events_max: 3,
        qos0_bytes_max: 1000,
        ..Settings::default()
    }
}

fn broker(settings: Settings) -> Arc<Broker> {
    Broker::new("test", open_with(settings), Limits::default())
}

fn settings(filter: &str) -> SubscriptionSettings {
    SubscriptionSettings::new(TopicFilter::new(filter).unwrap())
}

fn in_group(filter: &str, group: &str) -> SubscriptionSettings {
    SubscriptionSettings { group: Some(group.into()), ..settings(filter) }
}

async fn subscribe(broker: &Arc<Broker>, filter: &str) -> Arc<Subscription> {
    broker.subscribe(settings(filter)).await.unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn event(id: &str) -> Event {
    Event { id: id.into(), kind: "k".into(), ..Event::default() }
}

async fn publish(broker: &Broker, to: &str, id: &str, qos: Qos) -> Result<(), BrokerError> {
    broker.publish("me", &topic(to), event(id), qos, SECOND).await
}

async fn publish_1(broker: &Broker, to: &str, id: &str) {
    publish(broker, to, id, Qos::AtLeastOnce).await.unwrap();
}

async fn next(subscription: &Arc<Subscription>) -> Lease {
    timeout(LONG, subscription.next()).await.expect("no event came").unwrap()
}

fn nothing(subscription: &Arc<Subscription>) -> bool {
    subscription.try_next().unwrap().is_none()
}

/// Takes and acknowledges all that is there.
fn drain(subscription: &Arc<Subscription>) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_next().unwrap())
        .map(|lease| {
            let id = lease.event().id.clone();
            lease.settle(Verdict::Ack);
            id
        })
        .collect()
}

fn retry(after: Option<Duration>) -> Verdict {
    Verdict::Retry { after, reason: "failed".into() }
}

fn is_unavailable(result: Result<(), BrokerError>) -> bool {
    matches!(result, Err(BrokerError::Unavailable(_)))
}

#[tokio::test(start_paused = true)]
async fn topics_fan_out_and_queues_share() {
    let broker = broker(Settings::default());
    let every = subscribe(&broker, "orders/#").await;
    let one_level = subscribe(&broker, "orders/+").await;
    let exact = subscribe(&broker, "orders/eu").await;
    let first = broker.subscribe(in_group("orders/#", "g")).await.unwrap();
    let second = broker.subscribe(in_group("orders/#", "g")).await.unwrap();
    let other_group = broker.subscribe(in_group("orders/#", "h")).await.unwrap();
    for (to, id) in [("orders/eu", "1"), ("orders/eu/de", "2"), ("orders", "3"), ("bills", "4")] {
        publish_1(&broker, to, id).await;
    }
    assert_eq!(drain(&every), ["1", "2", "3"]);
    assert_eq!(drain(&one_level), ["1"]);
    assert_eq!(drain(&exact), ["1"]);
    let (a, b) = (next(&first).await, next(&second).await);
    assert_eq!((a.event().id.as_str(), b.event().id.as_str()), ("1", "2"));
    assert_eq!(a.topic().as_str(), "orders/eu");
    assert_eq!(drain(&first), ["3"]);
    assert!(nothing(&second));
    assert_eq!(drain(&other_group), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_lower_qos_of_publisher_and_subscriber_counts() {
    let broker = broker(Settings::default());
    let levels = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::EffectivelyOnce];
    for asked in levels {
        let wanted = SubscriptionSettings { qos: asked, ..settings("t") };
        let subscription = broker.subscribe(wanted).await.unwrap();
        for published in levels {
            publish(&broker, "t", "", published).await.unwrap();
            assert_eq!(next(&subscription).await.qos(), asked.min(published));
            drain(&subscription);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_may_ask_for_different_qos() {
    let broker = broker(small());
    let low = SubscriptionSettings { qos: Qos::AtMostOnce, ..in_group("t", "g") };
    let low = broker.subscribe(low).await.unwrap();
    let _high = broker.subscribe(in_group("t", "g")).await.unwrap();
    for id in ["1", "2", "3", "4"] {
        publish_1(&broker, "t", id).await;
    }
    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, "t", "5", Qos::AtLeastOnce).await })
    };
    tokio::task::yield_now().await;
    let lease = next(&low).await;
    assert_eq!(lease.qos(), Qos::AtMostOnce);
    // What was taken at qos 0 has made room.
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn at_qos_0_the_newest_are_dropped_and_counted() {
    let broker = broker(small());
    let subscription = subscribe(&broker, "t").await;
    for id in ["1", "2", "3", "4", "5"] {
        publish(&broker, "t", id, Qos::AtMostOnce).await.unwrap();
    }
    assert_eq!(subscription.stats().dropped, 2);
    assert_eq!(drain(&subscription), ["1", "2", "3"]);
    publish(&broker, "t", "6", Qos::AtMostOnce).await.unwrap();
    assert_eq!(drain(&subscription), ["6"]);
}

#[tokio::test(start_paused = true)]
async fn publishers_wait_for_room_and_then_give_up() {
    let broker = broker(small());
    let subscription = subscribe(&broker, "t").await;
    let held: Vec<_> = {
        for id in ["1", "2", "3", "4"] {
            publish_1(&broker, "t", id).await;
        }
        std::iter::from_fn(|| subscription.try_next().unwrap()).collect()
    };
    // Being handled is not being acknowledged.
    assert!(is_unavailable(publish(&broker, "t", "5", Qos::AtLeastOnce).await));
    // Qos 0 does not wait, and is bounded by itself.
    publish(&broker, "t", "0", Qos::AtMostOnce).await.unwrap();

    let waiting: Vec<_> = (5..8)
        .map(|id| {
            let broker = broker.clone();
            tokio::spawn(async move {
                publish(&broker, "t", &id.to_string(), Qos::AtLeastOnce).await.unwrap();
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for lease in held.into_iter().take(3) {
        lease.settle(Verdict::Ack);
    }
    for publisher in waiting {
        publisher.await.unwrap();
    }
    assert_eq!(drain(&subscription), ["4", "0", "5", "6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_too_small_for_one_publisher_goes_to_the_next() {
    let broker = broker(small());
    let subscription = subscribe(&broker, "t").await;
    let sized = |id: &str, bytes: usize| Event { data: vec![0; bytes].into(), ..event(id) };
    let send = |event: Event| {
        let broker = broker.clone();
        tokio::spawn(async move {
            broker.publish("me", &topic("t"), event, Qos::AtLeastOnce, SECOND).await
        })
    };
    send(sized("1", 100)).await.unwrap().unwrap();
    send(sized("2", 800)).await.unwrap().unwrap();
    let (large, small) = (send(sized("3", 900)), send(sized("4", 150)));
    tokio::task::yield_now().await;
    next(&subscription).await.settle(Verdict::Ack);
    small.await.unwrap().unwrap();
    assert!(is_unavailable(large.await.unwrap()));
    // Larger than the bound altogether: alone it is taken.
    assert_eq!(drain(&subscription), ["2", "4"]);
    send(sized("5", 5000)).await.unwrap().unwrap();
    assert_eq!(drain(&subscription), ["5"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_into_all_queues_or_none() {
    let broker = broker(small());
    let full = subscribe(&broker, "t/full").await;
    let empty = subscribe(&broker, "t/+").await;
    for id in ["1", "2", "3", "4"] {
        publish_1(&broker, "t/full", id).await;
    }
    drain(&empty);
    assert!(is_unavailable(publish(&broker, "t/full", "5", Qos::AtLeastOnce).await));
    assert!(nothing(&empty));
    // The room that was reserved meanwhile is free again.
    for id in ["6", "7", "8", "9"] {
        publish_1(&broker, "t/other", id).await;
    }
    // First one queue is in the way, then the other.
    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, "t/full", "10", Qos::AtLeastOnce).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(drain(&full), ["1", "2", "3", "4"]);
    tokio::task::yield_now().await;
    assert!(nothing(&full) && !waiting.is_finished());
    drain(&empty);
    waiting.await.unwrap().unwrap();
    assert_eq!((drain(&full), drain(&empty)), (vec!["10".into()], vec!["10".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fills_its_own_queue_does_not_hang() {
    let broker = broker(small());
    let subscription = subscribe(&broker, "t").await;
    publish_1(&broker, "t", "first").await;
    let lease = next(&subscription).await;
    let mut published = 0;
    while publish(&broker, "t", "", Qos::AtLeastOnce).await.is_ok() {
        published += 1;
    }
    assert_eq!(published, 3);
    lease.settle(Verdict::Ack);
    publish_1(&broker, "t", "again").await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_have_room_of_their_own() {
    let broker = broker(small());
    let dead = subscribe(&broker, "dead").await;
    let rejecting =
        SubscriptionSettings { exhausted: Exhausted::DeadLetter(topic("dead")), ..settings("t") };
    let subscription = broker.subscribe(rejecting).await.unwrap();
    for id in ["1", "2", "3", "4"] {
        publish_1(&broker, "dead", id).await;
        publish_1(&broker, "t", id).await;
    }
    let reject = || Verdict::Reject { reason: "bad".into() };
    next(&subscription).await.confirm(reject()).await.unwrap();
    next(&subscription).await.confirm(reject()).await.unwrap();
    // That was the reserve: the third is stored when there is room.
    let third = next(&subscription).await;
    let third = tokio::spawn(third.confirm(reject()));
    tokio::time::sleep(10 * SECOND).await;
    assert!(!third.is_finished());
    assert_eq!(subscription.stats().waiting, 1);
    next(&dead).await.settle(Verdict::Ack);
    timeout(LONG, third).await.unwrap().unwrap().unwrap();
    let letters = drain(&dead);
    assert_eq!(letters, ["2", "3", "4", "1", "2", "3"]);
    assert_eq!(subscription.stats().dead_lettered, 3);
}

#[tokio::test(start_paused = true)]
async fn the_broker_holds_a_failed_event_back_and_counts() {
    let broker = broker(Settings::default());
    let first = broker.subscribe(in_group("t", "g")).await.unwrap();
    let second = broker.subscribe(in_group("t", "g")).await.unwrap();
    publish_1(&broker, "t", "1").await;
    publish_1(&broker, "t", "2").await;
    next(&first).await.settle(retry(Some(10 * SECOND)));
    assert_eq!(drain(&second), ["2"]);
    let before = tokio::time::Instant::now();
    let again = next(&second).await;
    assert_eq!(before.elapsed().as_secs(), 10);
    assert_eq!((again.event().id.as_str(), again.attempt()), ("1", 2));
    publish_1(&broker, "t", "3").await;
    // Given back: uncharged, at once, before what is newer.
    again.give_back(false);
    let again = next(&first).await;
    assert_eq!((again.event().id.as_str(), again.attempt()), ("1", 2));
    again.settle(retry(None));
    assert_eq!(drain(&first), ["3"]);
    assert_eq!(next(&first).await.attempt(), 3);
}

#[tokio::test(start_paused = true)]
async fn many_delays_need_no_order() {
    let broker = broker(Settings::default());
    let subscription = subscribe(&broker, "t").await;
    let delays = [7, 3, 5, 1, 9, 2];
    for delay in delays {
        publish_1(&broker, "t", &delay.to_string()).await;
        next(&subscription).await.settle(retry(Some(delay * SECOND)));
    }
    let before = tokio::time::Instant::now();
    for expected in [1, 2, 3, 5, 7, 9] {
        let lease = next(&subscription).await;
        assert_eq!(lease.event().id, expected.to_string());
        assert_eq!(before.elapsed().as_secs(), expected);
        lease.settle(Verdict::Ack);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_goes_to_another_member() {
    let broker = broker(Settings::default());
    let pull = SubscriptionSettings { ack_deadline: Some(30 * SECOND), ..in_group("t", "g") };
    let slow = broker.subscribe(pull.clone()).await.unwrap();
    let other = broker.subscribe(pull).await.unwrap();
    publish_1(&broker, "t", "1").await;
    let lease = next(&slow).await;
    let before = tokio::time::Instant::now();
    let again = next(&other).await;
    assert_eq!((before.elapsed().as_secs(), again.attempt()), (30, 2));
    assert_eq!(lease.extend(SECOND), Err(BrokerError::LeaseExpired));
    assert_eq!(lease.confirm(Verdict::Ack).await, Err(BrokerError::LeaseExpired));
    again.confirm(Verdict::Ack).await.unwrap();
    assert_eq!(slow.stats().expired, 1);
    tokio::time::sleep(100 * SECOND).await;
    assert!(nothing(&slow) && nothing(&other));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_goes_away_gives_everything_back() {
    let broker = broker(small());
    let gone = broker.subscribe(in_group("t", "g")).await.unwrap();
    for id in ["1", "2", "3"] {
        publish_1(&broker, "t", id).await;
    }
    let leases = [next(&gone).await, next(&gone).await];
    drop(gone);
    drop(leases);
    // While nobody is in the group, it collects.
    publish_1(&broker, "t", "4").await;
    assert!(is_unavailable(publish(&broker, "t", "5", Qos::AtLeastOnce).await));
    let next_member = broker.subscribe(in_group("t", "g")).await.unwrap();
    assert_eq!(drain(&next_member), ["1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn unsettled_events_return_in_order_with_the_source() {
    let connection = open_with(Settings::default());
    let broker = Broker::new("test", connection.clone(), Limits::default());
    let request = |label: &str| SubscribeRequest {
        label: label.into(),
        filter: TopicFilter::new("t").unwrap(),
        group: Some("g".into()),
        qos: Qos::AtLeastOnce,
        order: crate::broker::Order::None,
        event_filter: None,
        start: crate::broker::Start::New,
        is_temporary: false,
        max_in_flight: 2,
        max_in_flight_bytes: 1000,
        group_max_in_flight: None,
        share: Share::new(&Budget::unbounded()),
        backlog_bound: None,
        not_from: None,
        ready: crate::broker::driver::Ready(Arc::new(|| {})),
    };
    let source = connection.subscribe(request("a")).await.unwrap();
    for id in ["1", "2", "3"] {
        publish_1(&broker, "t", id).await;
    }
    let mut taken = Vec::new();
    source.take(10, &mut taken).unwrap();
    assert_eq!(taken.len(), 2, "no more than may be in flight");
    drop(source);
    let member = broker.subscribe(in_group("t", "g")).await.unwrap();
    let first = next(&member).await;
    assert_eq!((first.event().id.as_str(), first.attempt()), ("1", 1));
    assert_eq!(drain(&member), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_holds_its_bound_in_bytes_and_says_when_there_is_room() {
    let connection = open_with(Settings::default());
    let broker = Broker::new("test", connection.clone(), Limits::default());
    let notified = Arc::new(AtomicUsize::new(0));
    let counter = notified.clone();
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let request = SubscribeRequest {
        label: "a".into(),
        filter: TopicFilter::new("t").unwrap(),
        group: None,
        qos: Qos::AtLeastOnce,
        order: crate::broker::Order::None,
        event_filter: None,
        start: crate::broker::Start::New,
        is_temporary: false,
        max_in_flight: 10,
        max_in_flight_bytes: 250,
        group_max_in_flight: None,
        share: Share::new(&Budget::unbounded()),
        backlog_bound: None,
        not_from: None,
        ready: crate::broker::driver::Ready(Arc::new(count)),
    };
    let source = connection.subscribe(request).await.unwrap();
    for id in 0..4 {
        let event = Event { data: vec![0; 100].into(), ..event(&id.to_string()) };
        broker.publish("m", &topic("t"), event, Qos::AtLeastOnce, SECOND).await.unwrap();
    }
    let mut taken = Vec::new();
    source.take(10, &mut taken).unwrap();
    assert_eq!(taken.len(), 2);
    let before = notified.load(Ordering::Relaxed);
    source.settle(taken[0].token, crate::broker::driver::Settlement::Ack);
    assert!(notified.load(Ordering::Relaxed) > before);
    // A second time it has no effect.
    source.settle(taken[0].token, crate::broker::driver::Settlement::Ack);
    source.take(10, &mut taken).unwrap();
    assert_eq!(taken.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_subscription_that_goes_away_holds_up_nobody() {
    let broker = broker(small());
    let gone = subscribe(&broker, "t").await;
    let stays = subscribe(&broker, "t").await;
    for id in ["1", "2", "3", "4"] {
        publish_1(&broker, "t", id).await;
    }
    drain(&stays);
    let waiting = {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, "t", "5", Qos::AtLeastOnce).await })
    };
    tokio::task::yield_now().await;
    drop(gone);
    waiting.await.unwrap().unwrap();
    assert_eq!(drain(&stays), ["5"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_component_published_itself_it_does_not_get() {
    let broker = broker(Settings::default());
    let not_mine = SubscriptionSettings { not_from: Some("me".into()), ..settings("#") };
    let not_mine = broker.subscribe(not_mine).await.unwrap();
    let all = subscribe(&broker, "#").await;
    publish_1(&broker, "t", "1").await;
    broker.publish("you", &topic("t"), event("2"), Qos::AtLeastOnce, SECOND).await.unwrap();
    assert_eq!((drain(&not_mine), drain(&all)), (vec!["2".into()], vec!["1".into(), "2".into()]));
}

#[tokio::test(start_paused = true)]
async fn takers_and_publishers_that_wait_learn_of_the_end() {
    let broker = broker(small());
    let subscription = subscribe(&broker, "t").await;
    let full = subscribe(&broker, "full").await;
    for id in ["1", "2", "3", "4"] {
        publish_1(&broker, "full", id).await;
    }
    let publisher = {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, "full", "5", Qos::AtLeastOnce).await })
    };
    let taker = tokio::spawn(async move { subscription.next().await.map(drop) });
    tokio::task::yield_now().await;
    broker.close(SECOND).await;
    let closed = |result: Result<(), BrokerError>| matches!(result, Err(BrokerError::Closed(_)));
    assert!(closed(taker.await.unwrap()));
    assert!(closed(publisher.await.unwrap()));
    assert!(closed(publish(&broker, "t", "", Qos::AtMostOnce).await));
    assert!(closed(full.next().await.map(drop)));
    assert!(matches!(broker.subscribe(settings("t")).await, Err(BrokerError::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_in_flight_and_leaves_the_rest() {
    let broker = broker(Settings::default());
    let subscription = broker.subscribe(in_group("t", "g")).await.unwrap();
    for id in ["1", "2", "3"] {
        publish_1(&broker, "t", id).await;
    }
    let (acked, failed) = (next(&subscription).await, next(&subscription).await);
    subscription.stop();
    assert!(matches!(subscription.next().await, Err(BrokerError::Closed(_))));
    assert!(timeout(SECOND, subscription.drained()).await.is_err());
    acked.settle(Verdict::Ack);
    failed.settle(retry(Some(Duration::ZERO)));
    timeout(SECOND, subscription.drained()).await.unwrap();
    let next_member = broker.subscribe(in_group("t", "g")).await.unwrap();
    let mut left = drain(&next_member);
    left.sort();
    assert_eq!(left, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gives_its_event_back() {
    let broker = broker(Settings::default());
    let subscription = subscribe(&broker, "t").await;
    // Given up before anything came: the next event is not lost on it.
    assert!(timeout(SECOND, subscription.next()).await.is_err());
    publish_1(&broker, "t", "1").await;
    drop(next(&subscription).await);
    let again = next(&subscription).await;
    assert_eq!((again.event().id.as_str(), again.attempt()), ("1", 1));
}

#[tokio::test(start_paused = true)]
async fn at_qos_2_a_repetition_is_handled_once() {
    let broker = broker(Settings::default());
    let twice = SubscriptionSettings { qos: Qos::EffectivelyOnce, ..settings("t") };
    let subscription = broker.subscribe(twice).await.unwrap();
    for _ in 0..3 {
        publish(&broker, "t", "same", Qos::EffectivelyOnce).await.unwrap();
    }
    let lease = next(&subscription).await;
    assert!(nothing(&subscription));
    lease.confirm(Verdict::Ack).await.unwrap();
    publish(&broker, "t", "same", Qos::EffectivelyOnce).await.unwrap();
    assert!(nothing(&subscription));
    let stats = subscription.stats();
    assert_eq!((stats.received, stats.acked, stats.waiting), (1, 1, 0));
}

/// Publishers, takers and failures on several threads, with bounds that are hit
/// all the time: every event is acknowledged in each of its queues exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_is_lost_or_doubled_under_load() {
    const EVENTS: usize = 3000;
    let bounds = Settings { queue_events_max: 20, ..Settings::default() };
    let broker = broker(bounds);
    let again = RetryPolicy {
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    let of = |base: SubscriptionSettings| SubscriptionSettings {
        retry: again.clone(),
        max_in_flight: 8,
        ..base
    };
    let seen: Arc<Mutex<HashMap<(usize, String), usize>>> = Arc::default();
    let mut takers = Vec::new();
    let subscriptions = [
        (0, broker.subscribe(of(settings("load/#"))).await.unwrap()),
        (1, broker.subscribe(of(in_group("load/+", "g"))).await.unwrap()),
        (1, broker.subscribe(of(in_group("load/+", "g"))).await.unwrap()),
    ];
    for (queue, subscription) in &subscriptions {
        for taker in 0..4 {
            let (seen, subscription, queue) = (seen.clone(), subscription.clone(), *queue);
            takers.push(tokio::spawn(async move {
                let mut rng = fastrand::Rng::with_seed(taker);
                while let Ok(lease) = subscription.next().await {
                    if rng.u8(0..4) == 0 {
                        tokio::task::yield_now().await;
                    }
                    match rng.u8(0..8) {
                        0 => lease.settle(retry(None)),
                        1 => lease.settle(retry(Some(Duration::ZERO))),
                        2 => lease.give_back(rng.bool()),
                        3 => drop(lease),
                        _ => {
                            let id = lease.event().id.clone();
                            *seen.lock().unwrap().entry((queue, id)).or_default() += 1;
                            lease.settle(Verdict::Ack);
                        }
                    }
                }
            }));
        }
    }
    let publishers: Vec<_> = (0..6)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for number in 0..EVENTS / 6 {
                    let event = event(&format!("{publisher}-{number}"));
                    let to = topic(&format!("load/{publisher}"));
                    broker.publish("m", &to, event, Qos::AtLeastOnce, LONG).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let all_seen = async {
        while seen.lock().unwrap().len() < 2 * EVENTS {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all_seen).await.expect("events are missing");
    for (_, subscription) in &subscriptions {
        subscription.stop();
        timeout(LONG, subscription.drained()).await.unwrap();
    }
    for taker in takers {
        taker.await.unwrap();
    }
    assert!(seen.lock().unwrap().values().all(|count| *count == 1));
    let acked: u64 = subscriptions.iter().map(|(_, subscription)| subscription.stats().acked).sum();
    assert_eq!(acked, 2 * EVENTS as u64);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_replaced_leaves_its_queue_to_its_successor() {
    let broker = broker(Settings::default());
    let first = subscribe(&broker, "t").await;
    for id in ["1", "2", "3"] {
        publish_1(&broker, "t", id).await;
    }
    let in_hand = next(&first).await;
    first.part(Parting::Replaced);
    publish_1(&broker, "t", "4").await;
    drop(in_hand);
    drop(first);
    publish_1(&broker, "t", "5").await;
    let second = subscribe(&broker, "t").await;
    assert_eq!(drain(&second), ["1", "2", "3", "4", "5"]);
    // Another one of the same topic has a queue of its own.
    let other = broker.subscribe(SubscriptionSettings { label: "other".into(), ..settings("t") });
    assert!(drain(&other.await.unwrap()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_group_ends_with_the_last_member_that_is_removed() {
    let broker = broker(small());
    let (first, second) = (in_group("t", "g"), in_group("t", "g"));
    let first = broker.subscribe(first).await.unwrap();
    let second = broker.subscribe(second).await.unwrap();
    publish_1(&broker, "t", "1").await;
    first.part(Parting::Removed);
    assert_eq!(drain(&second), ["1"], "another member is left");
    second.part(Parting::Removed);
    for id in ["2", "3", "4", "5", "6"] {
        publish_1(&broker, "t", id).await;
    }
    let third = broker.subscribe(in_group("t", "g")).await.unwrap();
    assert!(drain(&third).is_empty(), "nobody wanted them");
}
