#![allow(clippy::unwrap_used)]
use super::*;
use crate::broker::{Event, Topic};

const SETTINGS: InboxSettings =
    InboxSettings { events_max: 4, bytes_max: 10_000, strict_acks: false };

fn parcel(id: u16, name: &str) -> Parcel {
    let event = Event {
        id: name.into(),
        source: "s".into(),
        kind: "t".into(),
        data: name.to_owned().into(),
        ..Event::default()
    };
    let topic = Topic::new("t").unwrap();
    let qos = if id == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
    Parcel { id, qos, dup: false, topic, event, identified: true }
}

fn repeated(parcel: Parcel) -> Parcel {
    Parcel { dup: true, ..parcel }
}

fn at_qos2(parcel: Parcel) -> Parcel {
    Parcel { qos: Qos::EffectivelyOnce, ..parcel }
}

/// An inbox with a connection.
fn open(settings: InboxSettings) -> Inbox {
    let mut inbox = Inbox::new(settings);
    inbox.connected(false);
    inbox
}

impl Inbox {
    fn deliver(&mut self, parcel: Parcel) -> Arrival {
        let arrival = self.arrive(&parcel, || true);
        if arrival == Arrival::New {
            self.push(parcel);
        }
        arrival
    }

    fn taken(&mut self) -> Vec<Incoming> {
        let mut taken = Vec::new();
        self.take(usize::MAX, &mut taken).unwrap();
        taken
    }

    fn ids_acked(&mut self) -> Vec<u16> {
        let mut acks = Vec::new();
        self.take_acks(&mut acks);
        acks.into_iter().map(|(id, _)| id).collect()
    }

    fn confirmation(&mut self, token: Token) -> Option<Result<(), BrokerError>> {
        match self.confirm(token) {
            Err(error) => Some(Err(error)),
            Ok(None) => Some(Ok(())),
            Ok(Some(mut waiting)) => waiting.try_recv().ok(),
        }
    }

    fn reconnect(&mut self, session_present: bool) {
        self.lost();
        self.connected(session_present);
    }
}

fn names(taken: &[Incoming]) -> Vec<&str> {
    taken.iter().map(|incoming| incoming.event.id.as_str()).collect()
}

#[test]
fn events_come_in_order_and_are_acknowledged_in_the_order_of_verdicts() {
    let mut inbox = open(SETTINGS);
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(inbox.deliver(parcel(id, name)), Arrival::New);
    }
    let taken = inbox.taken();
    assert_eq!(names(&taken), ["a", "b", "c"]);
    assert!(inbox.ids_acked().is_empty());
    for n in [2, 0, 2] {
        inbox.settle(taken[n].token);
    }
    assert_eq!(inbox.ids_acked(), [3, 1]);
}

#[test]
fn strict_acknowledgements_wait_for_earlier_ones_also_over_a_reconnection() {
    let mut inbox = open(InboxSettings { strict_acks: true, ..SETTINGS });
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        inbox.deliver(parcel(id, name));
    }
    let taken = inbox.taken();
    inbox.settle(taken[1].token);
    assert!(inbox.ids_acked().is_empty());
    inbox.reconnect(true);
    inbox.settle(taken[0].token);
    assert!(inbox.ids_acked().is_empty(), "the broker has not sent them on this connection");
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(inbox.deliver(repeated(parcel(id, name))), Arrival::Known);
    }
    assert_eq!(inbox.ids_acked(), [1, 2]);
    inbox.settle(taken[2].token);
    assert_eq!(inbox.ids_acked(), [3]);
}

#[test]
fn what_the_broker_repeats_starts_no_second_delivery() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    inbox.deliver(parcel(2, "b"));
    let taken = inbox.taken();
    inbox.reconnect(true);
    assert_eq!(inbox.deliver(repeated(parcel(1, "a"))), Arrival::Known);
    assert_eq!(inbox.deliver(parcel(2, "b")), Arrival::Known, "not every broker marks it");
    assert!(inbox.taken().is_empty());
    inbox.settle(taken[0].token);
    assert_eq!(inbox.ids_acked(), [1]);
}

#[test]
fn what_was_settled_without_a_connection_is_acknowledged_once_it_is_repeated() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    let token = inbox.taken()[0].token;
    inbox.lost();
    inbox.settle(token);
    inbox.connected(true);
    assert!(inbox.ids_acked().is_empty(), "the identifier is not known on this connection yet");
    let mut waiting = inbox.confirm(token).unwrap().unwrap();
    assert_eq!(inbox.deliver(repeated(parcel(1, "a"))), Arrival::Known);
    assert_eq!(inbox.ids_acked(), [1]);
    inbox.ack_sent(1);
    assert!(waiting.try_recv().is_err(), "it is not written yet");
    inbox.flushed();
    assert_eq!(waiting.try_recv(), Ok(Ok(())));
}

