//! What a client is sent.

use super::connection::Client;
use super::encode::{self, Alias, Answer, Manner};
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
        self.resend()?;
        self.send_backlog();
        let mut taken = std::mem::take(&mut self.taken);
        let mut idle = 0;
        while self.wire.unwritten() < WRITE_BYTES
            && idle < self.session.active.len()
            && let Some(key) = self.session.active.pop_front()
        {
            let Some(subscription) = self.session.subscriptions.get(key).cloned() else { continue };
            let max = match subscription.options.qos {
                Qos::AtMostOnce => TURN_EVENTS,
                _ => TURN_EVENTS.min(self.vacancy()),
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
            for incoming in taken.drain(..) {
                self.send(incoming, &subscription);
            }
        }
        self.taken = taken;
        Ok(())
    }

    /// Whether there may be something to send at once.
    pub(super) fn may_pump(&self) -> bool {
        self.wire.unwritten() < WRITE_BYTES && self.session.wake.is_set()
    }

    fn send(&mut self, incoming: Incoming, subscription: &Arc<Subscription>) {
        let size = incoming.event.size();
        let qos = incoming.qos;
        let retain = subscription.options.retain_as_published
            && incoming.event.attribute(RETAIN) == Some("true");
        let message = Message {
            topic: incoming.topic,
            event: incoming.event,
            retain,
            subscription: subscription.clone(),
            token: (qos != Qos::AtMostOnce).then_some(incoming.token),
            size,
        };
        if qos == Qos::AtMostOnce {
            subscription.share.remove(size);
        }
        self.send_message(message, qos);
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
            let message = Message {
                topic: backlog.message.topic.clone(),
                event: backlog.message.event.clone(),
                retain: true,
                subscription: backlog.subscription,
                token: None,
                size: 0,
            };
            self.send_message(message, qos);
        }
    }

    fn send_message(&mut self, message: Message, qos: Qos) {
        if qos == Qos::AtMostOnce {
            self.write(&message, qos, 0, false);
            return;
        }
        let Some(id) = self.wire.machine.begin(qos) else {
            // All identifiers are in use, which the window does not allow.
            message.settle();
            return;
        };
        if !self.write(&message, qos, id, false) {
            self.wire.machine.abandon(id, qos);
            message.settle();
            return;
        }
        self.session.sent += 1;
        let in_flight =
            InFlight { number: self.session.sent, stage: Stage::Sent(qos), message: Some(message) };
        self.session.in_flight.insert(id, in_flight);
    }

    /// Writes a PUBLISH, unless the event is of no more use or too large.
    fn write(&mut self, message: &Message, qos: Qos, id: u16, dup: bool) -> bool {
        let Ok(expiry) = self.hub.expiry(&message.event) else { return self.drop_one() };
        let alias = match self.protocol {
            Protocol::V5 => self.aliases.get(&message.topic),
            Protocol::V4 => None,
        };
        let identifiers = message.subscription.identifier;
        let manner = Manner {
            protocol: self.protocol,
            qos,
            dup,
            retain: message.retain,
            id,
            identifiers: identifiers.as_slice(),
            alias,
            expiry: if self.protocol == Protocol::V5 { expiry } else { None },
            bytes_max: self.packet_bytes_max,
        };
        let (topic, event, out) = (&message.topic, &*message.event, &mut self.wire.out);
        let is_written = if is_bare(event) && self.hub.mapping.is_plain(event) {
            encode::bare(topic, event, &manner, out)
        } else {
            match self.hub.mapping.write_served(self.protocol, topic, event, qos) {
                Ok(packet) => encode::packet(&packet, &manner, out),
                Err(error) => {
                    tracing::debug!(%topic, %error, "an event that MQTT cannot express");
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
        self.drop_one()
    }

    fn drop_one(&mut self) -> bool {
        self.dropped += 1;
        false
    }

    /// Sends again what an earlier connection has sent.
    fn resend(&mut self) -> Result<(), Fault> {
        while self.vacancy() > 0
            && self.wire.unwritten() < WRITE_BYTES
            && let Some(id) = self.resending.pop_front()
        {
            let Some(mut in_flight) = self.session.in_flight.remove(&id) else { continue };
            if !self.wire.machine.resume(id, in_flight.stage) {
                return Err(Fault::new(Reason::UNSPECIFIED, "a session that cannot go on"));
            }
            match (in_flight.stage, in_flight.message.take()) {
                (Stage::Sent(qos), Some(message)) => {
                    if !self.write(&message, qos, id, true) {
                        self.wire.machine.abandon(id, qos);
                        message.settle();
                        continue;
                    }
                    in_flight.message = Some(message);
                }
                _ => self.write_pubrel(id),
            }
            self.session.in_flight.insert(id, in_flight);
        }
        Ok(())
    }

    fn write_pubrel(&mut self, id: u16) {
        let out = &mut self.wire.out;
        encode::answer(self.protocol, Answer::Pubrel, id, Reason::SUCCESS, out);
    }

    /// PUBACK, or PUBCOMP: it is done with.
    pub(super) fn acknowledged(&mut self, id: u16) {
        if let Some(message) = self.session.in_flight.remove(&id).and_then(|sent| sent.message) {
            message.settle();
        }
    }

    /// PUBREC: from here on the client is responsible.
    pub(super) fn recorded(&mut self, id: u16, reason: Reason) {
        if reason.is_failure() {
            return self.acknowledged(id);
        }
        if let Some(in_flight) = self.session.in_flight.get_mut(&id) {
            in_flight.stage = Stage::Released;
            if let Some(message) = in_flight.message.take() {
                message.settle();
            }
        }
        self.wire.machine.release(id);
        self.write_pubrel(id);
    }
}

/// Whether nothing but the payload goes out.
fn is_bare(event: &Event) -> bool {
    event.content_type.is_none()
        && event.ordering_key.is_none()
        && event.attributes.iter().all(|(name, _)| name == RETAIN)
}
