//! Everything that one `run` runs, from its start to its end.

use super::engine::Host;
use super::generation::Generation;
use super::inbox::Ends;
use super::reload::Reloads;
use super::setup::{Outcome, Setup, StartError};
use super::status::Status;
use super::unit::{Ended, Gate};
use crate::broker::Broker;
use futures_util::future::join_all;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// The least time that a connection gets for its last acknowledgements.
pub(super) const CLOSE_GRACE_MIN: Duration = Duration::from_millis(500);
/// When the service stops, it ends itself what is late; its parts only hear of a
/// time that is later.
const STOP_MARGIN: Duration = Duration::from_secs(60);

/// A service that is ready to run.
pub struct Service {
    pub(super) host: Host,
    pub(super) current: Generation,
    /// What the components of this generation wait for before they run.
    pub(super) gates: watch::Sender<Gate>,
    pub(super) status: Arc<Status>,
    pub(super) ends: Arc<Ends>,
    /// The tasks of components, of this generation and of earlier ones.
    pub(super) running: JoinSet<Ended>,
    /// What of earlier generations is coming to its end.
    pub(super) parting: JoinSet<()>,
    /// Brokers of earlier generations, until they are closed.
    pub(super) leaving: Vec<Weak<Broker>>,
    /// The commands that failed and were not replaced.
    pub(super) failed: Vec<String>,
    /// Whether every subscription of this generation is confirmed.
    pub(super) is_open: bool,
}

impl Service {
    /// Links every component. Opens nothing and runs nothing yet.
    ///
    /// # Errors
    /// A component does not fit.
    pub fn new(host: &Host, setup: Setup) -> Result<Self, StartError> {
        let current = Generation::link(host, setup, None)?;
        let status = Arc::<Status>::default();
        current.report(&status);
        Ok(Self {
            host: host.clone(),
            gates: watch::Sender::new(current.gate()),
            current,
            status,
            ends: Arc::default(),
            running: JoinSet::new(),
            parting: JoinSet::new(),
            leaving: Vec::new(),
            failed: Vec::new(),
            is_open: false,
        })
    }

    /// What is known of it while it runs.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Runs until `stop` resolves, or until nothing is left to run; then drains.
    /// Calls `ready` once every subscription is confirmed by its broker.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce() + Send + 'static,
    ) -> Outcome {
        self.run_reloading(stop, ready, Reloads::none()).await
    }

    /// As [`run`](Self::run), while what runs can be replaced.
    pub async fn run_reloading(
        mut self,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce() + Send + 'static,
        reloads: Reloads,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        // A reload that is under way is given up halfway when it stops: all that it
        // has begun is known here, or ends with it.
        tokio::select! {
            () = stop => {}
            () = self.serve(ready, reloads, &mut outcome) => {}
        }
        self.drain(&mut outcome).await;
        outcome
    }

    async fn serve(&mut self, ready: impl FnOnce(), mut reloads: Reloads, outcome: &mut Outcome) {
        self.begin();
        let mut ready = Some(ready);
        let mut gate = self.current.gate();
        loop {
            let goes_on = reloads.outlast() || self.current.setup.is_server;
            if self.running.is_empty() && !goes_on {
                return;
            }
            tokio::select! {
                opened = gate.opened(), if !self.is_open => match opened {
                    Ok(()) => {
                        self.is_open = true;
                        self.status.ready();
                        if let Some(ready) = ready.take() {
                            ready();
                        }
                    }
                    Err(reason) => {
                        outcome.ended.push(reason);
                        return;
                    }
                },
                Some(ended) = self.running.join_next() => {
                    self.note(ended);
                    if self.running.is_empty() && reloads.outlast() {
                        tracing::info!("everything has ended; waiting for a change");
                    }
                }
                Some(_) = self.parting.join_next() => {}
                asked = reloads.next() => if let Some((setup, reply)) = asked {
                    // Who asked may have gone away.
                    let _ = reply.send(self.reload(setup).await);
                    gate = self.current.gate();
                },
            }
        }
    }

    fn begin(&mut self) {
        self.current.openings.iter().for_each(|opening| opening.begin());
        for unit in &self.current.units {
            unit.start(&self.gates, None, &self.ends, &mut self.running);
        }
    }

    fn note(&mut self, ended: Result<Ended, JoinError>) {
        let Ok(Ended { unit, failed: true }) = ended else { return };
        let name = unit.name();
        if self.current.unit(name).is_some_and(|current| Arc::ptr_eq(current, &unit)) {
            self.failed.push(name.to_owned());
        }
    }

    /// Takes nothing more, lets what is in flight finish within the drain time,
    /// and closes the connections after the last acknowledgement.
    async fn drain(&mut self, outcome: &mut Outcome) {
        let drain = self.current.setup.drain;
        let deadline = Instant::now() + drain;
        self.status.stopping();
        for unit in &self.current.units {
            unit.close(deadline + STOP_MARGIN);
        }
        let open: Vec<_> = self.current.openings.iter().filter_map(|o| o.stop()).collect();
        let finish = async {
            while let Some(ended) = self.running.join_next().await {
                self.note(ended);
            }
            while self.parting.join_next().await.is_some() {}
            join_all(open.iter().map(|subscription| subscription.drained())).await;
        };
        if tokio::time::timeout_at(deadline, finish).await.is_err() {
            outcome.cut_short = true;
            tracing::warn!("the drain time of {drain:?} is over; what is in flight goes back");
        }
        outcome.failed.append(&mut self.failed);
        outcome.ended.extend(self.ends.found());
        self.running.shutdown().await;
        self.parting.shutdown().await;
        let grace = deadline.saturating_duration_since(Instant::now()).max(CLOSE_GRACE_MIN);
        let leaving = self.leaving.iter().filter_map(Weak::upgrade);
        let brokers: Vec<_> = self.current.setup.brokers.iter().cloned().chain(leaving).collect();
        join_all(brokers.iter().map(|broker| broker.close(grace))).await;
    }
}
