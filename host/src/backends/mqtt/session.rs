//! One client at the broker over all its connections: it connects, comes back
//! when the link is lost, and stops when another client takes its place.
//!
//! The task of a session owns the event loop and does nothing but poll it.
//! What it is for, subscribing or publishing, is its [`Role`].

use super::client::{
    Client, Event, Failure, Handle, LinkControl, Plan, Protocol, Purpose, Welcome,
};
use super::settings::Version;
use crate::broker::BrokerError;
use futures_util::task::AtomicWaker;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first wait before a connection is tried again, at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A connection that the broker closes sooner than this, with nothing done on
/// it, is brief.
const BRIEF: Duration = Duration::from_secs(5);
/// So many brief connections in a row mean that another client has the same
/// identifier. MQTT 5 has a word for that, but not every broker says it.
const BRIEF_CONNECTIONS_MAX: u32 = 10;
/// The longest wait after a brief connection: two clients that fight for a
/// session are to find it out before they sleep for long.
const RETRY_BRIEF_MAX: Duration = Duration::from_secs(2);
/// So many connections in a row without an answer mean that the broker may
/// not know this version of the protocol, and not even how to say that.
const UNANSWERED_MAX: u32 = 3;
/// How long a farewell may take that nobody waits for.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// What a session does with its connection. Nothing here may block.
pub(super) trait Role: Send + 'static {
    /// Called before each look at the connection, with what to wake.
    fn prepare(&mut self, cx: &mut Context<'_>, handle: &Handle);

    /// Called when there is nothing to do but wait.
    fn idle(&mut self) {}

    /// The connection is up.
    ///
    /// # Errors
    /// What the broker offers is not enough: the session ends.
    fn up(&mut self, welcome: &Welcome, handle: &Handle) -> Result<(), BrokerError>;

    /// Something happened.
    ///
    /// # Errors
    /// The session ends.
    fn event(&mut self, event: Event) -> Result<(), BrokerError>;

    /// There is no connection: it is lost, or did not come up.
    fn down(&mut self);

    /// Called after [`down`](Self::down) where there was a connection. Whether
    /// everything that waits to be sent is to be given up: it would end the
    /// next connection as well.
    fn is_poisoned(&mut self) -> bool {
        false
    }

    /// Whether nothing is left to be sent, so that the farewell can be said.
    fn is_finished(&self) -> bool;

    /// Called before a farewell for good: the broker is to keep nothing.
    fn leave(&mut self, _handle: &Handle) {}

    /// The broker refuses the client. Whether that ends the session.
    fn refused(&mut self, why: &BrokerError) -> bool;

    /// The session has ended.
    fn ended(&mut self, why: BrokerError);
}

/// What others may ask of a session's task.
#[derive(Default)]
pub(super) struct Control {
    waker: AtomicWaker,
    dirty: AtomicBool,
    closing: AtomicBool,
    forgotten: AtomicBool,
    close: Notify,
    pub(super) link: Arc<LinkControl>,
}

impl Control {
    /// There is something for [`Role::prepare`] to do.
    pub(super) fn touch(&self) {
        if !self.dirty.swap(true, AcqRel) {
            self.waker.wake();
        }
    }

    /// Says whether there is something to do, and registers for more.
    pub(super) fn take_touched(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.dirty.swap(false, AcqRel)
    }

    /// Asks the session to end once nothing is left to be sent.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
        self.close.notify_one();
        self.dirty.store(true, Release);
        self.waker.wake();
    }

    /// The broker is to forget the session when it ends. Where it cannot be
    /// reached then, it keeps the session for its time.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    fn is_forgotten(&self) -> bool {
        self.forgotten.load(Relaxed)
    }
}

/// What all sessions with one broker find out together: which version it
/// speaks, and whether it can be reached.
pub(super) struct Choice {
    version: Version,
    found: AtomicU8,
    /// How many sessions are without a connection that had one, or tried for one.
    down: AtomicUsize,
}

impl Choice {
    pub(super) fn new(version: Version) -> Self {
        Self { version, found: AtomicU8::new(0), down: AtomicUsize::new(0) }
    }

    fn protocol(&self) -> Protocol {
        match (self.version, self.found.load(Relaxed)) {
            (Version::V3_1_1, _) | (Version::Auto, 4) => Protocol::V4,
            _ => Protocol::V5,
        }
    }

    fn found(&self, protocol: Protocol) {
        let number = if protocol == Protocol::V4 { 4 } else { 5 };
        let _ = self.found.compare_exchange(0, number, Relaxed, Relaxed);
    }

    /// A session has lost the broker. Whether it is the first.
    fn lost(&self) -> bool {
        self.down.fetch_add(1, AcqRel) == 0
    }

    /// A session has the broker back, or has ended. Whether it is the last.
    fn regained(&self) -> bool {
        self.down.fetch_sub(1, AcqRel) == 1
    }

