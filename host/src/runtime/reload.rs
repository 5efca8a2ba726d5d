//! From one generation to the next while the service runs.
//!
//! 1. What is new is linked, and subscriptions that nobody had are opened. Up to
//!    here a mistake leaves everything as it was.
//! 2. Where a subscription changes, the components that use it are told that they
//!    are over, it is drained, and opened anew. If that fails, the generation
//!    before is brought back.
//! 3. Components that changed are told to take no more, and their successors
//!    begin. The old ones finish what they have, within the drain time.
//! 4. In the background, what is left of the old generation ends.

use super::generation::{Changes, Difference, Generation};
use super::opening::Opening;
use super::service::{CLOSE_GRACE_MIN, Service};
use super::setup::{Setup, StartError};
use super::unit::Unit;
use crate::broker::Broker;
use crate::broker::driver::Parting;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long a broker may take to confirm what a reload subscribes to. At the
/// start there is no limit: then nothing else could run meanwhile.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);

type Reply = oneshot::Sender<Result<Changes, ReloadError>>;

/// Why a reload was refused. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A component does not fit.
    #[error("{0}")]
    Start(#[from] StartError),
    /// A broker refuses a subscription, with its reason.
    #[error("cannot subscribe to {0}")]
    Refused(String),
    /// A broker has not confirmed a subscription in time.
    #[error("the subscription to {0} was not confirmed within {OPEN_TIME_MAX:?}")]
    NotConfirmed(String),
    /// The service stops.
    #[error("the service stops")]
    Stopping,
}

/// Asks a running service to replace what it runs.
#[derive(Clone)]
pub struct Reloader(mpsc::Sender<(Setup, Reply)>);

/// Where a service hears of reloads.
pub struct Reloads {
    requests: Option<mpsc::Receiver<(Setup, Reply)>>,
    outlast: bool,
}

impl Reloads {
    /// The two ends. `outlast`: the service waits for a reload when everything
    /// has ended.
    #[must_use]
    pub fn channel(outlast: bool) -> (Reloader, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (Reloader(sender), Self { requests: Some(receiver), outlast })
    }

    pub(super) fn none() -> Self {
        Self { requests: None, outlast: false }
    }

    pub(super) fn outlast(&self) -> bool {
        self.outlast
    }

    /// The next reload that is asked for. `None`, once, where nobody can ask for
    /// one any more: then there is nothing to wait for.
    pub(super) async fn next(&mut self) -> Option<(Setup, Reply)> {
        let Some(requests) = &mut self.requests else { return std::future::pending().await };
        let request = requests.recv().await;
        if request.is_none() {
            *self = Self::none();
        }
        request
    }
}

impl Reloader {
    /// Replaces what differs: brokers are the same where the setup has the same
    /// ones, subscriptions and components where they are equal. Waits for its
    /// turn, and until new events go to what is new.
    ///
    /// # Errors
    /// It was refused as a whole, and what ran before runs on.
    pub async fn reload(&self, setup: Setup) -> Result<Changes, ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.0.send((setup, reply)).await.map_err(|_| ReloadError::Stopping)?;
        answer.await.unwrap_or(Err(ReloadError::Stopping))
    }
}

impl Service {
    pub(super) async fn reload(&mut self, setup: Setup) -> Result<Changes, ReloadError> {
        let next = Generation::link(&self.host, setup, Some(&self.current))?;
        let difference = Difference::between(&self.current, &next);
        let waits = self.is_open;
        if waits && let Err(error) = open(&difference.beside).await {
            part(&difference.beside, Parting::Removed, Instant::now()).await;
            return Err(error);
        }
        let deadline = Instant::now() + self.current.setup.drain;
        if difference.has_to_wait() {
            self.make_room(&difference, deadline).await;
            if waits && let Err(error) = open(&difference.after).await {
                self.bring_back(&difference).await;
                return Err(error);
            }
            // Nothing uses them any more, and nothing else does yet.
            close(&difference.leaving).await;
        }
        let changes = difference.changes.clone();
        self.switch(next, difference, deadline);
        self.is_open &= waits;
        Ok(changes)
    }

