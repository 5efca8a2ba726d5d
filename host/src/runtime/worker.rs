//! What the workers of a component share: starting instances, and words for
//! what went wrong.

use super::component::{Component, InstanceMode, Running};
use super::concurrent::Flight;
use super::inbox::Inbox;
use super::{concurrent, serial};
use crate::broker::{Lease, Verdict};
use crate::capability::{Cause, Handler, HandlerExport, Role};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Error;

/// How long to wait after an instance failed to start, and at the most.
const START_BACKOFF: Duration = Duration::from_millis(100);
const START_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// One worker of a component: a task that owns one instance at a time.
pub(super) struct Worker {
    pub(super) component: Arc<Component>,
    pub(super) export: HandlerExport,
    pub(super) inbox: Inbox,
    /// Whose turn it is to find out whether instances can be started again.
    pub(super) recovery: Arc<tokio::sync::Mutex<()>>,
}

impl Worker {
    /// Handles events until the subscriptions end.
    pub(super) async fn serve(self) {
        if self.export.is_concurrent() {
            concurrent::serve(self).await;
        } else {
            serial::serve(self).await;
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.component.settings.timeout
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.component.settings.instance == InstanceMode::Fresh
    }

    /// An instance to handle this event in. Where none can be started, the event
    /// goes back uncharged: another member of its group may handle it.
    pub(super) async fn start(
        &self,
        role: Role,
        lease: Lease,
    ) -> Option<(Running, Handler, Lease)> {
        if self.component.status.failing().is_some() {
            lease.give_back(false);
            return None;
        }
        match self.try_start(role).await {
            Ok((running, handler)) => Some((running, handler, lease)),
            Err(error) => {
                lease.give_back(false);
                self.start_failed(&error);
                None
            }
        }
    }

    /// To be called before an event is taken: while no instance can be started,
    /// waits until one can, with back-off, and returns it to the worker that
    /// found out. Ends as well when this version of the component is over.
    pub(super) async fn recover(&self, role: Role) -> Option<(Running, Handler)> {
        self.component.status.failing()?;
        let recovered = async {
            // One worker tries; the others wait for what it finds.
            let _turn = self.recovery.lock().await;
            loop {
                let failing = self.component.status.failing()?;
                let doublings = failing.failures.saturating_sub(1).min(16);
                let delay = START_BACKOFF.saturating_mul(1 << doublings).min(START_BACKOFF_MAX);
                tokio::time::sleep(delay).await;
                match self.try_start(role).await {
                    Ok(started) => return Some(started),
                    Err(error) => self.start_failed(&error),
                }
            }
        };
        tokio::select! {
            recovered = recovered => recovered,
            () = self.inbox.closed() => None,
        }
    }

    async fn try_start(&self, role: Role) -> Result<(Running, Handler), Error> {
        let started = tokio::time::timeout(self.timeout(), self.component.start(role)).await;
        match started {
            Ok(Ok(mut running)) => running.handler(&self.export).map(|handler| (running, handler)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(wasmtime::format_err!("not started within {:?}", self.timeout())),
        }
    }

    /// Said once, until an instance could be started again.
    fn start_failed(&self, error: &Error) {
        let (component, error) = (&self.component.name, trap_text(error));
        let failures = self.component.status.start_failed(error.clone());
        if failures == 1 {
            tracing::error!(
                %component, error,
                "unhealthy: an instance cannot be started; its events wait, and it is tried again",
            );
        } else {
            tracing::debug!(%component, error, failures, "an instance cannot be started");
        }
    }

    /// Whether the event can be handed to an instance at all. One that is larger
    /// than the instance's memory would only trap it.
    pub(super) fn fits(&self, lease: Lease) -> Option<Lease> {
        let (size, limit) = (lease.event().size(), self.component.settings.memory_limit);
        if size < limit {
            return Some(lease);
        }
        let reason =
            format!("the event has {size} bytes and the component's memory_limit is {limit}");
        self.log_failure(&lease, &reason);
        let verdict = Verdict::Retry { after: None, reason };
        if let Some(observation) = self.component.observe(&lease) {
            observation.end(Some(&verdict), Cause::TooLarge);
        }
        lease.settle(verdict);
        None
    }

    pub(super) fn log_failure(&self, lease: &Lease, reason: &str) {
        tracing::warn!(
            component = %self.component.name,
            topic = %lease.topic(),
            id = %lease.event().id,
            attempt = lease.attempt(),
            "handler failed: {reason}",
        );
    }

    /// Settles an event with the guest's verdict.
    pub(super) fn conclude(&self, lease: Lease, verdict: Verdict) {
        match &verdict {
            Verdict::Ack => {}
            Verdict::Retry { reason, .. } | Verdict::Reject { reason } => {
                self.log_failure(&lease, reason);
            }
        }
        lease.settle(verdict);
    }

    /// Settles the events that were in flight in an instance that failed. A single
    /// one is charged; of several the guilty one is unknown, so all of them run
    /// again alone.
    pub(super) fn fail_all(&self, flights: Vec<Flight>, reason: &str, cause: Cause) {
        let alone = flights.len() == 1;
        for Flight { lease, observation, .. } in flights {
            let verdict = alone.then(|| Verdict::Retry { after: None, reason: reason.to_owned() });
            if let Some(observation) = observation {
                observation.end(verdict.as_ref(), cause);
            }
            match verdict {
                Some(verdict) => self.conclude(lease, verdict),
                None => lease.give_back(true),
            }
        }
        if !alone {
            tracing::warn!(component = %self.component.name, "instance failed: {reason}");
        }
    }

    pub(super) fn timeout_text(&self) -> String {
        format!("no verdict within the timeout of {:?}", self.timeout())
    }
}

/// A trap in one line: its cause, without the stack.
pub(super) fn trap_text(error: &Error) -> String {
    error.root_cause().to_string()
}
