//! The receiving side of a subscription: a session whose role is to subscribe,
//! and the handle on it that the core holds.

use super::client::{Event, Handle, Packet, Protocol, Welcome};
use super::inbox::{Inbox, InboxSettings};
use super::parcel::{Arrival, Parcel};
use super::session::{Control, Role, poll_at};
use crate::broker::driver::{
    Incoming, Parting, Ready, Settlement, Source, SubscribeRequest, Token,
};
use crate::broker::{BrokerError, Qos, Share, Topic, TopicFilter};
use crate::mqtt::Mapping;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;

/// How long an event of qos 0 waits for room before it is dropped. Shorter
/// bursts than this are held up in the broker and on the way.
const QOS0_WAIT_MAX: Duration = Duration::from_millis(100);
/// How long the farewell of a subscription that ends before its process may take.
const PARTING_TIME_MAX: Duration = Duration::from_secs(2);
/// How many events may find no room while the broker's word on an earlier one
/// is waited for: as many as the subscription may hold, within this range.
const PARKED_EVENTS: std::ops::RangeInclusive<usize> = 64..=1024;
/// How many events may arrive before the core hears of the first.
const NOTIFY_BATCH: usize = 16;

/// What the session and the core share.
struct Shared {
    inbox: Mutex<Inbox>,
    control: Arc<Control>,
    /// What the inbox and the core hold of the process's budget.
    share: Arc<Share>,
}

impl Shared {
    fn stop(&self) {
        let dropped = self.inbox.lock().stop();
        self.share.remove(dropped);
    }
}

/// What the core holds of a subscription. Dropping it ends the session, once
/// what was settled is sent.
pub(super) struct MqttSource {
    shared: Arc<Shared>,
    /// Closed when the session's task has ended.
    gone: watch::Receiver<()>,
}

/// The role of a session that subscribes.
pub(super) struct Subscriber {
    shared: Arc<Shared>,
    mapping: Arc<Mapping>,
    label: String,
    /// What is subscribed on the wire, with the group.
    wire_filter: String,
    filter: TopicFilter,
    has_group: bool,
    qos: Qos,
    packet_bytes_max: usize,
    ready: Ready,
    /// Tells `Connection::subscribe` how it went.
    opened: Option<oneshot::Sender<Result<(), BrokerError>>>,
    /// The broker has confirmed the subscription in this process.
    subscribed: bool,
    protocol: Protocol,
    /// What found no room, in order. The link is held meanwhile.
    parked: VecDeque<Parcel>,
    /// How much may be parked while the link is read on.
    parked_events_max: usize,
    parked_bytes_max: usize,
    patience: Option<Pin<Box<Sleep>>>,
    acks: Vec<(u16, Qos)>,
    arrived: usize,
    acks_sent: bool,
    topic: Option<Topic>,
    warned_of_others: bool,
    /// Goes with this.
    _gone: watch::Sender<()>,
}

/// Makes the two sides of a subscription, and what says how opening it went.
pub(super) fn subscription(
    request: &SubscribeRequest,
    mapping: Arc<Mapping>,
    packet_bytes_max: u32,
    strict_acks: bool,
    control: Arc<Control>,
) -> (Subscriber, MqttSource, oneshot::Receiver<Result<(), BrokerError>>) {
    let inbox = Inbox::new(InboxSettings {
        events_max: request.max_in_flight.max(1),
        bytes_max: request.max_in_flight_bytes,
        strict_acks,
    });
    let (share, woken) = (request.share.clone(), control.clone());
    share.on_room(Ready(Arc::new(move || woken.touch())));
    let shared = Arc::new(Shared { inbox: Mutex::new(inbox), control, share });
    let (opened, receiver) = oneshot::channel();
    let (sender, gone) = watch::channel(());
    let wire_filter = match &request.group {
        Some(group) => format!("$share/{group}/{}", request.filter),
        None => request.filter.to_string(),
    };
    let subscriber = Subscriber {
        shared: shared.clone(),
        mapping,
        label: request.label.clone(),
        wire_filter,
        filter: request.filter.clone(),
        has_group: request.group.is_some(),
        qos: request.qos,
        packet_bytes_max: packet_bytes_max as usize,
        ready: request.ready.clone(),
        opened: Some(opened),
        subscribed: false,
        protocol: Protocol::V5,
        parked: VecDeque::new(),
        parked_events_max: request
            .max_in_flight
            .clamp(*PARKED_EVENTS.start(), *PARKED_EVENTS.end()),
        parked_bytes_max: request.max_in_flight_bytes,
        patience: None,
        acks: Vec::new(),
        arrived: 0,
        acks_sent: false,
        topic: None,
        warned_of_others: false,
        _gone: sender,
    };
    (subscriber, MqttSource { shared, gone }, receiver)
}

