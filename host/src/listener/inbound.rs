//! What a client publishes.

use super::connection::Client;
use super::encode::{self, Answer};
use super::hub::{Hub, Outgoing, Submitting, topic_of};
use super::packets::Received;
use super::promised::Next;
use super::reason::{Fault, Reason};
use crate::broker::driver::Submitted;
use crate::broker::{BrokerError, Qos, Topic};
use crate::mqtt::{Packet, Protocol};
use futures_util::future::poll_fn;
use futures_util::stream::{FuturesOrdered, Stream};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long the end of a connection waits for what the broker is about to take.
const ENDING_TIME_MAX: Duration = Duration::from_secs(1);

/// Publishes that the broker has not taken, in the order in which they came.
#[derive(Default)]
pub(super) struct Inbound {
    /// Their places are settled.
    submitted: FuturesOrdered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// The next one: its place is about to be.
    submitting: Option<(Submitting, Answering)>,
    waiting: VecDeque<Job>,
    bytes: usize,
}

struct Job {
    outgoing: Outgoing,
    answering: Answering,
}

/// What is needed for the answer to a publish.
#[derive(Clone, Copy)]
struct Answering {
    id: u16,
    qos: Qos,
    size: usize,
    /// What to answer where it went well.
    reason: Reason,
}

/// A publish that is over.
struct Done {
    answering: Answering,
    result: Result<(), BrokerError>,
}

impl Inbound {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.submitted.len() + usize::from(self.submitting.is_some()) + self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Settles the places of those that wait, one after the other.
    fn poll_submitting(&mut self, cx: &mut Context<'_>, hub: &Hub) {
        loop {
            if self.submitting.is_none() {
                let Some(Job { outgoing, answering }) = self.waiting.pop_front() else { return };
                self.submitting = Some((hub.submit(outgoing), answering));
            }
            let Some((submitting, answering)) = &mut self.submitting else { return };
            let Poll::Ready(submitted) = submitting.as_mut().poll(cx) else { return };
            let answering = *answering;
            self.submitting = None;
            self.submitted.push_back(Box::pin(async move {
                let result = match submitted {
                    Ok(submitted) => submitted.stored().await,
                    Err(error) => Err(error),
                };
                Done { answering, result }
            }));
        }
    }

    /// The first one that is over.
    fn poll(&mut self, cx: &mut Context<'_>, hub: &Hub) -> Poll<Option<Done>> {
        self.poll_submitting(cx, hub);
        Pin::new(&mut self.submitted).poll_next(cx)
    }
}

impl Client {
    /// Takes a PUBLISH of the client.
    pub(super) async fn publish(&mut self, packet: Packet) -> Result<(), Fault> {
        self.published += 1;
        let (qos, id, retain) = (packet.qos, packet.id, packet.retain);
        let topic = match &self.last_topic {
            Some(topic) if topic.as_str().as_bytes() == packet.topic => topic.clone(),
            _ => match topic_of(&packet, self.hub.settings.limits.levels_max) {
                Some(topic) => self.last_topic.insert(topic).clone(),
                None if packet.topic.starts_with(b"$share/") => {
                    self.answer(qos, id, Reason::NOT_AUTHORIZED);
                    return Ok(());
                }
                None => {
                    return Err(Fault::new(Reason::TOPIC_NAME_INVALID, "no topic to publish to"));
                }
            },
        };
        if is_ours(&topic) || !self.rights.may_publish(&topic) {
            self.answer(qos, id, Reason::NOT_AUTHORIZED);
            return Ok(());
        }
        let bad_text = packet.properties.payload_format == Some(1)
            && std::str::from_utf8(&packet.payload).is_err();
        if bad_text {
            if qos == Qos::AtMostOnce {
                return Err(Fault::new(
                    Reason::PAYLOAD_FORMAT_INVALID,
                    "a payload that is no text",
                ));
            }
            self.answer(qos, id, Reason::PAYLOAD_FORMAT_INVALID);
            return Ok(());
        }
        if qos == Qos::EffectivelyOnce {
            self.recording.insert(id);
        }
        let size = packet.payload.len() + packet.topic.len();
        let event = self.hub.event(self.protocol, packet);
        let mut outgoing = Outgoing::new(topic, event, qos, self.publisher.clone());
        if retain {
            let (topic, event) = (&outgoing.topic, &outgoing.event);
            let retained = self.hub.retain(topic, event, qos, Some(&self.session.client_id));
            let Some(retained) = retained else {
                self.answer(qos, id, Reason::QUOTA_EXCEEDED);
                return Ok(());
            };
            outgoing.retained = retained;
        }
        if let (Some(kept), Qos::EffectivelyOnce) = (&self.session.kept, qos) {
            // With the event, so that a crash leaves both or neither.
            outgoing.records.push(kept.received(id));
        }
        let reason = match qos == Qos::AtLeastOnce
            && self.protocol == Protocol::V5
            && self.hub.broker.has_subscribers(&outgoing.topic) == Some(false)
        {
            true => Reason::NO_MATCHING_SUBSCRIBERS,
            false => Reason::SUCCESS,
        };
        let answering = Answering { id, qos, size, reason };
        self.inbound.bytes += size;
        if self.inbound.len() > 0 {
            self.inbound.waiting.push_back(Job { outgoing, answering });
            return Ok(());
        }
        let mut submitting = self.hub.submit(outgoing);
        match poll_fn(|cx| Poll::Ready(submitting.as_mut().poll(cx))).await {
            Poll::Ready(Ok(Submitted::Done)) => self.done(Done { answering, result: Ok(()) }),
            Poll::Ready(Err(error)) => self.done(Done { answering, result: Err(error) }),
            Poll::Ready(Ok(Submitted::UnderWay(stored))) => {
                self.inbound
                    .submitted
                    .push_back(Box::pin(async move { Done { answering, result: stored.await } }));
                Ok(())
            }
            Poll::Pending => {
                self.inbound.submitting = Some((submitting, answering));
                Ok(())
            }
        }
    }

