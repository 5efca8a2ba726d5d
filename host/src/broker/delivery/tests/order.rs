//! Events that are handled one after the other, and those that nobody wants.

use super::*;
use std::collections::HashSet;

fn ordered(order: Order) -> SubscriptionSettings {
    SubscriptionSettings { order, max_in_flight: 10, ..settings() }
}

fn by_key() -> SubscriptionSettings {
    ordered(Order::Key(OrderBy::EventKey))
}

/// Of each lane one delivery at most is under way, and it arrived first.
pub(super) fn assert_in_order(deliveries: &Deliveries, seed: &str) {
    let mut held: Vec<_> = deliveries.slots.iter().map(|(_, held)| held).collect();
    held.sort_by_key(|held| held.arrival);
    let mut lanes = HashSet::new();
    for held in held {
        let Some(lane) = held.lane else { continue };
        let first = lanes.insert(format!("{lane:?}"));
        let behind = matches!(held.state, State::Behind);
        assert_eq!(first, !behind, "{seed}: {} is {:?}", held.event.id, held.state);
    }
}

impl Machine {
    fn offer_1(&mut self, id: &str) -> Option<Handout> {
        self.offer(id, Qos::AtLeastOnce, None).0
    }

    /// What is handed out now, by id.
    fn ids(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|handout| handout.event.id.clone()).collect()
    }
}

#[test]
fn one_key_is_handled_in_order_and_others_at_the_same_time() {
    let mut machine = Machine::new(by_key(), false);
    let first = machine.offer_1("a:1").unwrap().key;
    assert!(machine.offer_1("a:2").is_none() && machine.offer_1("a:3").is_none());
    machine.offer_1("b:1").unwrap();
    assert_eq!(machine.deliveries.stats().waiting, 2);
    assert!(machine.next().is_none());
    assert!(machine.settle(first, ack()).1.wakes());
    let second = machine.next().unwrap();
    assert_eq!(second.event.id, "a:2");
    assert!(machine.next().is_none(), "one after the other");
    machine.settle(second.key, ack()).0.unwrap();
    assert_eq!(machine.ids(), ["a:3"]);
    assert_eq!(machine.deliveries.lanes.len(), 2);
}

#[test]
fn all_is_one_key() {
    let mut machine = Machine::new(ordered(Order::All), false);
    let first = machine.offer_1("a:1").unwrap().key;
    assert!(machine.offer_1("b:1").is_none());
    machine.settle(first, ack()).0.unwrap();
    assert_eq!(machine.ids(), ["b:1"]);
}

#[test]
fn whatever_becomes_of_an_event_holds_back_the_later_ones_until_it_is_over() {
    // Also where the broker would take failed events back.
    for broker_returns in [false, true] {
        let pull = SubscriptionSettings { ack_deadline: Some(30 * SECOND), ..by_key() };
        let mut machine = Machine::new(pull, broker_returns);
        let key = machine.offer_1("a:1").unwrap().key;
        assert!(machine.offer_1("a:2").is_none());

        assert!(settlements(machine.settle(key, retry()).1).is_empty());
        assert_eq!(machine.ids(), [""; 0], "a retry");
        machine.advance();
        let again = machine.next().unwrap();
        assert_eq!((again.event.id.as_str(), again.attempt), ("a:1", 2));
        assert_eq!(machine.ids(), [""; 0]);

        machine.give_back(again.key, false);
        let again = machine.next().unwrap();
        assert_eq!((again.event.id.as_str(), again.attempt), ("a:1", 2), "given back");
        assert_eq!(machine.ids(), [""; 0]);

        machine.give_back(again.key, true);
        let again = machine.next().unwrap();
        assert!(again.isolated && again.event.id == "a:1");
        assert_eq!(machine.ids(), [""; 0]);

        machine.now += 30 * SECOND;
        machine.tick();
        let again = machine.next().unwrap();
        assert_eq!((again.event.id.as_str(), again.attempt), ("a:1", 3), "expired");
        assert_eq!(machine.ids(), [""; 0]);

        let letter = machine.settle(again.key, reject()).1.take_dead_letters().pop().unwrap();
        assert_eq!(machine.ids(), [""; 0], "the dead letter is not stored");
        machine.done(letter.key, false);
        assert_eq!(machine.ids(), [""; 0], "nor is it now");
        machine.advance();
        assert_eq!(settlements(machine.done(letter.key, true)), [(1, Settlement::Ack)]);
        assert_eq!(machine.ids(), ["a:2"]);
    }
}

#[test]
fn an_event_that_is_dropped_lets_the_next_go_on() {
    for (qos, exhausted) in [
        (Qos::AtMostOnce, Exhausted::Never),
        (Qos::AtLeastOnce, Exhausted::Drop),
        (Qos::EffectivelyOnce, Exhausted::Never),
    ] {
        let settings = SubscriptionSettings { exhausted, ..by_key() };
        let mut machine = Machine::new(settings, true);
        let key = machine.offer("a:1", qos, None).0.unwrap().key;
        assert!(machine.offer("a:2", qos, None).0.is_none());
        assert!(machine.settle(key, reject()).1.wakes());
        assert_eq!(machine.ids(), ["a:2"]);
    }
    let mut machine = Machine::new(by_key(), false);
    let key = machine.offer("a:1", Qos::AtMostOnce, None).0.unwrap().key;
    assert!(machine.offer("a:2", Qos::AtMostOnce, None).0.is_none());
    assert!(machine.settle(key, retry()).1.wakes());
    assert_eq!(machine.ids(), ["a:2"], "nothing is tried again at qos 0");
}

