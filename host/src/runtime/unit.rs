//! One version of a component as it runs: its workers, its command, its end.

use super::code::Code;
use super::command::{self, CommandExport};
use super::component::Component;
use super::engine::Host;
use super::inbox::{Ends, Inbox};
use super::links::{ComponentLinks, Reach};
use super::opening::Opening;
use super::setup::{ComponentSetup, StartError};
use super::worker::Worker;
use crate::broker::Broker;
use crate::capability::{HandlerExport, Links, Observers};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One version of a component: what a reload replaces, or leaves as it is.
pub(super) struct Unit {
    pub(super) component: Arc<Component>,
    code: Code,
    links: Arc<ComponentLinks>,
    /// What its handler is pushed.
    pushed: Vec<Arc<Opening>>,
    /// Whether its command is run: not where the version before it has ended by
    /// itself, and had the same code.
    runs_command: bool,
    /// Its command has ended, and nobody had asked it to.
    ended_by_itself: AtomicBool,
    /// Another version takes its place.
    retired: AtomicBool,
    /// How many of its tasks run.
    tasks: watch::Sender<usize>,
}

/// What a component is in one generation.
pub(super) struct Wanted<'a> {
    pub(super) setup: &'a ComponentSetup,
    pub(super) brokers: &'a [Arc<Broker>],
    pub(super) pushed: Vec<Arc<Opening>>,
    pub(super) pulls: HashMap<String, Arc<Opening>>,
}

/// How one of a unit's tasks ended.
pub(super) struct Ended {
    pub(super) unit: Arc<Unit>,
    /// Its command failed, and counts.
    pub(super) failed: bool,
}

/// All subscriptions of a generation: nothing runs before they are open.
#[derive(Clone)]
pub(super) struct Gate(pub(super) Arc<[Arc<Opening>]>);

impl Gate {
    /// Waits until all are open.
    ///
    /// # Errors
    /// Why one cannot be opened.
    pub(super) async fn opened(&self) -> Result<(), String> {
        for opening in &*self.0 {
            opening.opened().await?;
        }
        Ok(())
    }
}

impl Wanted<'_> {
    pub(super) fn reach(&self) -> Reach {
        Reach {
            grants: Arc::clone(&self.setup.grants),
            brokers: self.brokers.to_vec(),
            pulls: self.pulls.clone(),
        }
    }
}

