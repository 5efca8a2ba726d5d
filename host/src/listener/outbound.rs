//! What a client is sent.

use super::archive::Promise;
use super::connection::Client;
use super::encode::{self, Alias, Answer, Manner};
use super::figures::Counters;
use super::promised::Next;
use super::protocol::Stage;
use super::reason::{Fault, Reason};
use super::session::{InFlight, Message, Subscription};
use crate::broker::driver::Incoming;
use crate::broker::{Event, Qos, Topic};
use crate::mqtt::{Protocol, RETAIN};
use std::collections::HashMap;
use std::sync::Arc;

/// How many events are taken from a subscription before the next one has its turn.
const TURN_EVENTS: usize = 64;
/// How many subscriptions are looked at for events before other clients have their
/// turn: where many of one client overlap, each event asks all of them.
const TURN_WORK: usize = 8192;
/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// The topic aliases that a client knows.
#[derive(Default)]
pub(super) struct Aliases {
    max: u16,
    numbers: HashMap<Topic, u16>,
}

impl Aliases {
    pub(super) fn new(max: u16) -> Self {
        Self { max, numbers: HashMap::new() }
    }

    /// What stands for a topic; the first topics have one.
    fn get(&mut self, topic: &Topic) -> Option<Alias> {
        if self.max == 0 {
            return None;
        }
        if let Some(number) = self.numbers.get(topic) {
            return Some(Alias { number: *number, is_new: false });
        }
        let number = u16::try_from(self.numbers.len()).ok()?.checked_add(1)?;
        if number > self.max {
            return None;
        }
        self.numbers.insert(topic.clone(), number);
        Some(Alias { number, is_new: true })
    }

    /// Forgets one that the client was not told.
    fn forget(&mut self, topic: &Topic) {
        self.numbers.remove(topic);
    }
}

impl Client {
    /// How many more events of qos 1 and 2 may be on the way.
    fn vacancy(&self) -> usize {
        let sent = self.session.in_flight.len() - self.resending.len();
        usize::from(self.window).saturating_sub(sent)
    }

    /// Sends what there is, as far as the client and the buffer have room.
    pub(super) fn pump(&mut self) -> Result<(), Fault> {
        self.session.gather();
        self.resend();
        self.send_backlog();
        let mut taken = std::mem::take(&mut self.taken);
        let (mut idle, mut work) = (0, 0);
        while self.wire.unwritten() < WRITE_BYTES
            && work < TURN_WORK
            && idle < self.session.active.len()
            && let Some(key) = self.session.active.pop_front()
        {
            let Some(subscription) = self.session.subscriptions.get(key).cloned() else { continue };
            let each = 1 + self.session.overlaps.number(key);
            let turn = (TURN_WORK / each).clamp(1, TURN_EVENTS);
            let max = match subscription.options.qos {
                Qos::AtMostOnce => turn,
                _ => turn.min(self.vacancy()),
            };
            if max == 0 {
                self.session.active.push_back(key);
                idle += 1;
                continue;
            }
            taken.clear();
            subscription
                .source
                .take(max, &mut taken)
                .map_err(|error| Fault::new(Reason::SERVER_SHUTTING_DOWN, error.to_string()))?;
            if taken.len() == max {
                self.session.active.push_back(key);
            }
            idle = 0;
            work += each * taken.len().max(1);
            for incoming in taken.drain(..) {
                self.send(incoming, key, &subscription);
            }
        }
        self.taken = taken;
        self.is_interrupted = work >= TURN_WORK;
        Ok(())
    }

    /// Whether there may be something to send at once.
    pub(super) fn may_pump(&self) -> bool {
        self.wire.unwritten() < WRITE_BYTES && (self.is_interrupted || self.session.wake.is_set())
    }

    fn send(&mut self, incoming: Incoming, key: usize, subscription: &Arc<Subscription>) {
        let mut identifiers = Vec::new();
        let event = (&incoming.topic, incoming.number);
        let is_chosen = self.session.choose(key, event, &mut identifiers);
        let may_receive = self.rights.may_receive(&incoming.topic);
        let size = incoming.event.size();
        let qos = incoming.qos;
        let retain = subscription.options.retain_as_published
            && incoming.event.attribute(RETAIN) == Some("true");
        let message = Message {
            topic: incoming.topic,
            event: incoming.event,
            retain,
            identifiers,
            subscription: subscription.clone(),
            token: (qos != Qos::AtMostOnce).then_some(incoming.token),
            number: incoming.number,
            size,
        };
        if qos == Qos::AtMostOnce {
            subscription.share.remove(size);
        }
        let mut expected = self.session.take_expected(key, message.number);
        let may_send = may_receive && qos == Qos::EffectivelyOnce;
        if let Some(id) = expected.take_if(|_| !may_send) {
            // Under that identifier nothing more comes.
            self.session.release(id);
            self.write_pubrel(id);
        }
        match may_receive && is_chosen || expected.is_some() {
            true => self.send_message(message, qos, expected),
            false => message.settle(),
        }
    }

