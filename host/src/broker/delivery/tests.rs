#![allow(clippy::unwrap_used, clippy::panic)]

mod order;

use super::*;
use crate::broker::driver::Settlement;
use crate::broker::{DedupeWindow, EventFilter, Order, OrderBy, RetryPolicy, TopicFilter};
use std::collections::HashMap;

const SECOND: Duration = Duration::from_secs(1);

/// The state machine with a clock of its own.
struct Machine {
    deliveries: Deliveries,
    now: Instant,
    tokens: u64,
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings {
        max_in_flight: 4,
        retry: RetryPolicy { max_attempts: Some(3), backoff: SECOND, backoff_max: 10 * SECOND },
        exhausted: Exhausted::DeadLetter(Topic::new("dead").unwrap()),
        ..SubscriptionSettings::new(TopicFilter::new("t").unwrap())
    }
}

fn ack() -> Verdict {
    Verdict::Ack
}

fn retry() -> Verdict {
    Verdict::Retry { after: None, reason: "failed".into() }
}

fn reject() -> Verdict {
    Verdict::Reject { reason: "bad".into() }
}

impl Machine {
    fn new(settings: SubscriptionSettings, broker_returns: bool) -> Self {
        let rng = fastrand::Rng::with_seed(1);
        let deliveries = Deliveries::new(Arc::new(settings), broker_returns, rng);
        Self { deliveries, now: Instant::now(), tokens: 0 }
    }

    /// Delivers an event with a new token. What stands before a colon in its id
    /// is its ordering key.
    fn offer(&mut self, id: &str, qos: Qos, attempt: Option<u32>) -> (Option<Handout>, Actions) {
        self.tokens += 1;
        let event = Event {
            id: id.into(),
            source: "s".into(),
            data: vec![0; 10].into(),
            ordering_key: id.split_once(':').map(|(key, _)| key.to_owned()),
            ..Event::default()
        };
        let topic = Topic::new("t").unwrap();
        let (token, event) = (Token(self.tokens), Arc::new(event));
        let (mut actions, now) = (Actions::default(), self.now);
        let incoming = Incoming { token, event, topic, qos, attempt, number: None };
        let handout = self.deliveries.offer(incoming, || now, &mut actions);
        (handout, actions)
    }

    fn lease(&mut self, id: &str) -> SlotKey {
        self.offer(id, Qos::AtLeastOnce, None).0.unwrap().key
    }

    fn settle(&mut self, key: SlotKey, verdict: Verdict) -> (Result<(), BrokerError>, Actions) {
        let (mut actions, now) = (Actions::default(), self.now);
        let result = self.deliveries.settle(key, verdict, None, || now, &mut actions);
        (result, actions)
    }

    fn give_back(&mut self, key: SlotKey, isolate: bool) -> Actions {
        let (mut actions, now) = (Actions::default(), self.now);
        self.deliveries.give_back(key, isolate, || now, &mut actions);
        actions
    }

    fn next(&mut self) -> Option<Handout> {
        self.next_with(&mut Actions::default())
    }

    fn next_with(&mut self, actions: &mut Actions) -> Option<Handout> {
        let now = self.now;
        self.deliveries.next_held(|| now, actions)
    }

    fn tick(&mut self) -> (Option<Instant>, Actions) {
        let mut actions = Actions::default();
        (self.deliveries.tick(self.now, &mut actions), actions)
    }

    /// Goes to the time that the machine asks for, and says what happens then.
    fn advance(&mut self) -> Actions {
        self.now = self.tick().0.unwrap();
        self.tick().1
    }

    fn done(&mut self, key: SlotKey, stored: bool) -> Actions {
        let (mut actions, now) = (Actions::default(), self.now);
        self.deliveries.dead_letter_done(key, stored, || now, &mut actions);
        actions
    }
}

fn settlements(mut actions: Actions) -> Vec<(u64, Settlement)> {
    actions.take_settlements().map(|(token, settlement)| (token.0, settlement)).collect()
}

#[test]
fn an_ack_is_passed_on_and_frees_the_slot() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.lease("a");
    assert_eq!((machine.deliveries.stats().in_flight, machine.deliveries.bytes), (1, 12));
    let (result, actions) = machine.settle(key, ack());
    assert_eq!((result, settlements(actions)), (Ok(()), vec![(1, Settlement::Ack)]));
    assert!(machine.deliveries.is_empty() && machine.deliveries.bytes == 0);
    let (result, actions) = machine.settle(key, ack());
    assert_eq!(result, Err(BrokerError::LeaseExpired));
    assert!(actions.is_empty());
}

