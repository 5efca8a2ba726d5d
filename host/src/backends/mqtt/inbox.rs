//! What a subscription has received and not settled, over all its connections.
//!
//! A plain state machine: no socket, no clock, no task. The session feeds it
//! what happens on the wire, the core takes and settles.

use super::delivery::{Delivery, State};
use super::parcel::{Arrival, Parcel, identity};
use crate::broker::driver::{Incoming, Token};
use crate::broker::{BrokerError, Qos};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The bits of a token that are the packet identifier.
const PACKET_ID_BITS: u32 = 16;

/// Limits and habits of an inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboxSettings {
    /// The most events buffered or unsettled.
    pub(super) events_max: usize,
    /// The most bytes of them; one event above it is taken alone.
    pub(super) bytes_max: usize,
    /// Acknowledgements go out in the order of receipt.
    pub(super) strict_acks: bool,
}

/// See the module.
pub(super) struct Inbox {
    settings: InboxSettings,
    /// Tells the connections apart; 0 before the first.
    connection: u64,
    connected: bool,
    stopped: bool,
    ended: Option<BrokerError>,
    tokens: u64,
    ready: VecDeque<Buffered>,
    /// What is not settled, or not known to be by the broker, by packet id.
    deliveries: HashMap<u16, Delivery>,
    /// Buffered or unsettled.
    held: Held,
    /// To be sent: packet identifiers, and how.
    acks: Vec<(u16, Qos)>,
    /// With strict acknowledgements: what was received, in order.
    order: VecDeque<Token>,
    /// Acknowledgements on their way to the link, in order, with whom being
    /// sent is enough for: at qos 1.
    sending: VecDeque<(u16, Option<Token>)>,
    /// Who was acknowledged of late on this connection. The broker may not
    /// have seen it when the connection is lost.
    acknowledged: VecDeque<(u16, u64)>,
    /// The same of the connection before this one.
    doubtful: HashMap<u16, u64>,
    /// Deliveries that the broker has forgotten, until someone asks.
    void: VecDeque<Token>,
    void_tokens: HashSet<Token>,
    waiting: HashMap<Token, Vec<oneshot::Sender<Result<(), BrokerError>>>>,
    /// Waiters whose acknowledgement is on its way to the operating system.
    nearly_sent: Vec<Token>,
    shedding: bool,
    dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    events: usize,
    bytes: usize,
}

struct Buffered {
    incoming: Incoming,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(settings: InboxSettings) -> Self {
        Self {
            settings,
            connection: 0,
            connected: false,
            stopped: false,
            ended: None,
            tokens: 0,
            ready: VecDeque::new(),
            deliveries: HashMap::new(),
            held: Held::default(),
            acks: Vec::new(),
            order: VecDeque::new(),
            sending: VecDeque::new(),
            acknowledged: VecDeque::new(),
            doubtful: HashMap::new(),
            void: VecDeque::new(),
            void_tokens: HashSet::new(),
            waiting: HashMap::new(),
            nearly_sent: Vec::new(),
            shedding: false,
            dropped: 0,
        }
    }

    // What the session says.

    /// A connection is up. Without the earlier session, the broker has
    /// forgotten what it delivered.
    pub(super) fn connected(&mut self, session_present: bool) {
        self.connection += 1;
        self.connected = true;
        if !session_present {
            self.forget();
        }
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self) {
        if !std::mem::take(&mut self.connected) {
            return;
        }
        self.acks.clear();
        // Those of the connection before are not in doubt any more: the broker
        // had all of this connection's time to repeat them.
        self.doubtful.clear();
        self.doubtful.extend(self.acknowledged.drain(..));
        let sent: Vec<Token> = self.sending.drain(..).filter_map(|(_, token)| token).collect();
        for token in sent.into_iter().chain(std::mem::take(&mut self.nearly_sent)) {
            self.answer(token, Ok(()));
        }
    }

    fn forget(&mut self) {
        let lost: Vec<Token> =
            self.deliveries.drain().map(|(_, delivery)| delivery.token).collect();
        for token in lost {
            self.answer(token, Err(BrokerError::LeaseExpired));
            self.void.push_back(token);
            self.void_tokens.insert(token);
        }
        while self.void.len() > 2 * self.settings.events_max.max(16) {
            if let Some(token) = self.void.pop_front() {
                self.void_tokens.remove(&token);
            }
        }
        // What is buffered exists nowhere else any more: it stays.
        let bytes = self.ready.iter().map(|buffered| buffered.bytes).sum();
        self.held = Held { events: self.ready.len(), bytes };
        self.order.clear();
        self.doubtful.clear();
    }

    /// Says what a packet is; see [`Arrival`]. `more` is asked last whether there
    /// is room beside that of the inbox; what it answers with yes is pushed.
    pub(super) fn arrive(&mut self, parcel: &Parcel, more: impl FnOnce() -> bool) -> Arrival {
        if self.stopped || !self.connected {
            return Arrival::Known;
        }
        if parcel.qos != Qos::AtMostOnce && self.is_known(parcel) {
            return Arrival::Known;
        }
        let room = self.held.events < self.settings.events_max
            && (self.held.events == 0
                || self.held.bytes + parcel.bytes() <= self.settings.bytes_max)
            && more();
        match (room, parcel.qos) {
            (true, _) => {
                self.shedding = false;
                Arrival::New
            }
            (false, Qos::AtMostOnce) if self.shedding => Arrival::Shed,
            (false, _) => Arrival::Full,
        }
    }