    /// Sends retained messages of new subscriptions.
    fn send_backlog(&mut self) {
        while self.wire.unwritten() < WRITE_BYTES
            && let Some(first) = self.session.backlog.front()
        {
            let qos = first.message.qos.min(first.subscription.options.qos);
            if qos != Qos::AtMostOnce && self.vacancy() == 0 {
                return;
            }
            let Some(backlog) = self.session.backlog.pop_front() else { return };
            let is_over = self.hub.expiry(&backlog.message.event).is_err();
            if is_over || !self.rights.may_receive(&backlog.message.topic) {
                continue;
            }
            let message = Message {
                topic: backlog.message.topic.clone(),
                event: backlog.message.event.clone(),
                retain: true,
                identifiers: backlog.subscription.identifier.into_iter().collect(),
                subscription: backlog.subscription,
                token: None,
                number: None,
                size: 0,
            };
            self.send_message(message, qos, None);
        }
    }

    /// Sends a message. `expected`: a process before has sent it under this
    /// identifier, so that the client may have it.
    fn send_message(&mut self, message: Message, qos: Qos, expected: Option<u16>) {
        if qos == Qos::AtMostOnce {
            self.write(&message, qos, 0, false);
            return;
        }
        let id = expected.unwrap_or_else(|| self.session.next_id());
        let kept = self.session.kept.as_ref().filter(|_| qos == Qos::EffectivelyOnce);
        let noted = kept.map(|kept| kept.sent(id, &message.record(false)));
        if noted.is_none() && !self.write(&message, qos, id, expected.is_some()) {
            message.settle();
            return;
        }
        self.session.sent += 1;
        let in_flight =
            InFlight { number: self.session.sent, stage: Stage::Sent(qos), message: Some(message) };
        self.session.in_flight.insert(id, in_flight);
        if let Some(noted) = noted {
            // The identifier is not to stand for another event after a crash.
            self.await_promise(noted, Next::Publish(id, expected.is_some()));
        }
    }

    /// Sends what is in flight. Where it is of no more use, a client that may have it is
    /// told to release it.
    pub(super) fn publish_kept(&mut self, id: u16, dup: bool) {
        let Some(mut in_flight) = self.session.in_flight.remove(&id) else { return };
        let (Stage::Sent(qos), Some(message)) = (in_flight.stage, in_flight.message.take()) else {
            self.session.in_flight.insert(id, in_flight);
            return;
        };
        if self.write(&message, qos, id, dup) {
            in_flight.message = Some(message);
        } else {
            message.settle();
            if !dup {
                self.forget_sent(id);
                return;
            }
            in_flight.stage = Stage::Released;
            self.write_pubrel(id);
        }
        self.session.in_flight.insert(id, in_flight);
    }

    fn forget_sent(&self, id: u16) {
        if let Some(kept) = &self.session.kept {
            kept.completed(id);
        }
    }

    /// Writes a PUBLISH, unless the event is of no more use or too large.
    fn write(&mut self, message: &Message, qos: Qos, id: u16, dup: bool) -> bool {
        let dropped = &self.hub.counters.publishes_dropped;
        let Ok(expiry) = self.hub.expiry(&message.event) else {
            Counters::add(&dropped.expired, 1);
            return false;
        };
        let alias = match self.protocol {
            Protocol::V5 => self.aliases.get(&message.topic),
            Protocol::V4 => None,
        };
        let manner = Manner {
            protocol: self.protocol,
            qos,
            dup,
            retain: message.retain,
            id,
            identifiers: &message.identifiers,
            alias,
            expiry: if self.protocol == Protocol::V5 { expiry } else { None },
            bytes_max: self.packet_bytes_max,
        };
        let (topic, event, out) = (&message.topic, &*message.event, &mut self.wire.out);
        let mut is_expressible = true;
        let is_written = if is_bare(event) && self.hub.mapping.is_plain(event) {
            encode::bare(topic, event, &manner, out)
        } else {
            match self.hub.mapping.write_served(self.protocol, topic, event, qos) {
                Ok(packet) => encode::packet(&packet, &manner, out),
                Err(error) => {
                    tracing::debug!(%topic, %error, "an event that MQTT cannot express");
                    is_expressible = false;
                    false
                }
            }
        };
        if is_written {
            self.sent += 1;
            return true;
        }
        if alias.is_some_and(|alias| alias.is_new) {
            self.aliases.forget(topic);
        }
        Counters::add(if is_expressible { &dropped.too_large } else { &dropped.inexpressible }, 1);
        false
    }