    /// Ends what stands in the way of what is to be opened. What is removed at a
    /// broker that stays is not touched before the next generation is sure.
    async fn make_room(&self, difference: &Difference, deadline: Instant) {
        retire(&difference.retired, deadline);
        part(&difference.replaced, Parting::Replaced, deadline).await;
        if !difference.leaving.is_empty() {
            // Under the same name as before, a new connection would take the place
            // of the old one, which must be done with its work.
            let gone = difference.removed.iter().filter(|opening| difference.leaves(opening));
            part(&gone.cloned().collect::<Vec<_>>(), Parting::Removed, deadline).await;
            join_all(difference.retired.iter().map(|unit| unit.over())).await;
        }
    }

    /// Runs the generation before again, as far as it was ended.
    async fn bring_back(&mut self, difference: &Difference) {
        part(&difference.beside, Parting::Removed, Instant::now()).await;
        let (resumed, fresh): (Vec<_>, Vec<_>) =
            difference.after.iter().cloned().partition(|opening| difference.resumes(opening));
        part(&resumed, Parting::Replaced, Instant::now()).await;
        part(&fresh, Parting::Removed, Instant::now()).await;
        let setup = self.current.setup.clone();
        // It was linked before.
        let Ok(again) = Generation::link(&self.host, setup, Some(&self.current)) else { return };
        let difference = Difference::between(&self.current, &again);
        self.switch(again, difference, Instant::now());
        // Its subscriptions are waited for as at the start.
        self.is_open = false;
        self.status.starting();
    }

    /// From here on, new events go to the next generation.
    fn switch(&mut self, mut next: Generation, difference: Difference, deadline: Instant) {
        retire(&difference.retired, deadline);
        next.set_reaches();
        for opening in difference.replaced.iter().chain(&difference.removed) {
            self.ends.forget(&opening.settings.label);
        }
        next.openings.iter().for_each(|opening| opening.begin());
        let before = std::mem::replace(&mut self.current, next);
        self.current.report(&self.status);
        self.gates.send_replace(self.current.gate());
        let is_new = |unit: &&Arc<Unit>| !before.units.iter().any(|old| Arc::ptr_eq(old, unit));
        for unit in self.current.units.iter().filter(is_new) {
            if unit.runs_command() {
                self.failed.retain(|name| name != unit.name());
            }
            let previous = before.unit(unit.name()).cloned();
            unit.start(&self.gates, previous, &self.ends, &mut self.running);
        }
        self.failed.retain(|name| self.current.unit(name).is_some());
        self.leaving.retain(|broker| broker.strong_count() > 0);
        self.leaving.extend(difference.leaving.iter().map(Arc::downgrade));
        self.parting.spawn(leave(difference, deadline));
    }
}

/// The end of what a generation had, and the next one has not.
async fn leave(difference: Difference, deadline: Instant) {
    let Difference { retired, removed, leaving, .. } = difference;
    part(&removed, Parting::Removed, deadline).await;
    join_all(retired.iter().map(|unit| unit.over())).await;
    close(&leaving).await;
}

async fn close(brokers: &[Arc<Broker>]) {
    join_all(brokers.iter().map(|broker| broker.close(CLOSE_GRACE_MIN))).await;
}

fn retire(units: &[Arc<Unit>], deadline: Instant) {
    for unit in units {
        unit.retire(deadline);
    }
}

async fn part(openings: &[Arc<Opening>], parting: Parting, deadline: Instant) {
    join_all(openings.iter().map(|opening| opening.part(parting, deadline))).await;
}

async fn open(openings: &[Arc<Opening>]) -> Result<(), ReloadError> {
    let deadline = Instant::now() + OPEN_TIME_MAX;
    openings.iter().for_each(|opening| opening.begin());
    for opening in openings {
        match tokio::time::timeout_at(deadline, opening.opened()).await {
            Ok(Ok(_)) => {}
            Ok(Err(reason)) => return Err(ReloadError::Refused(reason)),
            Err(_) => {
                let name = format!("`{}`", opening.settings.name);
                return Err(ReloadError::NotConfirmed(name));
            }
        }
    }
    Ok(())
}