impl Subscriber {
    fn arrive(&mut self, packet: Packet) {
        let Some(parcel) = self.unpack(packet) else { return };
        let mut inbox = self.shared.inbox.lock();
        let size = parcel.event.size();
        // What came before it may not have found room yet.
        let room = || self.parked.is_empty() && self.shared.share.try_add(size);
        match inbox.arrive(&parcel, room) {
            Arrival::Known => {
                self.shared.control.touch();
                return;
            }
            Arrival::New => inbox.push(parcel),
            Arrival::Full => {
                drop(inbox);
                self.park(parcel);
                return;
            }
            Arrival::Shed => {
                inbox.shed();
                return;
            }
        }
        drop(inbox);
        self.arrived += 1;
        if self.arrived >= NOTIFY_BATCH {
            self.notify();
        }
    }

    fn notify(&mut self) {
        self.arrived = 0;
        self.ready.notify();
    }

    /// Reads a packet, or gets rid of one that is of no use: acknowledged, as
    /// the broker would repeat it for ever.
    fn unpack(&mut self, packet: Packet) -> Option<Parcel> {
        let (id, qos, dup) = (packet.id, packet.qos, packet.dup);
        let bytes = packet.payload.len() + packet.topic.len();
        let label = &self.label;
        if bytes > self.packet_bytes_max {
            let limit = self.packet_bytes_max;
            tracing::error!(label, bytes, limit, "an event larger than the limit was discarded");
            self.discard(id, qos);
            return None;
        }
        let known = self.topic.as_ref().filter(|t| t.as_str().as_bytes() == &packet.topic[..]);
        let topic = match known {
            Some(topic) => topic.clone(),
            None => match self.accept(&packet.topic) {
                Some(topic) => self.topic.insert(topic).clone(),
                None => {
                    self.discard(id, qos);
                    return None;
                }
            },
        };
        let read = self.mapping.read(self.protocol, packet);
        Some(Parcel { id, qos, dup, topic, event: read.event, identified: read.identified })
    }

    /// A session that an earlier configuration has left at the broker may hold
    /// a subscription that is not wanted any more.
    fn accept(&mut self, topic: &[u8]) -> Option<Topic> {
        let text = std::str::from_utf8(topic).ok();
        let topic = text.and_then(|text| Topic::new(text).ok());
        let wanted = topic.filter(|topic| self.filter.matches(topic));
        if wanted.is_none() && !std::mem::replace(&mut self.warned_of_others, true) {
            tracing::warn!(
                label = self.label,
                topic = text.unwrap_or("(not UTF-8)"),
                "events that do not match the filter are discarded: this client identifier has \
                 subscribed to more before"
            );
        }
        wanted
    }

    fn discard(&mut self, id: u16, qos: Qos) {
        self.shared.inbox.lock().reject(id, qos);
        self.shared.control.touch();
    }

    fn park(&mut self, parcel: Parcel) {
        if self.patience.is_none() && parcel.qos == Qos::AtMostOnce {
            self.patience = Some(Box::pin(tokio::time::sleep(QOS0_WAIT_MAX)));
        }
        self.parked.push_back(parcel);
        self.hold();
        // A session that the broker has kept may deliver more than there is room
        // for before the answer to our subscription comes. It shows that the
        // subscription is there; what the broker grants now is seen later.
        self.open();
    }

    /// Stops reading while something found no room. What the broker says of an
    /// acknowledgement at qos 2 comes behind its events, though, and whoever waits
    /// for that may be the one who would make room.
    fn hold(&self) {
        let held = !self.parked.is_empty() && {
            let bytes: usize = self.parked.iter().map(Parcel::bytes).sum();
            let full = self.parked.len() >= self.parked_events_max || bytes > self.parked_bytes_max;
            full || !self.shared.inbox.lock().awaits_release()
        };
        self.shared.control.link.hold(held);
    }

    fn open(&mut self) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Ok(()));
        }
    }

    /// Moves in what was waiting for room, as far as there is some.
    fn unpark(&mut self, out_of_patience: bool) {
        let mut inbox = self.shared.inbox.lock();
        if out_of_patience {
            self.parked.retain(|parcel| {
                let keep = parcel.qos != Qos::AtMostOnce;
                if !keep {
                    inbox.shed();
                }
                keep
            });
        }
        while let Some(parcel) = self.parked.pop_front() {
            let size = parcel.event.size();
            match inbox.arrive(&parcel, || self.shared.share.try_add(size)) {
                Arrival::Known => {}
                Arrival::New => {
                    inbox.push(parcel);
                    self.arrived += 1;
                }
                Arrival::Shed => inbox.shed(),
                Arrival::Full => {
                    self.parked.push_front(parcel);
                    break;
                }
            }
        }
        drop(inbox);
        if self.parked.is_empty() {
            self.patience = None;
            self.shared.control.link.hold(false);
        }
    }

    fn subscribe(&self, handle: &Handle) -> Result<(), BrokerError> {
        handle.subscribe(&self.wire_filter, self.qos)
    }

    fn granted(&mut self, granted: Qos) -> Result<(), BrokerError> {
        if granted < self.qos {
            let asked = self.qos;
            return Err(BrokerError::Unsupported(format!(
                "the broker grants qos {granted} where {asked} was asked for"
            )));
        }
        self.subscribed = true;
        self.open();
        Ok(())
    }
}