    /// Whether the broker repeats what it has sent. It has to mark that, and
    /// uses an identifier again only once it was acknowledged.
    fn is_known(&mut self, parcel: &Parcel) -> bool {
        let id = parcel.id;
        if let Some(delivery) = self.deliveries.get_mut(&id) {
            let repeated = match delivery.state {
                // It cannot have been acknowledged, so it cannot be another one,
                // unless the broker gave it to someone else in between.
                State::Unsettled | State::Unsent => parcel.dup || delivery.carries(parcel),
                State::Acknowledged => parcel.dup && delivery.carries(parcel),
            };
            if repeated {
                delivery.connection = self.connection;
                let token = delivery.token;
                match delivery.state {
                    State::Unsettled => {}
                    State::Unsent => self.acknowledge_settled(id, token),
                    State::Acknowledged => self.acknowledge(id, token),
                }
                return true;
            }
            self.discard(id);
        }
        if !parcel.identified || self.doubtful.is_empty() {
            return false;
        }
        // Acknowledged just before the connection was lost. It is the same one
        // only if its publisher calls it the same.
        let identity = identity(&parcel.event);
        if self.doubtful.remove(&id) != Some(identity) || !parcel.dup {
            return false;
        }
        self.acks.push((id, parcel.qos));
        self.remember(id, identity);
        true
    }

    /// The broker has used the identifier for another event.
    fn discard(&mut self, id: u16) {
        let Some(old) = self.deliveries.remove(&id) else { return };
        if old.state == State::Unsettled && !self.is_buffered(old.token) {
            self.release(old.bytes);
        }
        self.answer(old.token, Err(BrokerError::LeaseExpired));
        self.void.push_back(old.token);
        self.void_tokens.insert(old.token);
    }

    fn is_buffered(&self, token: Token) -> bool {
        self.ready.iter().any(|buffered| buffered.incoming.token == token)
    }

    /// Takes an event in that [`arrive`](Self::arrive) found to be new.
    pub(super) fn push(&mut self, parcel: Parcel) {
        self.tokens += 1;
        let token = Token(self.tokens << PACKET_ID_BITS | u64::from(parcel.id));
        let bytes = parcel.bytes();
        let Parcel { id, qos, topic, event, identified, .. } = parcel;
        let event = Arc::new(event);
        if qos != Qos::AtMostOnce {
            let delivery = Delivery {
                token,
                qos,
                event: event.clone(),
                topic: topic.clone(),
                identified,
                bytes,
                connection: self.connection,
                state: State::Unsettled,
            };
            self.deliveries.insert(id, delivery);
            if self.settings.strict_acks {
                self.order.push_back(token);
            }
        }
        self.held.events += 1;
        self.held.bytes += bytes;
        let incoming = Incoming { token, event, topic, qos, attempt: None, number: None };
        self.ready.push_back(Buffered { incoming, bytes });
    }

    /// Acknowledges a packet that is of no use to anyone.
    pub(super) fn reject(&mut self, id: u16, qos: Qos) {
        if qos != Qos::AtMostOnce && self.connected {
            self.acks.push((id, qos));
        }
    }

    /// Counts an event of qos 0 that found no room; those after it are dropped
    /// at once until there is some.
    pub(super) fn shed(&mut self) {
        self.shedding = true;
        self.dropped += 1;
    }

    /// What is to be acknowledged now. They leave in this order.
    pub(super) fn take_acks(&mut self, into: &mut Vec<(u16, Qos)>) {
        into.append(&mut self.acks);
    }

    /// An acknowledgement has been given to the link.
    pub(super) fn ack_sent(&mut self, id: u16) {
        if self.sending.front().is_some_and(|(sent, _)| *sent == id)
            && let Some((_, Some(token))) = self.sending.pop_front()
            && self.waiting.contains_key(&token)
        {
            self.nearly_sent.push(token);
        }
    }

    /// The link has written all that it was given.
    pub(super) fn flushed(&mut self) {
        for token in std::mem::take(&mut self.nearly_sent) {
            self.answer(token, Ok(()));
        }
    }

    /// The broker confirms an acknowledgement at qos 2.
    pub(super) fn released(&mut self, id: u16) {
        if self.deliveries.get(&id).is_some_and(|d| d.state == State::Acknowledged)
            && let Some(delivery) = self.deliveries.remove(&id)
        {
            self.answer(delivery.token, Ok(()));
        }
    }

    /// Whether the broker has yet to confirm an acknowledgement at qos 2.
    pub(super) fn awaits_release(&self) -> bool {
        self.deliveries.values().any(|delivery| delivery.state == State::Acknowledged)
    }