impl Unit {
    /// Links a component. Runs nothing yet.
    ///
    /// # Errors
    /// It does not fit.
    pub(super) fn link(
        host: &Host,
        observers: &Observers,
        output: &super::Output,
        wanted: Wanted<'_>,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, StartError> {
        let part = wanted.setup;
        let links =
            ComponentLinks::new(&part.name, wanted.reach(), part.settings.max_in_flight_bytes);
        let component = Component::new(
            host,
            &part.code,
            part.settings.clone(),
            links.clone(),
            output.clone(),
            observers.clone(),
        )
        .map_err(|error| StartError::Component {
            component: part.name.clone(),
            reason: format!("{error:#}"),
        })?;
        let is_over = |previous: &Arc<Self>| {
            let over = previous.ended_by_itself.load(Ordering::Acquire) || !previous.runs_command;
            over && previous.code.is_same(&part.code)
        };
        let runs_command = component.command.is_some() && !previous.is_some_and(is_over);
        Ok(Arc::new(Self {
            component: Arc::new(component),
            code: part.code.clone(),
            links,
            pushed: wanted.pushed,
            runs_command,
            ended_by_itself: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            tasks: watch::Sender::new(0),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.component.name
    }

    /// Whether it may go on as what is wanted now, with another reach.
    pub(super) fn serves(&self, wanted: &Wanted<'_>) -> bool {
        let same = |a: &Arc<Opening>, b: &Arc<Opening>| Arc::ptr_eq(a, b);
        let pushed = self.pushed.len() == wanted.pushed.len()
            && self.pushed.iter().zip(&wanted.pushed).all(|(a, b)| same(a, b));
        // What is new to pull or to publish to needs no new instance; what goes does.
        let pulls = self.links.pulled().iter().all(|o| wanted.pulls.values().any(|w| same(o, w)));
        let known = |broker: &Arc<Broker>| wanted.brokers.iter().any(|b| Arc::ptr_eq(b, broker));
        !self.is_closed()
            && self.name() == wanted.setup.name
            && self.code.is_same(&wanted.setup.code)
            && self.component.settings == wanted.setup.settings
            && pushed
            && pulls
            && self.links.brokers().iter().all(known)
    }

    /// Gives it another reach.
    pub(super) fn set_reach(&self, reach: Reach) {
        self.links.set_reach(reach);
    }

    /// Whether it runs a command from its start.
    pub(super) fn runs_command(&self) -> bool {
        self.runs_command
    }

    /// Takes no more events. What is in flight may take until the deadline.
    pub(super) fn close(&self, deadline: Instant) {
        self.links.shared_closing().close(deadline);
    }

    /// As [`close`](Self::close), where another version takes its place, or none.
    pub(super) fn retire(&self, deadline: Instant) {
        self.retired.store(true, Ordering::Release);
        self.close(deadline);
    }

    fn is_closed(&self) -> bool {
        self.links.shared_closing().is_closed()
    }

    /// Waits until nothing of it runs any more.
    pub(super) async fn over(&self) {
        // The sender is in `self`.
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

    /// Starts it, once all subscriptions of the generation that runs by then are
    /// open; its command after that of the version before it has ended.
    pub(super) fn start(
        self: &Arc<Self>,
        gates: &watch::Sender<Gate>,
        previous: Option<Arc<Self>>,
        ends: &Arc<Ends>,
        running: &mut JoinSet<Ended>,
    ) {
        if let Some(export) = self.component.command.filter(|_| self.runs_command) {
            let (unit, gates, task) = (Arc::clone(self), gates.subscribe(), Task::begin(self));
            running.spawn(async move {
                if let Some(previous) = previous {
                    previous.over().await;
                }
                let failed = unit.may_run(gates).await && unit.run_command(export).await;
                drop(task);
                Ended { unit, failed }
            });
        }
        if let Some(export) = self.component.handler {
            let (unit, gates, ends) = (Arc::clone(self), gates.subscribe(), Arc::clone(ends));
            let task = Task::begin(self);
            running.spawn(async move {
                if unit.may_run(gates).await {
                    unit.serve(export, &ends).await;
                }
                drop(task);
                Ended { unit, failed: false }
            });
        }
    }

    /// Waits for the subscriptions: a command may publish at once, and who listens
    /// must be there. A reload that leaves this version as it is changes what it
    /// waits for. `false` where this version is over before.
    async fn may_run(&self, mut gates: watch::Receiver<Gate>) -> bool {
        loop {
            let gate = gates.borrow_and_update().clone();
            let opened = async {
                if gate.opened().await.is_err() {
                    // The service ends, or goes on to another generation.
                    std::future::pending().await
                }
            };
            tokio::select! {
                biased;
                _ = self.links.shared_closing().closed() => return false,
                changed = gates.changed() => if changed.is_err() {
                    // The service is gone.
                    return false;
                },
                () = opened => return true,
            }
        }
    }

    /// Whether it failed.
    async fn run_command(&self, export: CommandExport) -> bool {
        let component = self.name();
        let ended = tokio::select! {
            ended = command::run(&self.component, export) => ended,
            () = self.links.shared_closing().expired() => {
                Err("the drain time was over before it ended".to_owned())
            }
        };
        if self.retired.load(Ordering::Acquire) {
            match ended {
                Ok(()) => tracing::info!(%component, "the old command has ended"),
                Err(reason) => tracing::info!(%component, "the old command has ended: {reason}"),
            }
            return false;
        }
        self.ended_by_itself.store(true, Ordering::Release);
        if let Err(reason) = &ended {
            tracing::error!(%component, "command failed: {reason}");
        }
        ended.is_err()
    }

    /// The workers of the handler, until its subscriptions end or it is over.
    async fn serve(&self, export: HandlerExport, ends: &Arc<Ends>) {
        let pushed: Vec<_> = self.pushed.iter().filter_map(|o| o.subscription()).collect();
        if pushed.is_empty() {
            return;
        }
        let closing = self.links.shared_closing();
        let recovery = Arc::new(Mutex::new(()));
        let mut workers = JoinSet::new();
        for _ in 0..self.component.settings.instances {
            let worker = Worker {
                component: Arc::clone(&self.component),
                export,
                inbox: Inbox::new(
                    pushed.clone(),
                    Arc::clone(ends),
                    Arc::clone(closing),
                    Arc::clone(self.links.budget()),
                ),
                recovery: Arc::clone(&recovery),
            };
            workers.spawn(worker.serve());
        }
        tokio::select! {
            () = joined(&mut workers, self.name()) => return,
            () = closing.expired() => {}
        }
        tracing::warn!(
            component = %self.name(),
            "the drain time is over; what is in flight in the old version goes back"
        );
        workers.shutdown().await;
    }
}

async fn joined(workers: &mut JoinSet<()>, component: &str) {
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%component, "a worker panicked: {error}");
        }
    }
}

/// Counts a task of a unit while it is there, however it ends.
struct Task(Arc<Unit>);

impl Task {
    fn begin(unit: &Arc<Unit>) -> Self {
        unit.tasks.send_modify(|tasks| *tasks += 1);
        Self(Arc::clone(unit))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|tasks| *tasks -= 1);
    }
}