#[test]
fn a_retry_waits_unacknowledged_and_is_charged() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.lease("a");
    let (_, actions) = machine.settle(key, retry());
    assert!(actions.rearms() && settlements(actions).is_empty());
    assert!(machine.next().is_none());
    assert!(machine.advance().wakes());
    let again = machine.next().unwrap();
    assert_eq!((again.attempt, again.token), (2, Token(1)));

    let after = Verdict::Retry { after: Some(3600 * SECOND), reason: String::new() };
    machine.settle(again.key, after).0.unwrap();
    let before = machine.now;
    machine.advance();
    assert_eq!(machine.now - before, 3600 * SECOND);
    assert_eq!(machine.next().unwrap().attempt, 3);
}

#[test]
fn a_retry_is_returned_where_the_broker_counts() {
    let mut machine = Machine::new(settings(), true);
    let handout = machine.offer("a", Qos::AtLeastOnce, Some(2)).0.unwrap();
    assert_eq!(handout.attempt, 2);
    let (_, actions) = machine.settle(handout.key, retry());
    let [(1, Settlement::Return { delay, charged: true })] = settlements(actions)[..] else {
        panic!("it was not returned");
    };
    assert!(delay <= 2 * SECOND && machine.deliveries.is_empty());
}

#[test]
fn an_exhausted_event_is_acknowledged_once_its_dead_letter_is_stored() {
    for verdict in [retry(), reject()] {
        let mut machine = Machine::new(settings(), false);
        let key = machine.offer("a", Qos::AtLeastOnce, Some(3)).0.unwrap().key;
        let mut letters = machine.settle(key, verdict).1.take_dead_letters();
        let letter = letters.pop().unwrap();
        assert_eq!(letter.event.attribute("deadletterattempts"), Some("3"));
        assert_eq!(letter.qos, Qos::AtLeastOnce);

        let actions = machine.done(letter.key, false);
        assert!(settlements(actions).is_empty());
        assert!(machine.next().is_none() && machine.deliveries.stats().waiting == 1);
        let again = machine.advance().take_dead_letters().pop().unwrap();
        assert!(machine.next().is_none(), "it was handed out again");
        let actions = machine.done(again.key, true);
        assert_eq!(settlements(actions), [(1, Settlement::Ack)]);
        assert_eq!(machine.deliveries.stats().dead_lettered, 1);
        assert!(machine.deliveries.is_empty());
    }
}

#[test]
fn without_a_dead_letter_topic_events_are_dropped_or_tried_on() {
    let drop = SubscriptionSettings { exhausted: Exhausted::Drop, ..settings() };
    let mut machine = Machine::new(drop, false);
    let key = machine.offer("a", Qos::AtLeastOnce, Some(3)).0.unwrap().key;
    let mut actions = machine.settle(key, retry()).1;
    assert_eq!(actions.take_given_up()[0].reason, "failed");
    assert_eq!(settlements(actions), [(1, Settlement::Ack)]);

    let never = SubscriptionSettings { exhausted: Exhausted::Never, ..settings() };
    let mut machine = Machine::new(never, false);
    let key = machine.offer("a", Qos::AtLeastOnce, Some(3)).0.unwrap().key;
    assert!(settlements(machine.settle(key, retry()).1).is_empty());
    machine.advance();
    let key = machine.next().unwrap().key;
    assert_eq!(settlements(machine.settle(key, reject()).1), [(1, Settlement::Ack)]);
    let stats = machine.deliveries.stats();
    assert_eq!((stats.rejected, stats.dropped, stats.acked), (1, 1, 0));
}

#[test]
fn at_qos_0_no_verdict_reaches_the_broker_and_nothing_is_tried_again() {
    for verdict in [ack(), retry()] {
        let mut machine = Machine::new(settings(), true);
        let key = machine.offer("a", Qos::AtMostOnce, None).0.unwrap().key;
        let (result, actions) = machine.settle(key, verdict);
        assert_eq!((result, settlements(actions)), (Ok(()), vec![]));
        assert!(machine.deliveries.is_empty());
    }
    let mut machine = Machine::new(settings(), true);
    let key = machine.offer("a", Qos::AtMostOnce, None).0.unwrap().key;
    let letter = machine.settle(key, reject()).1.take_dead_letters().pop().unwrap();
    assert_eq!(letter.qos, Qos::AtLeastOnce);
    assert!(settlements(machine.done(letter.key, true)).is_empty());
    assert!(machine.deliveries.is_empty());
}