    /// The subscription is over.
    pub(super) fn end(&mut self, why: BrokerError) {
        self.connected = false;
        self.forget();
        for (_, waiting) in self.waiting.drain() {
            for waiter in waiting {
                let _ = waiter.send(Err(BrokerError::LeaseExpired));
            }
        }
        self.ended.get_or_insert(why);
    }

    /// Whether something is still on its way to the broker or confirmed by it.
    pub(super) fn is_settled(&self) -> bool {
        let unfinished = |d: &Delivery| d.state != State::Unsettled;
        self.acks.is_empty() && self.sending.is_empty() && !self.deliveries.values().any(unfinished)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn queued(&self) -> usize {
        self.ready.len()
    }

    // What the core says.

    /// See `Source::take`.
    pub(super) fn take(&mut self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        if self.ready.is_empty() {
            return self.ended.clone().map_or(Ok(()), Err);
        }
        for buffered in self.ready.drain(..max.min(self.ready.len())) {
            // Without a delivery there is no one to settle it.
            let id = packet_id(buffered.incoming.token);
            let unsettled =
                self.deliveries.get(&id).is_some_and(|d| d.token == buffered.incoming.token);
            if !unsettled {
                self.held.events -= 1;
                self.held.bytes -= buffered.bytes;
            }
            into.push(buffered.incoming);
        }
        Ok(())
    }

    /// See `Source::settle`.
    pub(super) fn settle(&mut self, token: Token) {
        let id = packet_id(token);
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        if delivery.token != token || delivery.state != State::Unsettled {
            return;
        }
        delivery.state = State::Unsent;
        let bytes = delivery.bytes;
        self.release(bytes);
        self.acknowledge_settled(id, token);
    }

    fn acknowledge_settled(&mut self, id: u16, token: Token) {
        if self.settings.strict_acks {
            self.acknowledge_in_order();
        } else {
            self.acknowledge(id, token);
        }
    }

    fn acknowledge_in_order(&mut self) {
        while let Some(&token) = self.order.front() {
            let id = packet_id(token);
            if self.deliveries.get(&id).is_some_and(|d| d.token == token) {
                self.acknowledge(id, token);
                if self.deliveries.get(&id).is_some_and(|d| d.state != State::Acknowledged) {
                    return;
                }
            }
            self.order.pop_front();
        }
    }

    /// Acknowledges what is settled, if this connection can.
    fn acknowledge(&mut self, id: u16, token: Token) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let sendable = self.connected && delivery.connection == self.connection;
        if !sendable || delivery.state == State::Unsettled {
            return;
        }
        self.acks.push((id, delivery.qos));
        let sent_is_enough = delivery.qos == Qos::AtLeastOnce;
        self.sending.push_back((id, sent_is_enough.then_some(token)));
        if delivery.qos == Qos::EffectivelyOnce {
            delivery.state = State::Acknowledged;
        } else if let Some(delivery) = self.deliveries.remove(&id)
            && delivery.identified
        {
            self.remember(id, identity(&delivery.event));
        }
    }

    fn remember(&mut self, id: u16, identity: u64) {
        self.acknowledged.push_back((id, identity));
        if self.acknowledged.len() > self.settings.events_max {
            self.acknowledged.pop_front();
        }
    }

    fn release(&mut self, bytes: usize) {
        self.held.events = self.held.events.saturating_sub(1);
        self.held.bytes = self.held.bytes.saturating_sub(bytes);
    }

    /// What a call of `Source::confirmed` waits for; `None` where it need not.
    pub(super) fn confirm(
        &mut self,
        token: Token,
    ) -> Result<Option<oneshot::Receiver<Result<(), BrokerError>>>, BrokerError> {
        if self.void_tokens.contains(&token) {
            return Err(BrokerError::LeaseExpired);
        }
        let id = packet_id(token);
        let pending = self.deliveries.get(&id).is_some_and(|d| d.token == token)
            || self.sending.iter().any(|(_, sending)| *sending == Some(token));
        if !pending {
            return Ok(None);
        }
        if self.ended.is_some() {
            return Err(BrokerError::LeaseExpired);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.entry(token).or_default().push(sender);
        Ok(Some(receiver))
    }

    fn answer(&mut self, token: Token, result: Result<(), BrokerError>) {
        for waiter in self.waiting.remove(&token).unwrap_or_default() {
            let _ = waiter.send(result.clone());
        }
    }

    /// See `Source::stop`. Returns the size of the events that are dropped.
    pub(super) fn stop(&mut self) -> usize {
        self.stopped = true;
        let ready = std::mem::take(&mut self.ready);
        let dropped = ready.iter().map(|buffered| buffered.incoming.event.size()).sum();
        for buffered in ready {
            let token = buffered.incoming.token;
            let id = packet_id(token);
            if self.deliveries.get(&id).is_some_and(|d| d.token == token) {
                self.deliveries.remove(&id);
            }
            self.release(buffered.bytes);
        }
        if self.settings.strict_acks {
            self.acknowledge_in_order();
        }
        dropped
    }
}

fn packet_id(token: Token) -> u16 {
    (token.0 & 0xffff) as u16
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
