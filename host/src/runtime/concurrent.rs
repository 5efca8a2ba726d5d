//! The worker of an asynchronous handler: many events at once in one instance.
//!
//! What is in flight is listed outside the instance, in [`Flights`]: when the
//! instance traps, its calls end without a result, and the list says what to
//! deliver again.

use super::component::Running;
use super::engine::EPOCH_TICK;
use super::state::State;
use super::worker::{Worker, trap_text};
use crate::broker::{Lease, Verdict};
use crate::capability::{Call, Cause, Handler, Observation, Role, Session};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use slab::Slab;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep};
use wasmtime::Result;
use wasmtime::component::{Accessor, GuestTaskId};

/// How long after a deadline an instance that does not even let its deadline be
/// noticed is given up.
const STUCK_GRACE: Duration = EPOCH_TICK.saturating_mul(5);

/// Handles events until the subscriptions end, in one instance after the other.
pub(super) async fn serve(mut worker: Worker) {
    let mut warm: Option<(Running, Handler)> = None;
    loop {
        if warm.is_none() {
            warm = worker.recover(Role::ConcurrentHandler).await;
        }
        let Ok(lease) = worker.inbox.next().await else { break };
        let Some(lease) = worker.fits(lease) else { continue };
        let (running, handler, lease) = match warm.take() {
            Some((running, handler)) => (running, handler, lease),
            None => match worker.start(Role::ConcurrentHandler, lease).await {
                Some(started) => started,
                None => continue,
            },
        };
        if serve_instance(&mut worker, running, handler, lease).await == End::Closed {
            break;
        }
    }
}

/// Why an instance handles no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The subscriptions have ended, and nothing is in flight.
    Closed,
    /// The instance is to be replaced.
    Replace,
}

async fn serve_instance(
    worker: &mut Worker,
    running: Running,
    handler: Handler,
    first: Lease,
) -> End {
    let Running { mut store, session, .. } = running;
    let flights = Arc::new(Flights::default());
    let watch = watch(Arc::clone(&flights), worker.timeout());
    let ended = {
        let dispatch = store.run_concurrent(async |accessor| {
            let mut dispatch = Dispatch::new(worker, &handler, accessor, &session, &flights);
            dispatch.alone = first.is_isolated();
            dispatch.begin(first)?;
            poll_fn(|cx| dispatch.poll(cx)).await
        });
        tokio::select! {
            ended = dispatch => Some(ended.and_then(|result| result)),
            () = watch => None,
        }
    };
    // The store goes first: nothing of it runs any more when its events are
    // delivered again.
    drop(store);
    let (reason, cause) = match ended {
        Some(Ok(end)) => return end,
        Some(Err(error)) => (format!("trapped: {}", trap_text(&error)), Cause::Trapped),
        None => (worker.timeout_text(), Cause::TimedOut),
    };
    worker.component.status.instance_failed();
    worker.fail_all(flights.take_all(), &reason, cause);
    End::Replace
}

/// One event in flight.
pub(super) struct Flight {
    pub(super) lease: Lease,
    pub(super) observation: Option<Arc<Observation>>,
    deadline: Instant,
}

/// The events in flight in one instance.
#[derive(Default)]
struct Flights {
    flights: Mutex<Slab<Flight>>,
    /// Asks the dispatch loop for a sign of life.
    ping: Notify,
    answered: Mutex<bool>,
}

impl Flights {
    fn take_all(&self) -> Vec<Flight> {
        self.flights.lock().drain().collect()
    }

    fn is_overdue(&self) -> bool {
        let now = Instant::now();
        self.flights.lock().iter().any(|(_, flight)| flight.deadline + STUCK_GRACE < now)
    }
}

/// Ends when the instance is stuck: a guest that spins keeps the dispatch loop
/// from running, and with it every timer inside.
async fn watch(flights: Arc<Flights>, timeout: Duration) {
    let check_every = (timeout / 4).clamp(EPOCH_TICK, STUCK_GRACE);
    let mut asked = Instant::now();
    *flights.answered.lock() = true;
    loop {
        tokio::time::sleep(check_every).await;
        if flights.is_overdue() {
            return;
        }
        if std::mem::replace(&mut *flights.answered.lock(), false) {
            asked = Instant::now();
            flights.ping.notify_one();
        } else if asked.elapsed() > timeout + STUCK_GRACE {
            return;
        }
    }
}

type Finished = (usize, Result<Verdict>);
type Calls<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Finished> + Send + 'a>>>;

/// The loop inside an instance: takes events, begins calls, settles them.
struct Dispatch<'a> {
    worker: &'a mut Worker,
    handler: &'a Handler,
    accessor: &'a Accessor<State>,
    session: &'a Arc<Session>,
    flights: &'a Flights,
    calls: Calls<'a>,
    /// The next question of the watch.
    ping: Pin<Box<Notified<'a>>>,
    /// Every call has the same timeout, so that they expire in the order of
    /// their beginning.
    deadlines: VecDeque<(Instant, usize, GuestTaskId)>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    timer_at: Instant,
    /// An event that must run alone, until the others are done.
    parked: Option<Lease>,
    /// An event that must run alone is running.
    alone: bool,
    /// No more events are taken: a call was abandoned, or the instance is used up.
    retiring: bool,
    closed: bool,
}

