//! Repetitions at qos 2.

use crate::harness::Harness;
use crate::support::*;
use wasi_pubsub::broker::{Broker, DedupeWindow, Event, Exhausted, SubscriptionSettings, Verdict};

fn once(filter: &str) -> SubscriptionSettings {
    SubscriptionSettings { qos: QOS_2, ..on(filter) }
}

async fn publish_2(broker: &Broker, to: &str, id: &str) {
    publish_event(broker, to, event(id), QOS_2).await;
}

pub(crate) async fn an_event_with_a_verdict_is_not_handed_out_again(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, once("t")).await;
    for (id, verdict) in [("acked", Verdict::Ack), ("rejected", reject("no"))] {
        publish_2(&broker, "t", id).await;
        confirm(take_id(&subscription, id).await, verdict).await;
        publish_2(&broker, "t", id).await;
    }
    publish_2(&broker, "t", "marker").await;
    handle(&subscription, "marker").await;
    counts(&subscription, "free of held events", |s| s.in_flight == 0 && s.waiting == 0).await;
}

pub(crate) async fn another_source_is_another_event(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, once("t")).await;
    for source in ["/one", "/two"] {
        let event = Event { source: source.to_owned(), ..event("same") };
        publish_event(&broker, "t", event, QOS_2).await;
        let lease = take_id(&subscription, "same").await;
        assert_eq!(lease.event().source, source);
        confirm(lease, Verdict::Ack).await;
    }
}

pub(crate) async fn a_repetition_waits_for_the_verdict_of_the_first(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, once("t")).await;
    publish_2(&broker, "t", "same").await;
    let first = take_id(&subscription, "same").await;
    publish_2(&broker, "t", "same").await;
    publish_2(&broker, "t", "marker 1").await;
    handle(&subscription, "marker 1").await;
    confirm(first, Verdict::Ack).await;
    publish_2(&broker, "t", "marker 2").await;
    handle(&subscription, "marker 2").await;
    counts(&subscription, "free of held events", |s| s.in_flight == 0 && s.waiting == 0).await;
}

pub(crate) async fn a_failed_event_is_no_repetition(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, once("t")).await;
    publish_2(&broker, "t", "same").await;
    let first = take_id(&subscription, "same").await;
    publish_2(&broker, "t", "same").await;
    publish_2(&broker, "t", "marker 1").await;
    handle(&subscription, "marker 1").await;
    first.settle(retry(Some(millis(0))));
    // Whichever of the two comes next: once one is handled, both are.
    handle(&subscription, "same").await;
    publish_2(&broker, "t", "marker 2").await;
    handle(&subscription, "marker 2").await;
    counts(&subscription, "free of held events", |s| s.in_flight == 0 && s.waiting == 0).await;
}

pub(crate) async fn qos_1_hands_out_repetitions(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, once("t")).await;
    publish(&broker, "t", ["same", "same", "marker"]).await;
    assert_eq!(handle_many(&subscription, 3).await, ["same", "same", "marker"]);
}

pub(crate) async fn the_window_is_bounded(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let dedupe = DedupeWindow { events: 2, ..DedupeWindow::default() };
    let subscription = subscribe(&broker, SubscriptionSettings { dedupe, ..once("t/+") }).await;
    for id in ["1", "2", "3"] {
        publish_2(&broker, "t/a", id).await;
        handle(&subscription, id).await;
    }
    // 2 and 3 are remembered, 1 is not. A broker may itself remember what was
    // published to a topic.
    for id in ["3", "2", "1"] {
        publish_2(&broker, "t/b", id).await;
    }
    handle(&subscription, "1").await;
}

pub(crate) async fn dead_letters_of_two_subscriptions_are_two_events(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let letters = subscribe(&broker, once("dead")).await;
    for label in ["billing", "shipping"] {
        let exhausted = Exhausted::DeadLetter(topic("dead"));
        let own = format!("t/{label}");
        let settings = SubscriptionSettings { label: label.to_owned(), exhausted, ..once(&own) };
        let subscription = subscribe(&broker, settings).await;
        publish_2(&broker, &own, "bad").await;
        confirm(take_id(&subscription, "bad").await, reject(label)).await;
        subscription.stop();
        let letter = take_id(&letters, "bad").await;
        assert_eq!(letter.event().attribute("deadletterreason"), Some(label));
        assert_eq!(letter.event().attribute("deadlettersubscription"), Some(label));
        let again = (**letter.event()).clone();
        confirm(letter, Verdict::Ack).await;
        // The same letter once more is a repetition.
        publish_event(&broker, "dead", again, QOS_2).await;
    }
    publish_2(&broker, "dead", "marker").await;
    handle(&letters, "marker").await;
}