    /// Goes on with what waits. Says whether something was done.
    pub(super) fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut progressed = false;
        while let Poll::Ready(Some(done)) = self.inbound.poll(cx, &self.hub) {
            self.done(done)?;
            progressed = true;
        }
        Ok(progressed)
    }

    /// At the end of the connection: waits a moment for what is with the broker.
    pub(super) async fn finish_inbound(&mut self) {
        let all_done = poll_fn(|cx| {
            while self.inbound.len() > 0 {
                match self.poll_inbound(cx) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(_) => break,
                }
            }
            Poll::Ready(())
        });
        // What is late is given up.
        let _ = tokio::time::timeout(ENDING_TIME_MAX, all_done).await;
    }

    fn done(&mut self, done: Done) -> Result<(), Fault> {
        let Done { answering: Answering { id, qos, size, reason }, result } = done;
        self.inbound.bytes -= size;
        let reason = match &result {
            Ok(()) => reason,
            Err(BrokerError::Closed(text)) => {
                return Err(Fault::new(Reason::SERVER_SHUTTING_DOWN, text.clone()));
            }
            Err(BrokerError::InvalidTopic(_)) => Reason::TOPIC_NAME_INVALID,
            Err(BrokerError::Denied(_)) => Reason::NOT_AUTHORIZED,
            Err(BrokerError::TooLarge { .. }) => Reason::QUOTA_EXCEEDED,
            Err(_) => Reason::UNSPECIFIED,
        };
        if reason.is_failure() && self.protocol == Protocol::V4 && qos != Qos::AtMostOnce {
            // There is no other way to say it.
            let text = result.err().map(|error| error.to_string()).unwrap_or_default();
            return Err(Fault::new(reason, text));
        }
        self.answer(qos, id, reason);
        Ok(())
    }

    /// Answers a PUBLISH. MQTT 3.1.1 has no word for a refusal (section 3.3.5).
    fn answer(&mut self, qos: Qos, id: u16, reason: Reason) {
        let wire = &mut self.wire;
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                wire.machine.answered(id);
                encode::answer(self.protocol, Answer::Puback, id, reason, &mut wire.out);
            }
            Qos::EffectivelyOnce => {
                if reason.is_failure() && self.protocol == Protocol::V5 {
                    wire.machine.answered(id);
                    if let (Some(kept), true) = (&self.session.kept, self.recording.contains(&id)) {
                        kept.released(id);
                    }
                }
                self.recording.remove(&id);
                encode::answer(self.protocol, Answer::Pubrec, id, reason, &mut wire.out);
            }
        }
    }

    /// Answers what was sent a second time, unless the first time is not answered.
    pub(super) fn repeated(&mut self, id: u16) {
        if !self.recording.contains(&id) {
            let out = &mut self.wire.out;
            encode::answer(self.protocol, Answer::Pubrec, id, Reason::SUCCESS, out);
        }
    }

    /// Answers PUBREL, once it is kept: from the answer on the client may use the
    /// identifier for another event.
    pub(super) fn released(&mut self, id: u16, is_known: bool) {
        match &self.session.kept {
            Some(kept) => self.await_promise(kept.released(id), Next::Complete(id, is_known)),
            None => self.complete(id, is_known),
        }
    }

    pub(super) fn complete(&mut self, id: u16, is_known: bool) {
        let reason = if is_known { Reason::SUCCESS } else { Reason::PACKET_IDENTIFIER_NOT_FOUND };
        self.wire.machine.answered(id);
        encode::answer(self.protocol, Answer::Pubcomp, id, reason, &mut self.wire.out);
    }

    /// Leaves to the session which publishes of qos 2 the client has not released. What
    /// the broker has not taken by now was never received: the client sends it again.
    pub(super) fn leave_unreleased(&mut self) {
        let mut unreleased = self.wire.machine.take_unreleased();
        for received in &self.wire.inbox {
            if let Received::Publish(packet) = received
                && packet.qos == Qos::EffectivelyOnce
            {
                unreleased.remove(packet.id);
            }
        }
        for id in self.recording.drain() {
            unreleased.remove(id);
        }
        self.session.unreleased = unreleased;
    }
}

/// Whether only the server publishes there. Bridges say under their own names
/// whether they are there.
fn is_ours(topic: &Topic) -> bool {
    let rest = topic.as_str().strip_prefix("$SYS/");
    let bridge = |rest: &str| {
        let name = rest.strip_prefix("broker/connection/")?.strip_suffix("/state")?;
        (!name.contains('/')).then_some(())
    };
    rest.is_some_and(|rest| bridge(rest).is_none())
}