    fn is_open(&self) -> bool {
        self.version == Version::Auto && self.found.load(Relaxed) == 0
    }
}

/// See the module.
pub(super) struct Session<R> {
    pub(super) plan: Plan,
    pub(super) role: R,
    pub(super) control: Arc<Control>,
    pub(super) choice: Arc<Choice>,
    pub(super) random: fastrand::Rng,
}

/// What is known about the way to the broker.
struct Way {
    protocol: Protocol,
    client: Client,
    handle: Handle,
    /// The broker is being told to forget an earlier process's session.
    purging: bool,
    up_since: Option<Instant>,
    /// Something was done on this connection.
    progress: bool,
    retry: Duration,
    brief: u32,
    unanswered: u32,
    /// The last thing said in the log: reached or not.
    said: Option<bool>,
    farewell: bool,
}

/// Whether a session goes on.
enum Next {
    GoOn,
    /// After the broker has taken note of a farewell.
    Leave,
    Wait,
    End,
}

impl<R: Role> Session<R> {
    /// Runs until the session ends.
    pub(super) async fn run(mut self) {
        let mut way = self.way();
        self.serve(&mut way).await;
        if way.said == Some(false) {
            self.choice.regained();
        }
        drop(way);
        self.control.link.leave().await;
    }

    async fn serve(&mut self, way: &mut Way) {
        loop {
            let next = match self.next(way).await {
                Ok(event) => self.happened(way, event).await,
                Err(failure) => self.failed(way, failure),
            };
            match next {
                Next::GoOn => {}
                Next::Leave => {
                    self.control.link.leave().await;
                    self.control.link.write_directly(false);
                }
                Next::Wait => self.wait(way).await,
                Next::End => return,
            }
            if self.control.is_closing() && way.up_since.is_none() && self.role.is_finished() {
                return;
            }
        }
    }

    fn way(&self) -> Way {
        let protocol = self.choice.protocol();
        let (client, purging) = self.client(protocol);
        Way {
            handle: client.handle(),
            protocol,
            client,
            purging,
            up_since: None,
            progress: false,
            retry: RETRY_FIRST,
            brief: 0,
            unanswered: 0,
            said: None,
            farewell: false,
        }
    }

    /// A publisher begins anew. MQTT 3.1.1 takes two connections for that: a
    /// session that begins clean ends with its connection there.
    fn client(&self, protocol: Protocol) -> (Client, bool) {
        let publisher = self.plan.purpose == Purpose::Publish;
        let purging = publisher && protocol == Protocol::V4 && !self.plan.settings.clean_session;
        (Client::new(&self.plan, protocol, publisher), purging)
    }

    fn switch(&self, way: &mut Way, protocol: Protocol) {
        way.protocol = protocol;
        (way.client, way.purging) = self.client(protocol);
        way.handle = way.client.handle();
    }

    /// The next event. The future of the event loop is never given up halfway:
    /// it would lose what it has read.
    async fn next(&mut self, way: &mut Way) -> Result<Event, Failure> {
        let (role, control) = (&mut self.role, &self.control);
        let (handle, farewell) = (&way.handle, &mut way.farewell);
        let is_up = way.up_since.is_some();
        let mut next = pin!(way.client.next());
        poll_fn(|cx| {
            role.prepare(cx, handle);
            if is_up && !*farewell && control.is_closing() && role.is_finished() {
                *farewell = true;
                control.link.write_directly(true);
                if control.is_forgotten() {
                    role.leave(handle);
                }
                let publisher = self.plan.purpose == Purpose::Publish;
                handle.disconnect(publisher || control.is_forgotten());
            }
            let polled = next.as_mut().poll(cx);
            if polled.is_pending() {
                role.idle();
            }
            polled
        })
        .await
    }

    async fn happened(&mut self, way: &mut Way, event: Event) -> Next {
        let result = match event {
            Event::Connected(_) if way.purging => {
                self.control.link.write_directly(true);
                way.handle.disconnect(true);
                Ok(())
            }
            Event::Connected(welcome) => {
                self.connected(way);
                self.role.up(&welcome, &way.handle)
            }
            event => {
                let idle = matches!(event, Event::Other | Event::AckSent(_) | Event::Subscribed(_));
                if !idle && !way.progress {
                    way.progress = true;
                    way.retry = RETRY_FIRST;
                }
                self.role.event(event)
            }
        };
        match result {
            Ok(()) => Next::GoOn,
            Err(why) => {
                self.role.ended(why);
                self.farewell(way).await;
                Next::End
            }
        }
    }

    fn connected(&mut self, way: &mut Way) {
        self.choice.found(way.protocol);
        way.up_since = Some(Instant::now());
        way.progress = false;
        way.unanswered = 0;
        let (broker, client) = (&self.plan.settings.endpoint, &self.plan.client_id);
        match way.said {
            Some(false) if self.choice.regained() => tracing::info!(%broker, "connected again"),
            _ => tracing::debug!(%broker, %client, "connected"),
        }
        way.said = Some(true);
    }