#[test]
fn what_is_given_back_comes_again_first_in_order_and_uncharged() {
    let mut machine = Machine::new(settings(), false);
    let keys: Vec<_> = ["a", "b", "c"].iter().map(|id| machine.lease(id)).collect();
    for index in [1, 0, 2] {
        assert!(machine.give_back(keys[index], index == 1).wakes());
    }
    let again: Vec<_> = std::iter::from_fn(|| machine.next())
        .map(|handout| (handout.event.id.clone(), handout.attempt, handout.isolated))
        .collect();
    let expected = [("a", 1, false), ("b", 1, true), ("c", 1, false)];
    assert_eq!(again, expected.map(|(id, attempt, isolated)| (id.to_owned(), attempt, isolated)));
}

#[test]
fn the_broker_gets_back_what_is_given_back_unless_it_is_isolated() {
    let mut machine = Machine::new(settings(), true);
    let (plain, isolated) = (machine.lease("a"), machine.lease("b"));
    let returned = Settlement::Return { delay: Duration::ZERO, charged: false };
    assert_eq!(settlements(machine.give_back(plain, false)), [(1, returned)]);
    assert_eq!(settlements(machine.give_back(isolated, true)), []);
    let again = machine.next().unwrap();
    assert!(again.isolated && again.event.id == "b");
}

#[test]
fn a_lease_expires_is_charged_and_its_verdict_comes_too_late() {
    let pull = SubscriptionSettings { ack_deadline: Some(30 * SECOND), ..settings() };
    let mut machine = Machine::new(pull, false);
    let key = machine.lease("a");
    machine.now += 29 * SECOND;
    let (mut actions, now) = (Actions::default(), machine.now);
    machine.deliveries.extend(key, 10 * SECOND, || now, &mut actions).unwrap();
    machine.now += 9 * SECOND;
    machine.tick();
    assert_eq!(machine.deliveries.stats().expired, 0);
    machine.now += SECOND;

    // The timer may be late: the lease is over all the same.
    let (result, _) = machine.settle(key, ack());
    assert_eq!(result, Err(BrokerError::LeaseExpired));
    assert_eq!(machine.deliveries.stats().expired, 1);
    let again = machine.next().unwrap();
    assert_eq!(again.attempt, 2);
    assert_eq!(machine.settle(key, ack()).0, Err(BrokerError::LeaseExpired));
    assert!(machine.advance().wakes());
    let last = machine.next().unwrap();
    assert_eq!(last.attempt, 3);
    machine.now += 30 * SECOND;
    // Nor is it given back then.
    let mut given_back = machine.give_back(last.key, false);
    let letters = given_back.take_dead_letters();
    let reason = letters[0].event.attribute("deadletterreason");
    assert_eq!(reason, Some("the acknowledgement deadline has passed"));
}

#[test]
fn an_extension_by_nothing_gives_the_event_back_as_a_failed_attempt() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.lease("a");
    let (mut actions, now) = (Actions::default(), machine.now);
    machine.deliveries.extend(key, Duration::ZERO, || now, &mut actions).unwrap();
    assert_eq!(machine.settle(key, ack()).0, Err(BrokerError::LeaseExpired));
    assert_eq!(machine.next().unwrap().attempt, 2);
}

#[test]
fn the_timer_is_armed_anew_only_for_what_is_sooner() {
    let pull = SubscriptionSettings { ack_deadline: Some(30 * SECOND), ..settings() };
    let mut machine = Machine::new(pull, false);
    let (first, actions) = machine.offer("a", Qos::AtLeastOnce, None);
    assert!(actions.rearms());
    assert_eq!(machine.tick().0, Some(machine.now + 30 * SECOND));
    machine.now += SECOND;
    assert!(!machine.offer("b", Qos::AtLeastOnce, None).1.rearms());
    machine.settle(first.unwrap().key, ack()).0.unwrap();
    machine.now += 29 * SECOND;
    assert_eq!(machine.tick().0, Some(machine.now + SECOND));
}