impl<'a> Dispatch<'a> {
    fn new(
        worker: &'a mut Worker,
        handler: &'a Handler,
        accessor: &'a Accessor<State>,
        session: &'a Arc<Session>,
        flights: &'a Flights,
    ) -> Self {
        let retiring = worker.is_fresh();
        let now = Instant::now();
        Self {
            worker,
            handler,
            accessor,
            session,
            flights,
            calls: FuturesUnordered::new(),
            ping: Box::pin(flights.ping.notified()),
            deadlines: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep_until(now)),
            timer_at: now,
            parked: None,
            alone: false,
            retiring,
            closed: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End>> {
        self.answer(cx);
        loop {
            while let Poll::Ready(Some((key, result))) = self.calls.poll_next_unpin(cx) {
                self.conclude(key, result?);
            }
            self.expire(cx);
            if !self.take(cx)? {
                break;
            }
        }
        if self.in_flight() > 0 || self.parked.is_some() {
            Poll::Pending
        } else if self.closed {
            Poll::Ready(Ok(End::Closed))
        } else if self.retiring {
            Poll::Ready(Ok(End::Replace))
        } else {
            Poll::Pending
        }
    }

    fn in_flight(&self) -> usize {
        self.flights.flights.lock().len()
    }

    /// Tells the watch that the loop runs, and is woken by its next question.
    fn answer(&mut self, cx: &mut Context<'_>) {
        *self.flights.answered.lock() = true;
        while self.ping.as_mut().poll(cx).is_ready() {
            self.ping.set(self.flights.ping.notified());
        }
    }

    /// Takes one event, if one may be taken and is there.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let in_flight = self.in_flight();
        if in_flight == 0 {
            self.alone = false;
            match self.parked.take() {
                Some(lease) if self.retiring => lease.give_back(true),
                Some(lease) => {
                    self.alone = true;
                    self.begin(lease)?;
                    return Ok(true);
                }
                None => {}
            }
        }
        let full = in_flight >= self.worker.component.settings.max_concurrency;
        if full || self.closed || self.retiring || self.alone || self.parked.is_some() {
            return Ok(false);
        }
        match self.worker.inbox.poll_next(cx) {
            Poll::Ready(Ok(lease)) => {
                if let Some(lease) = self.worker.fits(lease) {
                    self.admit(lease)?;
                }
                Ok(true)
            }
            Poll::Ready(Err(_)) => {
                self.closed = true;
                Ok(false)
            }
            Poll::Pending => Ok(false),
        }
    }

    fn admit(&mut self, lease: Lease) -> Result<()> {
        if lease.is_isolated() {
            self.parked = Some(lease);
            return Ok(());
        }
        self.begin(lease)
    }

    fn begin(&mut self, lease: Lease) -> Result<()> {
        let observation = self.worker.component.observe(&lease);
        let call: Result<Call<State>> = self.handler.start(self.accessor, &lease);
        let deadline = Instant::now() + self.worker.timeout();
        if let (Some(observation), Ok(call)) = (&observation, &call) {
            // No guest code has run yet: `start` only queues the call.
            self.session.observe(observation, Some(call.task()));
        }
        let key = self.flights.flights.lock().insert(Flight { lease, observation, deadline });
        let call = call?;
        let task = call.task();
        self.deadlines.push_back((deadline, key, task));
        let (handler, accessor) = (self.handler, self.accessor);
        self.calls.push(Box::pin(async move { (key, handler.finish(accessor, call).await) }));
        Ok(())
    }

    fn conclude(&mut self, key: usize, verdict: Verdict) {
        // An abandoned call has no lease any more.
        let deadline = self.deadlines.iter().position(|(_, k, _)| *k == key);
        if let Some(position) = deadline
            && let Some((_, _, task)) = self.deadlines.remove(position)
        {
            self.end(key, task, verdict, Cause::Returned);
        }
    }

    fn end(&mut self, key: usize, task: GuestTaskId, verdict: Verdict, cause: Cause) {
        let flight = self.flights.flights.lock().try_remove(key);
        let Some(Flight { lease, observation, .. }) = flight else { return };
        if let Some(observation) = observation {
            self.session.observed(Some(task));
            observation.end(Some(&verdict), cause);
        }
        self.worker.conclude(lease, verdict);
    }

    /// Gives up the calls whose time is over. The instance takes no more events,
    /// as what it still does for those calls cannot be stopped, and is replaced
    /// when the others are done.
    fn expire(&mut self, cx: &mut Context<'_>) {
        while let Some(&(deadline, key, task)) = self.deadlines.front() {
            if self.timer_at != deadline {
                self.timer.as_mut().reset(deadline);
                self.timer_at = deadline;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.deadlines.pop_front();
            self.session.abandon(task);
            self.retiring = true;
            let reason = self.worker.timeout_text();
            self.end(key, task, Verdict::Retry { after: None, reason }, Cause::TimedOut);
        }
    }
}
