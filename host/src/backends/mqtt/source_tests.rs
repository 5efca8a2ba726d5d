#![allow(clippy::unwrap_used)]
use super::*;
use crate::backends::mqtt::client::Properties;
use crate::backends::mqtt::settings::Format;
use crate::broker::Budget;

/// The size of an event of [`packet`], roughly.
const SIZE: usize = 1000;

fn packet(id: u16) -> Packet {
    Packet {
        topic: "t".into(),
        payload: vec![1; SIZE].into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        dup: false,
        id,
        properties: Properties::default(),
    }
}

/// A subscription of one budget with others, connected.
fn open(budget: &Arc<Budget>) -> (Subscriber, MqttSource) {
    let request = SubscribeRequest {
        label: "label".into(),
        filter: TopicFilter::new("t").unwrap(),
        group: None,
        qos: Qos::AtLeastOnce,
        order: crate::broker::Order::None,
        event_filter: None,
        start: crate::broker::Start::New,
        is_temporary: false,
        max_in_flight: 10,
        max_in_flight_bytes: 100 * SIZE,
        group_max_in_flight: None,
        share: Share::new(budget),
        backlog_bound: None,
        not_from: None,
        ready: Ready(Arc::new(|| {})),
    };
    let mapping = Arc::new(Mapping::new(Format::Raw, "test".into(), 1));
    let control = Arc::new(Control::default());
    let (subscriber, source, _) = subscription(&request, mapping, 1 << 20, false, control);
    subscriber.shared.inbox.lock().connected(false);
    (subscriber, source)
}

/// Two subscriptions that hold one event each, and wait for room for another in
/// this order; and what gives back what is held for the first event of a third.
fn waiting() -> (Arc<Budget>, [(Subscriber, MqttSource); 2], impl FnOnce()) {
    let budget = Budget::new(3 * SIZE + SIZE / 2);
    let third = Share::new(&budget);
    assert!(third.try_add(SIZE));
    let mut both = [open(&budget), open(&budget)];
    for (subscriber, _) in &mut both {
        subscriber.arrive(packet(1));
    }
    for (subscriber, _) in &mut both {
        subscriber.arrive(packet(2));
        assert_eq!((subscriber.parked.len(), subscriber.shared.inbox.lock().queued()), (1, 1));
    }
    (budget, both, move || third.remove(SIZE))
}

fn is_served((subscriber, _): &(Subscriber, MqttSource)) -> bool {
    subscriber.shared.share.is_served()
}

#[test]
fn a_connection_that_is_lost_keeps_no_place_in_the_line() {
    let (_budget, [mut first, second], make_room) = waiting();
    first.0.down();
    make_room();
    assert!(!is_served(&first) && is_served(&second));
}

#[test]
fn a_connection_that_is_lost_keeps_no_room_that_was_given() {
    let (budget, [mut first, second], make_room) = waiting();
    make_room();
    assert!(is_served(&first) && !is_served(&second));
    let full = budget.bytes_used();
    first.0.down();
    assert!(!is_served(&first) && is_served(&second));
    assert_eq!(budget.bytes_used(), full);
}

#[test]
fn a_session_that_has_ended_keeps_no_place_in_the_line() {
    let (_budget, [mut first, second], make_room) = waiting();
    first.0.ended(BrokerError::Closed("the broker refuses".into()));
    make_room();
    assert!(!is_served(&first) && is_served(&second));
}