#[test]
fn a_repetition_is_acknowledged_without_being_handed_out() {
    let mut machine = Machine::new(settings(), false);
    let twice = Qos::EffectivelyOnce;
    let key = machine.offer("a", twice, None).0.unwrap().key;
    // While the first is handled, the second waits; then it is acknowledged too.
    assert!(machine.offer("a", twice, None).0.is_none());
    assert_eq!(machine.deliveries.stats().waiting, 1);
    let (_, actions) = machine.settle(key, ack());
    assert_eq!(settlements(actions), [(1, Settlement::Ack), (2, Settlement::Ack)]);
    let (handout, actions) = machine.offer("a", twice, None);
    assert!(handout.is_none());
    assert_eq!(settlements(actions), [(3, Settlement::Ack)]);
    // Only at qos 2, only within the window.
    assert!(machine.offer("a", Qos::AtLeastOnce, None).0.is_some());
    machine.now += DedupeWindow::default().age;
    assert!(machine.offer("a", twice, None).0.is_some());
}

#[test]
fn a_repetition_is_handed_out_when_the_first_failed() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.offer("a", Qos::EffectivelyOnce, None).0.unwrap().key;
    assert!(machine.offer("a", Qos::EffectivelyOnce, None).0.is_none());
    assert!(machine.settle(key, retry()).1.wakes());
    let second = machine.next().unwrap();
    assert_eq!(second.token, Token(2));
    // The first is due again while the second is handled, and waits for it.
    machine.advance();
    assert!(machine.next().is_none());
    let (_, actions) = machine.settle(second.key, ack());
    assert_eq!(settlements(actions), [(2, Settlement::Ack), (1, Settlement::Ack)]);
    assert!(machine.deliveries.is_empty());
}

#[test]
fn a_repetition_of_a_dead_event_waits_for_the_dead_letter() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.offer("a", Qos::EffectivelyOnce, None).0.unwrap().key;
    let letter = machine.settle(key, reject()).1.take_dead_letters().pop().unwrap();
    assert_eq!(letter.qos, Qos::EffectivelyOnce);
    let (handout, actions) = machine.offer("a", Qos::EffectivelyOnce, None);
    assert!(handout.is_none() && actions.is_empty());
    let actions = machine.done(letter.key, true);
    assert_eq!(settlements(actions), [(1, Settlement::Ack), (2, Settlement::Ack)]);
}

#[test]
fn bounds_in_events_and_bytes_hold_and_who_was_turned_away_is_woken() {
    let mut machine = Machine::new(settings(), false);
    let keys: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| machine.lease(id)).collect();
    machine.settle(keys[0], retry()).0.unwrap();
    assert!(!machine.deliveries.has_room(), "what waits for a retry counts");
    assert!(machine.settle(keys[1], ack()).1.wakes());
    assert!(!machine.settle(keys[2], ack()).1.wakes());

    let bytes = SubscriptionSettings { max_in_flight_bytes: 5, ..settings() };
    let mut machine = Machine::new(bytes, false);
    assert!(machine.deliveries.has_room());
    let key = machine.lease("larger than the bound");
    assert!(!machine.deliveries.has_room());
    assert!(machine.settle(key, ack()).1.wakes() && machine.deliveries.has_room());
}

#[test]
fn stopping_leaves_to_the_broker_what_no_taker_has() {
    for broker_returns in [false, true] {
        let mut machine = Machine::new(settings(), broker_returns);
        let (leased, isolated, dead) = (machine.lease("a"), machine.lease("b"), machine.lease("c"));
        machine.give_back(isolated, true);
        let letter = machine.settle(dead, reject()).1.take_dead_letters().pop().unwrap();

        let mut actions = Actions::default();
        machine.deliveries.stop(&mut actions);
        assert!(actions.wakes());
        let uncharged = Settlement::Return { delay: Duration::ZERO, charged: false };
        let returned = |token| if broker_returns { vec![(token, uncharged)] } else { vec![] };
        assert_eq!(settlements(actions), returned(2));
        let kept = settlements(machine.done(letter.key, false));
        assert_eq!(kept, returned(3), "a dead letter has one try after the stop");
        let left = settlements(machine.settle(leased, retry()).1);
        assert_eq!(left.len(), usize::from(broker_returns));
        assert!(machine.deliveries.is_empty());
    }
}

#[test]
fn a_dead_letter_that_waits_gets_its_last_try_at_the_stop() {
    let mut machine = Machine::new(settings(), false);
    let key = machine.lease("a");
    machine.settle(key, reject()).0.unwrap();
    machine.done(key, false);
    let mut actions = Actions::default();
    machine.deliveries.stop(&mut actions);
    assert_eq!(actions.take_dead_letters().len(), 1);
    assert_eq!(settlements(machine.done(key, true)), [(1, Settlement::Ack)]);
}