impl Role for Subscriber {
    fn prepare(&mut self, cx: &mut Context<'_>, handle: &Handle) {
        let touched = self.shared.control.take_touched(cx);
        let out_of_patience = poll_at(&mut self.patience, cx);
        if (touched || out_of_patience) && !self.parked.is_empty() {
            self.unpark(out_of_patience);
        }
        if touched && self.parked.is_empty() && self.shared.share.is_served() {
            // What it waited for was dropped.
            self.shared.share.decline();
        }
        if touched {
            self.shared.inbox.lock().take_acks(&mut self.acks);
            for (id, qos) in self.acks.drain(..) {
                handle.acknowledge(id, qos);
            }
            if !self.parked.is_empty() {
                self.hold();
            }
        }
        self.shared.share.pass_on();
    }

    fn idle(&mut self) {
        if self.arrived > 0 {
            self.notify();
        }
        if self.acks_sent && self.shared.control.link.is_written() {
            self.acks_sent = false;
            self.shared.inbox.lock().flushed();
        }
    }

    fn up(&mut self, welcome: &Welcome, handle: &Handle) -> Result<(), BrokerError> {
        self.protocol = welcome.protocol;
        self.shared.inbox.lock().connected(welcome.session_present);
        let missing = match () {
            () if self.has_group && !welcome.shared_subscriptions => {
                Some("has no shared subscriptions, which `queue` needs".to_owned())
            }
            () if self.filter.has_wildcard() && !welcome.wildcard_subscriptions => {
                Some("has no wildcards".to_owned())
            }
            () if welcome.qos_max < self.qos => {
                Some(format!("has qos {} at most", welcome.qos_max))
            }
            () => None,
        };
        if let Some(missing) = missing {
            return Err(BrokerError::Unsupported(format!("the broker {missing}")));
        }
        // A session that was kept may have been made without the subscription. And
        // mosquitto forgets the shared ones of kept sessions when it restarts; they
        // bring no retained messages, so that asking again costs nothing.
        if !welcome.session_present || !self.subscribed || self.has_group {
            self.subscribe(handle)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), BrokerError> {
        match event {
            Event::Arrived(packet) => self.arrive(packet),
            Event::AckSent(id) => {
                self.shared.inbox.lock().ack_sent(id);
                self.acks_sent = true;
            }
            Event::Released(id) => {
                self.shared.inbox.lock().released(id);
                if !self.parked.is_empty() {
                    self.hold();
                }
            }
            Event::Subscribed(answer) => self.granted(answer?)?,
            _ => {}
        }
        Ok(())
    }

    fn down(&mut self) {
        self.parked.clear();
        self.patience = None;
        self.shared.inbox.lock().lost();
        // What has waited comes again with the next connection, if at all.
        self.shared.share.withdraw();
    }

    fn is_finished(&self) -> bool {
        self.shared.inbox.lock().is_settled()
    }

    /// MQTT 3.1.1 has no word for a session that is to end: without its
    /// subscription it collects nothing more.
    fn leave(&mut self, handle: &Handle) {
        handle.unsubscribe(&self.wire_filter);
    }

    /// Whoever opens a subscription wants to know; one that was open waits.
    fn refused(&mut self, _: &BrokerError) -> bool {
        self.opened.is_some()
    }

    fn ended(&mut self, why: BrokerError) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Err(why.clone()));
        }
        self.shared.inbox.lock().end(why);
        self.parked.clear();
        self.shared.share.withdraw();
        self.ready.notify();
    }
}

#[async_trait]
impl Source for MqttSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let result = self.shared.inbox.lock().take(max, into);
        // What is settled on being taken makes room.
        if self.shared.control.link.is_held() {
            self.shared.control.touch();
        }
        result
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        // The broker cannot take anything back: without an acknowledgement it
        // sends the event again with the next connection.
        if settlement == Settlement::Ack {
            self.shared.inbox.lock().settle(token);
            self.shared.control.touch();
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        let waiting = self.shared.inbox.lock().confirm(token)?;
        match waiting {
            Some(waiting) => waiting.await.unwrap_or(Err(BrokerError::LeaseExpired)),
            None => Ok(()),
        }
    }

    fn dropped(&self) -> u64 {
        self.shared.inbox.lock().dropped()
    }

    fn queued(&self) -> usize {
        self.shared.inbox.lock().queued()
    }

    fn is_connected(&self) -> bool {
        self.shared.inbox.lock().is_connected()
    }

    fn stop(&self) {
        self.shared.stop();
        self.shared.control.touch();
    }

    /// A successor finds the session, which has the same client identifier.
    fn part(&self, parting: Parting) {
        if parting == Parting::Removed {
            self.shared.control.forget();
        }
    }

    async fn parted(&self) {
        self.shared.control.close();
        let mut gone = self.gone.clone();
        let _ = tokio::time::timeout(PARTING_TIME_MAX, gone.changed()).await;
    }
}

impl Drop for MqttSource {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.control.close();
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