    /// Sends again what an earlier connection has sent.
    fn resend(&mut self) {
        while self.vacancy() > 0
            && self.wire.unwritten() < WRITE_BYTES
            && let Some(id) = self.resending.pop_front()
        {
            if let Some((promise, next)) = self.promise_of(id) {
                self.await_promise(promise, next);
                continue;
            }
            let Some(mut in_flight) = self.session.in_flight.remove(&id) else { continue };
            match (in_flight.stage, in_flight.message.take()) {
                (Stage::Sent(qos), Some(message)) => {
                    if !self.write(&message, qos, id, true) {
                        message.settle();
                        continue;
                    }
                    in_flight.message = Some(message);
                }
                _ => self.write_pubrel(id),
            }
            self.session.in_flight.insert(id, in_flight);
        }
    }

    /// What is to be kept, at qos 2, before something is sent again, where the session
    /// is kept: the connection before may have ended earlier.
    fn promise_of(&self, id: u16) -> Option<(Promise, Next)> {
        let kept = self.session.kept.as_ref()?;
        let next = match self.session.in_flight.get(&id)?.stage {
            Stage::Sent(Qos::EffectivelyOnce) => Next::Publish(id, true),
            Stage::Sent(_) => return None,
            Stage::Released => Next::Release(id),
        };
        Some((kept.all(), next))
    }

    pub(super) fn write_pubrel(&mut self, id: u16) {
        let out = &mut self.wire.out;
        encode::answer(self.protocol, Answer::Pubrel, id, Reason::SUCCESS, out);
    }

    /// PUBACK. One that is not asked for says nothing; the wrong one is an error.
    pub(super) fn acknowledged(&mut self, id: u16) -> Result<(), Fault> {
        match self.session.in_flight.get(&id).map(|in_flight| in_flight.stage) {
            None => Ok(()),
            Some(Stage::Sent(Qos::AtLeastOnce)) => {
                self.is_over(id);
                Ok(())
            }
            Some(_) => Err(Fault::protocol("PUBACK for a publish of qos 2")),
        }
    }

    /// PUBREC: from here on the client is responsible.
    pub(super) fn recorded(&mut self, id: u16, reason: Reason) -> Result<(), Fault> {
        let Some(in_flight) = self.session.in_flight.get_mut(&id) else {
            let (reason, out) = (Reason::PACKET_IDENTIFIER_NOT_FOUND, &mut self.wire.out);
            encode::answer(self.protocol, Answer::Pubrel, id, reason, out);
            return Ok(());
        };
        if in_flight.stage == Stage::Sent(Qos::AtLeastOnce) {
            return Err(Fault::protocol("PUBREC for a publish of qos 1"));
        }
        if reason.is_failure() {
            self.is_over(id);
            return Ok(());
        }
        in_flight.stage = Stage::Released;
        let Some(message) = in_flight.message.take() else {
            self.write_pubrel(id);
            return Ok(());
        };
        message.settle();
        match &self.session.kept {
            // With the acknowledgement, which is kept with it: the event does not come
            // again, which the client would take for another one.
            Some(kept) => {
                let noted = kept.sent(id, &message.record(true));
                self.await_promise(noted, Next::Release(id));
            }
            None => self.write_pubrel(id),
        }
        Ok(())
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, id: u16) -> Result<(), Fault> {
        match self.session.in_flight.get(&id).map(|in_flight| in_flight.stage) {
            None => Ok(()),
            Some(Stage::Released) => {
                self.is_over(id);
                Ok(())
            }
            Some(_) => Err(Fault::protocol("PUBCOMP for a publish that is not released")),
        }
    }

    fn is_over(&mut self, id: u16) {
        let Some(sent) = self.session.in_flight.remove(&id) else { return };
        if let Some(message) = &sent.message {
            message.settle();
        }
        if sent.stage != Stage::Sent(Qos::AtLeastOnce) {
            self.forget_sent(id);
        }
    }
}

/// Whether nothing but the payload goes out.
fn is_bare(event: &Event) -> bool {
    event.content_type.is_none()
        && event.ordering_key.is_none()
        && event.attributes.iter().all(|(name, _)| name == RETAIN)
}