#[test]
fn a_repetition_is_acknowledged_in_its_turn_and_lets_the_next_go_on() {
    let mut machine = Machine::new(by_key(), false);
    let qos = Qos::EffectivelyOnce;
    let first = machine.offer("a:1", qos, None).0.unwrap().key;
    for id in ["a:1", "a:1", "a:2"] {
        assert!(machine.offer(id, qos, None).0.is_none());
    }
    assert_eq!(settlements(machine.settle(first, ack()).1), [(1, Settlement::Ack)]);
    let mut actions = Actions::default();
    assert_eq!(machine.next_with(&mut actions).unwrap().event.id, "a:2");
    assert_eq!(settlements(actions), [(2, Settlement::Ack), (3, Settlement::Ack)]);
}

#[test]
fn a_repetition_under_another_key_cannot_block_both() {
    let by_topic = ordered(Order::Key(OrderBy::TopicLevel(1)));
    let mut machine = Machine::new(by_topic, false);
    let mut offer = |token, topic| {
        let incoming = Incoming {
            token: Token(token),
            event: Arc::new(Event { id: "1".into(), source: "s".into(), ..Event::default() }),
            topic: Topic::new(topic).unwrap(),
            qos: Qos::EffectivelyOnce,
            attempt: None,
            number: None,
        };
        let now = machine.now;
        machine.deliveries.offer(incoming, || now, &mut Actions::default())
    };
    let first = offer(1, "a").unwrap().key;
    assert!(offer(2, "b").is_none());
    machine.settle(first, retry()).0.unwrap();
    let second = machine.next().unwrap();
    assert_eq!(second.token, Token(2));
    machine.advance();
    assert!(machine.next().is_none());
    let (_, actions) = machine.settle(second.key, ack());
    assert_eq!(settlements(actions), [(2, Settlement::Ack), (1, Settlement::Ack)]);
    assert!(machine.deliveries.is_empty());
}

#[test]
fn a_stop_leaves_what_is_behind_to_the_broker_in_order() {
    let mut machine = Machine::new(by_key(), true);
    let key = machine.offer_1("a:1").unwrap().key;
    assert!(machine.offer_1("a:2").is_none() && machine.offer_1("a:3").is_none());
    let mut actions = Actions::default();
    machine.deliveries.stop(&mut actions);
    let uncharged = Settlement::Return { delay: Duration::ZERO, charged: false };
    assert_eq!(settlements(actions), [(2, uncharged), (3, uncharged)]);
    let charged = Settlement::Return { delay: Duration::ZERO, charged: true };
    assert_eq!(settlements(machine.settle(key, retry()).1), [(1, charged)], "without a delay");
    assert!(machine.deliveries.is_empty() && machine.deliveries.lanes.len() == 0);
}

#[test]
fn what_is_behind_counts_against_the_bound() {
    let mut machine = Machine::new(SubscriptionSettings { max_in_flight: 3, ..by_key() }, false);
    let key = machine.offer_1("a:1").unwrap().key;
    assert!(machine.offer_1("a:2").is_none() && machine.offer_1("a:3").is_none());
    assert!(!machine.deliveries.has_room());
    machine.settle(key, ack()).0.unwrap();
    assert!(machine.deliveries.has_room());
}

#[test]
fn an_isolated_event_stays_isolated_over_its_retries() {
    let mut machine = Machine::new(settings(), true);
    let key = machine.lease("1");
    machine.give_back(key, true);
    let again = machine.next().unwrap();
    assert!(settlements(machine.settle(again.key, retry()).1).is_empty());
    machine.advance();
    let again = machine.next().unwrap();
    assert!(again.isolated);
    assert_eq!(again.attempt, 2);
}

#[test]
fn what_the_filter_does_not_want_is_acknowledged_before_anything_else() {
    let filter = EventFilter::new("attributes.id = \"a:1\"").unwrap();
    let mut machine =
        Machine::new(SubscriptionSettings { event_filter: Some(filter), ..by_key() }, true);
    for qos in [Qos::AtLeastOnce, Qos::EffectivelyOnce] {
        let (handout, actions) = machine.offer("a:2", qos, None);
        let token = machine.tokens;
        assert!(handout.is_none());
        assert_eq!(settlements(actions), [(token, Settlement::Ack)]);
    }
    let (handout, actions) = machine.offer("a:2", Qos::AtMostOnce, None);
    assert!(handout.is_none() && !actions.settles(), "at qos 0 it is settled already");
    assert_eq!(actions.freed(), "a:2".len() + 10 + 1 + 1);
    assert!(machine.offer_1("a:1").is_some(), "nothing is in its way");
    let stats = machine.deliveries.stats();
    assert_eq!((stats.filtered, stats.received, stats.acked), (3, 1, 0));
}
