//! One client from its CONNECT to its end: one task, which reads, writes and takes.

use super::access::Rights;
use super::entrance::Visitor;
use super::figures::{Counters, Why};
use super::hub::{Hub, publisher};
use super::inbound::Inbound;
use super::outbound::Aliases;
use super::packets::{Farewell, Received, Will};
use super::patience::Patience;
use super::promised::Promised;
use super::rate::Pace;
use super::reason::{Fault, Reason};
use super::registry::{Claim, Control};
use super::session::Session;
use super::wire::Wire;
use super::{connect, encode};
use crate::broker::Topic;
use crate::broker::driver::Incoming;
use crate::mqtt::Protocol;
use futures_util::future::poll_fn;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

/// How long a client has to take the last bytes.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// How long to look for a DISCONNECT when another connection takes the session.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(5);

/// A client that was accepted.
pub(super) struct Client {
    pub(super) hub: Arc<Hub>,
    pub(super) wire: Wire,
    pub(super) protocol: Protocol,
    pub(super) session: Box<Session>,
    pub(super) claim: Claim,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    /// The name under which it publishes.
    pub(super) publisher: Arc<str>,
    pub(super) rights: Rights,
    /// It is another broker, which does not want back what it brings.
    pub(super) is_bridge: bool,
    pub(super) will: Option<Will>,
    /// In seconds.
    pub(super) session_expiry: u32,
    /// How long it may be silent.
    pub(super) keep_alive: Option<Duration>,
    pub(super) packet_bytes_max: usize,
    /// How many events of qos 1 and 2 may be on the way to it.
    pub(super) window: u16,
    pub(super) aliases: Aliases,
    pub(super) problem_information: bool,
    pub(super) inbound: Inbound,
    /// How fast it may send.
    pub(super) pace: Pace,
    /// What goes on once something is kept.
    pub(super) promised: Promised,
    /// Publishes of qos 2 that the broker has not taken.
    pub(super) recording: HashSet<u16>,
    /// What an earlier connection has sent and is to be sent again.
    pub(super) resending: VecDeque<u16>,
    pub(super) last_topic: Option<Topic>,
    pub(super) taken: Vec<Incoming>,
    /// There is more to send, and others have their turn before.
    pub(super) is_interrupted: bool,
    pub(super) published: usize,
    pub(super) sent: usize,
    /// How often it had to wait for its rate.
    throttled: usize,
    pub(super) patience: Patience,
}

/// Why a connection ended.
pub(super) enum End {
    /// The client has gone, without a word.
    Gone,
    Farewell(Farewell),
    Fault(Fault),
    TakenOver {
        ends: bool,
        reply: oneshot::Sender<Option<Box<Session>>>,
    },
    ShutDown,
}

impl End {
    fn why(&self) -> Why {
        match self {
            Self::Gone => Why::Gone,
            Self::Farewell(farewell) if farewell.with_will => Why::WithWill,
            Self::Farewell(_) => Why::Normal,
            Self::Fault(fault) => Why::Code(fault.reason),
            Self::TakenOver { .. } => Why::Code(Reason::SESSION_TAKEN_OVER),
            Self::ShutDown => Why::Code(Reason::SERVER_SHUTTING_DOWN),
        }
    }
}

/// What a connection begins with.
pub(super) struct Start {
    pub(super) wire: Wire,
    pub(super) protocol: Protocol,
    pub(super) claim: Claim,
    pub(super) session: Box<Session>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) rights: Rights,
    pub(super) is_bridge: bool,
    pub(super) will: Option<Will>,
    pub(super) session_expiry: u32,
    pub(super) keep_alive: Option<Duration>,
    pub(super) packet_bytes_max: usize,
    pub(super) window: u16,
    pub(super) alias_max: u16,
    pub(super) problem_information: bool,
}

/// Serves a connection until it ends.
pub(super) async fn serve(hub: Arc<Hub>, wire: Wire, visitor: Visitor) {
    if let Some(start) = Box::pin(connect::accept(&hub, wire, visitor)).await {
        Box::new(Client::new(hub, start)).run().await;
    }
}