/// Random calls in random order: whatever happens, each delivery is settled at
/// most once, all are settled in the end, and the counts agree.
#[test]
fn every_delivery_is_settled_exactly_once_whatever_happens() {
    for _ in 0..300 {
        let seed = fastrand::u64(..);
        simulate(&mut fastrand::Rng::with_seed(seed), &format!("seed {seed}"));
    }
}

fn simulate(rng: &mut fastrand::Rng, seed: &str) {
    let settings = SubscriptionSettings {
        ack_deadline: rng.bool().then_some(5 * SECOND),
        order: [Order::None, Order::Key(OrderBy::EventKey), Order::All][rng.usize(..3)].clone(),
        event_filter: rng
            .bool()
            .then(|| EventFilter::new("NOT hasPrefix(attributes.id, \"0:1\")").unwrap()),
        ..settings()
    };
    let mut machine = Machine::new(settings, rng.bool());
    let broker_returns = machine.deliveries.broker_returns;
    let (mut leases, mut letters) = (Vec::new(), Vec::new());
    let mut settled = HashMap::new();
    let mut offered = 0;
    let mut at_qos_0 = 0;
    for step in 0..400 {
        let mut all = Vec::new();
        let may_take = step < 300;
        match rng.u32(0..10) {
            0..4 if may_take => {
                let mut actions = Actions::default();
                let held = machine.next_with(&mut actions);
                all.push(actions);
                if held.is_none() && machine.deliveries.has_room() {
                    let qos = Qos::from_level(rng.u8(0..3)).unwrap();
                    at_qos_0 += u64::from(qos == Qos::AtMostOnce);
                    let id = format!("{}:{}", rng.u32(0..3), rng.u32(0..20));
                    let (handout, actions) = machine.offer(&id, qos, broker_returns.then_some(1));
                    offered += 1;
                    leases.extend(handout.map(|handout| handout.key));
                    all.push(actions);
                }
                leases.extend(held.map(|handout| handout.key));
            }
            4..7 if !leases.is_empty() => {
                let key = leases.swap_remove(rng.usize(..leases.len()));
                let verdict = [ack(), ack(), retry(), reject()][rng.usize(..4)].clone();
                all.push(machine.settle(key, verdict).1);
            }
            7 if !leases.is_empty() => {
                let key = leases.swap_remove(rng.usize(..leases.len()));
                all.push(machine.give_back(key, rng.bool()));
            }
            8 if !letters.is_empty() => {
                let letter: DeadLetter = letters.swap_remove(rng.usize(..letters.len()));
                all.push(machine.done(letter.key, rng.bool()));
            }
            _ => {
                machine.now += Duration::from_millis(rng.u64(0..2000));
                all.push(machine.tick().1);
            }
        }
        for mut actions in all {
            letters.extend(actions.take_dead_letters());
            for (token, settlement) in settlements(actions) {
                assert!(settled.insert(token, settlement).is_none(), "{seed}: {token} twice");
            }
        }
        let stats = machine.deliveries.stats();
        assert!(stats.in_flight + stats.waiting <= 4, "{seed}: {stats:?}");
        let bytes: usize = machine.deliveries.slots.iter().map(|(_, held)| held.size).sum();
        assert_eq!(machine.deliveries.bytes, bytes, "{seed}");
        order::assert_in_order(&machine.deliveries, seed);
        let leased = machine.deliveries.slots.iter();
        let leased = leased.filter(|(_, held)| matches!(held.state, State::Leased { .. }));
        assert_eq!(leased.count(), stats.in_flight, "{seed}");
    }
    // The end: with the verdicts that are left nothing may remain.
    let mut actions = Actions::default();
    machine.deliveries.stop(&mut actions);
    letters.extend(actions.take_dead_letters());
    let mut last = settlements(actions);
    for key in leases {
        last.extend(settlements(machine.settle(key, ack()).1));
    }
    for letter in letters {
        last.extend(settlements(machine.done(letter.key, true)));
    }
    for (token, settlement) in last {
        assert!(settled.insert(token, settlement).is_none(), "{seed}: {token} twice at the end");
    }
    assert!(machine.deliveries.is_empty(), "{seed}: {:?}", machine.deliveries.stats());
    assert_eq!(machine.deliveries.lanes.len(), 0, "{seed}");
    // What the core held for a broker that cannot take it back stays unsettled.
    let expected = offered - at_qos_0;
    let count = settled.len() as u64;
    if broker_returns {
        assert_eq!(count, expected, "{seed}");
    } else {
        assert!(count <= expected, "{seed}");
    }
}