#[test]
fn an_acknowledgement_that_was_lost_is_sent_again_for_the_same_event_only() {
    let settled = |inbox: &mut Inbox| {
        inbox.deliver(parcel(1, "a"));
        let token = inbox.taken()[0].token;
        inbox.settle(token);
        assert_eq!(inbox.ids_acked(), [1]);
        inbox.reconnect(true);
    };
    let mut inbox = open(SETTINGS);
    settled(&mut inbox);
    assert_eq!(inbox.deliver(repeated(parcel(1, "a"))), Arrival::Known);
    assert_eq!(inbox.ids_acked(), [1]);

    let mut inbox = open(SETTINGS);
    settled(&mut inbox);
    assert_eq!(inbox.deliver(repeated(parcel(1, "b"))), Arrival::New, "another event");

    let mut inbox = open(SETTINGS);
    settled(&mut inbox);
    let nameless = Parcel { identified: false, ..repeated(parcel(1, "a")) };
    assert_eq!(inbox.deliver(nameless), Arrival::New, "equal content is not the same event");
}

#[test]
fn an_identifier_that_is_used_anew_voids_the_old_delivery() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    let old = inbox.taken()[0].token;
    inbox.reconnect(true);
    assert_eq!(inbox.deliver(parcel(1, "b")), Arrival::New);
    inbox.settle(old);
    assert!(inbox.ids_acked().is_empty());
    assert_eq!(inbox.confirmation(old), Some(Err(BrokerError::LeaseExpired)));
    let new = inbox.taken()[0].token;
    inbox.settle(new);
    assert_eq!(inbox.ids_acked(), [1]);
}

#[test]
fn qos_2_is_confirmed_when_the_broker_releases_it() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(at_qos2(parcel(1, "a")));
    let token = inbox.taken()[0].token;
    inbox.settle(token);
    assert_eq!(inbox.ids_acked(), [1]);
    let mut waiting = inbox.confirm(token).unwrap().unwrap();
    inbox.ack_sent(1);
    inbox.flushed();
    inbox.reconnect(true);
    assert!(waiting.try_recv().is_err());
    assert_eq!(inbox.deliver(repeated(at_qos2(parcel(1, "a")))), Arrival::Known);
    assert_eq!(inbox.ids_acked(), [1], "the first one did not arrive");
    inbox.released(1);
    assert_eq!(waiting.try_recv(), Ok(Ok(())));
    assert_eq!(inbox.confirmation(token), Some(Ok(())));
    assert_eq!(inbox.deliver(at_qos2(parcel(1, "b"))), Arrival::New);
}

#[test]
fn a_lost_session_voids_tokens_and_keeps_what_is_buffered() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    let taken = inbox.taken()[0].token;
    inbox.deliver(parcel(2, "b"));
    let mut waiting = inbox.confirm(taken).unwrap().unwrap();
    inbox.reconnect(false);
    assert_eq!(waiting.try_recv(), Ok(Err(BrokerError::LeaseExpired)));
    inbox.settle(taken);
    assert_eq!(inbox.confirmation(taken), Some(Err(BrokerError::LeaseExpired)));
    let buffered = inbox.taken();
    assert_eq!(names(&buffered), ["b"], "it exists nowhere else");
    inbox.settle(buffered[0].token);
    assert_eq!(inbox.confirmation(buffered[0].token), Some(Err(BrokerError::LeaseExpired)));
    assert!(inbox.ids_acked().is_empty());
    for id in 1..=4 {
        assert_eq!(inbox.deliver(parcel(id, "new")), Arrival::New, "all room is free again");
    }
}

#[test]
fn events_and_bytes_are_bounded_until_something_is_settled() {
    let mut inbox = open(SETTINGS);
    for id in 1..=4 {
        assert_eq!(inbox.deliver(parcel(id, "x")), Arrival::New);
    }
    assert_eq!(inbox.deliver(parcel(5, "x")), Arrival::Full);
    let taken = inbox.taken();
    assert_eq!(inbox.deliver(parcel(5, "x")), Arrival::Full, "taken is not settled");
    inbox.settle(taken[0].token);
    assert_eq!(inbox.deliver(parcel(5, "x")), Arrival::New);

    let mut inbox = open(InboxSettings { bytes_max: 100, ..SETTINGS });
    let large = "x".repeat(300);
    assert_eq!(inbox.deliver(parcel(1, &large)), Arrival::New, "alone it is let in");
    assert_eq!(inbox.deliver(parcel(2, "x")), Arrival::Full);
    let token = inbox.taken()[0].token;
    inbox.settle(token);
    assert_eq!(inbox.deliver(parcel(2, "x")), Arrival::New);
    assert_eq!(inbox.deliver(parcel(3, &large)), Arrival::Full);
}

#[test]
fn at_qos_0_taking_makes_room_and_shedding_is_counted() {
    let mut inbox = open(SETTINGS);
    for _ in 0..4 {
        assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::New);
    }
    assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::Full);
    inbox.shed();
    assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::Shed);
    inbox.shed();
    assert_eq!(inbox.dropped(), 2);
    assert_eq!(inbox.deliver(parcel(1, "x")), Arrival::Full, "qos 1 is never dropped");
    let taken = inbox.taken();
    assert_eq!(inbox.confirmation(taken[0].token), Some(Ok(())));
    assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::New);
    for _ in 0..3 {
        assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::New);
    }
    assert_eq!(inbox.deliver(parcel(0, "x")), Arrival::Full, "it waits again before it is shed");
}