/// Lets those run whose packets came at the same time: tasks do not run in the order in
/// which their bytes came, and who subscribed before a publish expects to get it.
pub(super) async fn let_others_run() {
    let mut is_waiting = true;
    poll_fn(|cx| match std::mem::take(&mut is_waiting) {
        true => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
    .await;
}

impl Client {
    fn new(hub: Arc<Hub>, start: Start) -> Self {
        let now = Instant::now();
        Self {
            publisher: publisher(&start.session.client_id),
            pace: Pace::new(&hub.settings.limits, now),
            resending: start.session.unanswered().into(),
            hub,
            wire: start.wire,
            protocol: start.protocol,
            session: start.session,
            claim: start.claim,
            control: start.control,
            rights: start.rights,
            is_bridge: start.is_bridge,
            will: start.will,
            session_expiry: start.session_expiry,
            keep_alive: start.keep_alive,
            packet_bytes_max: start.packet_bytes_max,
            window: start.window,
            aliases: Aliases::new(start.alias_max),
            problem_information: start.problem_information,
            inbound: Inbound::default(),
            promised: Promised::default(),
            recording: HashSet::new(),
            last_topic: None,
            taken: Vec::new(),
            is_interrupted: false,
            published: 0,
            sent: 0,
            throttled: 0,
            patience: Patience::new(now),
        }
    }

    async fn run(mut self: Box<Self>) {
        let end = self.attend().await;
        if matches!(end, End::TakenOver { .. }) {
            // The client may have said goodbye before it came again.
            self.pace = Pace::default();
            let attended = tokio::time::timeout(LAST_WORDS_TIME_MAX, self.attend()).await;
            if let Ok(End::Farewell(farewell)) = attended {
                self.session_expiry = farewell.session_expiry.unwrap_or(self.session_expiry);
                self.will.take_if(|_| !farewell.with_will);
            }
        }
        Box::pin(self.finish(end)).await;
    }

    /// Serves the client until something ends it.
    async fn attend(&mut self) -> End {
        let mut sleep = Box::pin(tokio::time::sleep_until(self.next_check()));
        loop {
            match self.round(&mut sleep).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Handles what is there, sends what there is, and waits for more.
    async fn round(&mut self, sleep: &mut Pin<Box<Sleep>>) -> Result<(), End> {
        let is_publish = matches!(self.wire.inbox.front(), Some(Received::Publish(_)));
        if is_publish || self.is_interrupted {
            let_others_run().await;
        }
        let mut has_subscribed = false;
        while self.may_handle()
            && let Some(received) = self.wire.inbox.pop_front()
        {
            let is_subscribe = matches!(received, Received::Subscribe(_));
            // Each may have to look at all that is retained.
            if is_subscribe && std::mem::replace(&mut has_subscribed, true) {
                let_others_run().await;
            }
            self.handle(received).await?;
        }
        if self.wire.inbox.is_empty()
            && let Some(fault) = self.wire.fault.take()
        {
            return Err(End::Fault(fault));
        }
        self.pump().map_err(End::Fault)?;
        self.count();
        poll_fn(|cx| self.poll(cx, sleep)).await
    }

    /// Whether the client's rate lets its next packet through.
    fn may_handle(&mut self) -> bool {
        let is_publish = matches!(self.wire.inbox.front(), Some(Received::Publish(_)));
        let may = !is_publish || self.pace.admit(Instant::now);
        self.throttled += usize::from(!may);
        may
    }

    async fn handle(&mut self, received: Received) -> Result<(), End> {
        match received {
            Received::Publish(packet) => self.publish(packet).await,
            Received::Acknowledged(id) => self.acknowledged(id),
            Received::Completed(id) => self.completed(id),
            Received::Recorded(id, reason) => self.recorded(id, reason),
            Received::Released(id, is_known) => {
                self.released(id, is_known);
                Ok(())
            }
            Received::Repeated(id) => {
                self.repeated(id);
                Ok(())
            }
            Received::Subscribe(packet) => Box::pin(self.subscribe(packet)).await,
            Received::Unsubscribe(packet) => Box::pin(self.unsubscribe(&packet)).await,
            Received::Ping => {
                encode::pingresp(&mut self.wire.out);
                Ok(())
            }
            Received::Disconnect(farewell) => return Err(self.farewell(farewell)),
            Received::Connect(_) => Err(Fault::protocol("a second CONNECT")),
            Received::Early(packet) => {
                self.wire.read_again(&packet);
                Ok(())
            }
        }
        .map_err(End::Fault)
    }

    fn farewell(&self, farewell: Farewell) -> End {
        let is_longer = farewell.session_expiry.is_some_and(|seconds| seconds > 0);
        match self.session_expiry == 0 && is_longer {
            true => End::Fault(Fault::protocol("a session that was to end cannot be kept")),
            false => End::Farewell(farewell),
        }
    }

    /// Waits for anything to happen: bytes, events, the broker, another connection.
    fn poll(&mut self, cx: &mut Context<'_>, sleep: &mut Pin<Box<Sleep>>) -> Poll<Result<(), End>> {
        let mut progressed = false;
        if self.wire.has_output() {
            self.patience.waits_for_write();
            match self.wire.poll_write(cx) {
                (Poll::Ready(Err(_)), _) => return Poll::Ready(Err(End::Gone)),
                (_, true) => {
                    self.patience.written = self.wire.has_output().then(Instant::now);
                    progressed |= !self.session.active.is_empty()
                        || !self.session.backlog.is_empty()
                        || !self.resending.is_empty();
                }
                _ => {}
            }
        } else {
            self.patience.written = None;
        }
        if self.has_room() {
            let readable = self.pace.readable(Instant::now);
            match self.wire.poll_read(cx, readable) {
                Poll::Ready(Ok(Some(number))) => {
                    self.heard(number);
                    progressed = true;
                }
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => {}
            }
        }
        if self.pace.is_limited()
            && let Some(at) = self.goes_on_at()
            && at < sleep.deadline()
        {
            sleep.as_mut().reset(at);
        }
        self.session.wake.waker.register(cx.waker());
        progressed |= self.may_pump();
        if self.session.has_overflowed() {
            let text = "more events wait for the session than may";
            return Poll::Ready(Err(End::Fault(Fault::new(Reason::QUOTA_EXCEEDED, text))));
        }
        if let Poll::Ready(Some(control)) = self.control.poll_recv(cx) {
            return Poll::Ready(Err(match control {
                Control::TakeOver { ends, reply } => End::TakenOver { ends, reply },
                Control::ShutDown => End::ShutDown,
            }));
        }
        progressed |= self.poll_promised(cx);
        if self.inbound.len() == 0 {
            self.patience.published = None;
        } else {
            self.patience.waits_for_publish();
            match self.poll_inbound(cx) {
                Ok(true) => {
                    self.patience.published = (self.inbound.len() > 0).then(Instant::now);
                    progressed = true;
                }
                Ok(false) => {}
                Err(fault) => return Poll::Ready(Err(End::Fault(fault))),
            }
        }
        if sleep.as_mut().poll(cx).is_ready() {
            if let Some(end) = self.overdue() {
                return Poll::Ready(Err(end));
            }
            self.wire.tidy();
            sleep.as_mut().reset(self.next_check());
            progressed = true;
        }
        if progressed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn count(&mut self) {
        let counters = &self.hub.counters;
        let take = std::mem::take::<usize>;
        Counters::add(&counters.publishes_received, take(&mut self.published));
        Counters::add(&counters.publishes_sent, take(&mut self.sent));
        Counters::add(&counters.throttled, take(&mut self.throttled));
        Counters::add(&counters.bytes_received, take(&mut self.wire.bytes_read));
        Counters::add(&counters.bytes_sent, take(&mut self.wire.bytes_written));
    }

    /// Says goodbye, and gives the session to whom it belongs now.
    async fn finish(mut self: Box<Self>, end: End) {
        self.finish_inbound().await;
        self.count();
        self.hub.counters.ended.add(end.why());
        let client_id = self.session.client_id.clone();
        let reason = match &end {
            End::Fault(fault) => {
                tracing::debug!(%client_id, reason = fault.reason.0, text = %fault.text, "an MQTT client is disconnected");
                Some((fault.reason, Some(&*fault.text)))
            }
            End::TakenOver { .. } => Some((Reason::SESSION_TAKEN_OVER, None)),
            End::ShutDown => Some((Reason::SERVER_SHUTTING_DOWN, None)),
            End::Gone | End::Farewell(_) => None,
        };
        if let (Some((reason, text)), Protocol::V5) = (reason, self.protocol) {
            let is_wanted = self.problem_information && self.hub.settings.reason_strings;
            let text = text.filter(|_| is_wanted);
            encode::disconnect(reason, text, self.packet_bytes_max, &mut self.wire.out);
        }
        let mut will = self.will.take();
        let mut expiry = self.session_expiry;
        if let End::Farewell(farewell) = &end {
            expiry = farewell.session_expiry.unwrap_or(expiry);
            if !farewell.with_will {
                will = None;
            }
        }
        self.leave_unreleased();
        let mut wire = self.wire;
        match end {
            End::TakenOver { ends, reply } => {
                // A will that waits is not sent where the session goes on.
                if let Some(will) = will.filter(|will| ends || will.delay == 0 || expiry == 0) {
                    self.hub.publish_will(&client_id, will);
                }
                let session = match expiry {
                    0 => {
                        self.session.end();
                        None
                    }
                    _ => Some(self.session),
                };
                // Where nobody waits any more, the session ends here.
                if let Err(Some(session)) = reply.send(session) {
                    session.end();
                }
            }
            _ => leave(&self.hub, self.claim, self.session, self.control, expiry, will),
        }
        let close = poll_fn(|cx| wire.poll_close(cx));
        // Who does not take the last bytes does without.
        let _ = tokio::time::timeout(FAREWELL_TIME_MAX, close).await;
    }
}

/// Keeps or ends the session of a client that has gone.
fn leave(
    hub: &Arc<Hub>,
    claim: Claim,
    session: Box<Session>,
    mut control: mpsc::UnboundedReceiver<Control>,
    expiry: u32,
    mut will: Option<Will>,
) {
    let client_id = session.client_id.clone();
    if let Some(now) = will.take_if(|will| will.delay == 0 || expiry == 0) {
        hub.publish_will(&client_id, now);
    }
    if expiry == 0 {
        hub.registry.release(&claim);
        session.end();
        return;
    }
    let limits = &hub.settings.limits;
    let kept = limits.session_expiry_max.min(Duration::from_secs(expiry.into()));
    let mut session = session;
    if let Some(kept) = &mut session.kept {
        kept.left(hub.millis(), expiry, will.clone());
    }
    let session = hub.registry.park(&claim, session, Some(kept), will, limits.sessions_max);
    // Another connection has claimed it just now.
    if let Some(session) = session {
        match control.try_recv() {
            Ok(Control::TakeOver { reply, .. }) => {
                if let Err(Some(session)) = reply.send(Some(session)) {
                    session.end();
                }
            }
            _ => drop(session.end()),
        }
    }
}