    fn failed(&mut self, way: &mut Way, failure: Failure) -> Next {
        let held = self.control.link.is_held();
        self.control.link.hold(false);
        let up_since = way.up_since.take();
        self.role.down();
        let closed = matches!(failure, Failure::Closed(_));
        match failure {
            Failure::Done if way.purging => {
                way.purging = false;
                way.client = Client::new(&self.plan, way.protocol, false);
                way.handle = way.client.handle();
                return Next::Leave;
            }
            Failure::Done => {
                self.role.ended(BrokerError::Closed("the connection was closed".to_owned()));
                return Next::End;
            }
            Failure::TakenOver => return self.taken_over(),
            Failure::Protocol if self.choice.is_open() && way.protocol == Protocol::V5 => {
                self.switch(way, Protocol::V4);
                return Next::GoOn;
            }
            Failure::Protocol => {
                let text = "the broker does not speak this version of MQTT".to_owned();
                return self.refused(way, BrokerError::Unsupported(text));
            }
            Failure::Refused(why) => return self.refused(way, why),
            Failure::PacketTooLarge => {
                self.switch(way, way.protocol);
                self.say(way, "an event was larger than the broker takes");
            }
            Failure::Unanswered(why) => {
                way.unanswered += 1;
                if self.choice.is_open() && way.unanswered.is_multiple_of(UNANSWERED_MAX) {
                    let other = match way.protocol {
                        Protocol::V5 => Protocol::V4,
                        Protocol::V4 => Protocol::V5,
                    };
                    self.switch(way, other);
                }
                self.say(way, &why);
            }
            // The broker was kept waiting here, so its silence says nothing.
            Failure::Lost(why) | Failure::Closed(why) if held => {
                let (broker, client) = (&self.plan.settings.endpoint, &self.plan.client_id);
                tracing::debug!(%broker, %client, why, "disconnected while no event is taken");
            }
            Failure::Lost(why) | Failure::Closed(why) => self.say(way, &why),
        }
        if let Some(since) = up_since {
            let brief = closed && since.elapsed() < BRIEF && !way.progress;
            way.brief = if brief { way.brief + 1 } else { 0 };
            if brief {
                way.retry = way.retry.min(RETRY_BRIEF_MAX);
            }
            if way.brief >= BRIEF_CONNECTIONS_MAX {
                return self.taken_over();
            }
        }
        if way.farewell {
            return Next::End;
        }
        if up_since.is_some() && self.role.is_poisoned() {
            self.switch(way, way.protocol);
        }
        Next::Wait
    }

    fn taken_over(&mut self) -> Next {
        let client = &self.plan.client_id;
        tracing::error!(
            broker = %self.plan.settings.endpoint, %client,
            "another client has connected under the same identifier; this one gives way"
        );
        let why = format!("another client has connected to the broker as `{client}`");
        self.role.ended(BrokerError::Closed(why));
        Next::End
    }

    fn refused(&mut self, way: &mut Way, why: BrokerError) -> Next {
        if self.role.refused(&why) {
            self.role.ended(why);
            return Next::End;
        }
        self.say(way, &why.to_string());
        Next::Wait
    }

    /// One line for each change of state of the broker, whichever session it is
    /// that sees it first.
    fn say(&self, way: &mut Way, why: &str) {
        let (broker, client) = (&self.plan.settings.endpoint, &self.plan.client_id);
        let first = way.said != Some(false) && self.choice.lost();
        match way.said {
            Some(true) if first => tracing::warn!(%broker, why, "connection lost, trying again"),
            None if first => tracing::warn!(%broker, why, "cannot reach the broker, trying again"),
            _ => tracing::debug!(%broker, %client, why, "not connected"),
        }
        way.said = Some(false);
    }

    /// Waits before the next try: a random part of a time that doubles.
    async fn wait(&mut self, way: &mut Way) {
        let delay = way.retry.mul_f64(self.random.f64());
        way.retry = (way.retry * 2).min(RETRY_MAX);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.control.close.notified() => {}
        }
    }

    /// Leaves a broker that offers too little, and its session with it.
    async fn farewell(&mut self, way: &mut Way) {
        self.control.link.write_directly(true);
        self.control.link.hold(false);
        way.handle.disconnect(true);
        let end = async { while way.client.next().await.is_ok() {} };
        let _ = tokio::time::timeout(FAREWELL_TIME_MAX, end).await;
    }
}

/// Lets a role wait for a moment within [`Role::prepare`].
pub(super) fn poll_at(
    timer: &mut Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    cx: &mut Context<'_>,
) -> bool {
    let Some(sleep) = timer else { return false };
    match sleep.as_mut().poll(cx) {
        Poll::Ready(()) => {
            *timer = None;
            true
        }
        Poll::Pending => false,
    }
}