#[test]
fn stopping_gives_back_what_is_buffered_and_lets_the_rest_be_settled() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    let token = inbox.taken()[0].token;
    inbox.deliver(parcel(2, "b"));
    inbox.stop();
    assert!(inbox.taken().is_empty());
    assert_eq!(inbox.deliver(parcel(3, "c")), Arrival::Known);
    inbox.settle(token);
    assert_eq!(inbox.ids_acked(), [1]);
    assert!(!inbox.is_settled());
    inbox.ack_sent(1);
    assert!(inbox.is_settled());
}

#[test]
fn the_end_comes_after_what_is_buffered() {
    let mut inbox = open(SETTINGS);
    inbox.deliver(parcel(1, "a"));
    let why = BrokerError::Closed("x".into());
    inbox.end(why.clone());
    assert_eq!(names(&inbox.taken()), ["a"]);
    assert_eq!(inbox.take(1, &mut Vec::new()), Err(why));
}

/// A broker and an inbox with a bad link between them, at random. Whatever
/// happens, nothing is lost, at qos 2 nothing is handled twice, and tokens are
/// never used again.
#[test]
fn nothing_is_lost_over_any_number_of_lost_connections() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let strict_acks = random.bool();
        let qos2 = random.bool();
        let mut inbox = Inbox::new(InboxSettings { strict_acks, ..SETTINGS });
        inbox.connected(false);
        // What the broker holds: identifier, name, whether it was sent before.
        let mut sent: Vec<(u16, String, bool)> = Vec::new();
        let (mut next, mut id) = (0, 0);
        let mut handled: HashMap<String, u32> = HashMap::new();
        let mut tokens = HashSet::new();
        let mut open: Vec<Incoming> = Vec::new();
        let mut unread: VecDeque<u16> = VecDeque::new();
        let mut steps = 0;
        while handled.len() < 50 || !sent.is_empty() || !open.is_empty() {
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: it does not end");
            match random.u8(0..10) {
                0..=3 if next < 50 && sent.len() < 4 => {
                    // Identifiers are used again as soon as they are free.
                    id = (1..=6)
                        .map(|n| (id + n) % 6 + 1)
                        .find(|i| !sent.iter().any(|s| s.0 == *i))
                        .unwrap();
                    sent.push((id, format!("e{next}"), false));
                    next += 1;
                    let (id, name, dup) = sent.last_mut().unwrap();
                    *dup = true;
                    if random.u8(0..10) > 0 {
                        let mut arriving = parcel(*id, name);
                        arriving.qos = if qos2 { Qos::EffectivelyOnce } else { Qos::AtLeastOnce };
                        assert_ne!(inbox.deliver(arriving), Arrival::Full, "seed {seed}");
                    } else {
                        // Lost on the way, with the connection.
                        cut(&mut inbox, &mut sent, &mut unread, qos2);
                    }
                }
                4..=5 => {
                    for incoming in inbox.taken() {
                        assert!(tokens.insert(incoming.token), "seed {seed}: a token twice");
                        open.push(incoming);
                    }
                }
                6..=7 if !open.is_empty() => {
                    let incoming = open.swap_remove(random.usize(0..open.len()));
                    *handled.entry(incoming.event.id.clone()).or_default() += 1;
                    inbox.settle(incoming.token);
                }
                8 => {
                    unread.extend(inbox.ids_acked());
                    for _ in 0..random.usize(0..3) {
                        let Some(acked) = unread.pop_front() else { break };
                        inbox.ack_sent(acked);
                        assert!(
                            sent.iter().any(|s| s.0 == acked),
                            "seed {seed}: acked for nothing"
                        );
                        sent.retain(|s| s.0 != acked);
                        if qos2 {
                            inbox.released(acked);
                        }
                    }
                }
                9 if random.u8(0..4) == 0 => {
                    cut(&mut inbox, &mut sent, &mut unread, qos2);
                }
                _ => {}
            }
        }
        if qos2 {
            assert!(handled.values().all(|n| *n == 1), "seed {seed}: {handled:?}");
        }
    }
}

/// Loses the connection; the broker has read some of the acknowledgements, and
/// sends all the rest again.
fn cut(
    inbox: &mut Inbox,
    sent: &mut [(u16, String, bool)],
    unread: &mut VecDeque<u16>,
    qos2: bool,
) {
    unread.clear();
    inbox.lost();
    inbox.connected(true);
    for (id, name, dup) in sent.iter() {
        let mut again = parcel(*id, name);
        again.dup = *dup;
        again.qos = if qos2 { Qos::EffectivelyOnce } else { Qos::AtLeastOnce };
        assert_ne!(inbox.deliver(again), Arrival::Full);
    }
}
