//! Reloading while `run` runs: on SIGHUP, and with `--watch` when a file changes.

use super::failure::Failure;
use super::plan::{self, InUse};
use super::run::RunArgs;
use super::signals::Hangups;
use super::watch::Watch;
use crate::runtime::{Changes, Host, Observer, Output, ReloadError, Reloader};
use std::sync::Arc;

/// What the next version is made from.
pub(super) struct Reloading {
    pub(super) host: Host,
    pub(super) args: Arc<RunArgs>,
    pub(super) in_use: Arc<InUse>,
    pub(super) output: Output,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) reloader: Reloader,
    pub(super) watch: Option<Watch>,
}

impl Reloading {
    /// Reloads again and again, one after the other, until the process ends.
    pub(super) async fn run(mut self, mut hangups: Hangups) {
        loop {
            let why = tokio::select! {
                () = hangups.next() => "SIGHUP",
                () = changed(&mut self.watch) => "a file has changed",
            };
            tracing::info!("reloading: {why}");
            match self.reload().await {
                Ok(Some(changes)) => tracing::info!("reloaded: {changes}"),
                // The service stops.
                Ok(None) => return,
                Err(failure) => {
                    // What the refused version would have had kept is not wanted.
                    self.in_use.take_effect();
                    let failure = failure.render(false);
                    tracing::error!("not reloaded; keeping the version that runs\n{failure}");
                }
            }
        }
    }

    async fn reload(&mut self) -> Result<Option<Changes>, Failure> {
        let (host, args, in_use) = (self.host.clone(), self.args.clone(), self.in_use.clone());
        let watched = self.watch.as_ref().map(|watch| watch.files().clone());
        let planned = tokio::task::spawn_blocking(move || {
            if let Some(watched) = watched {
                // Before they are read: a change that comes meanwhile is seen. A
                // version that is refused is tried again when its files change.
                watched.set(plan::files(&args.config, &args.components, Some(&in_use)));
            }
            plan::load(&host, &args.config, &args.components, args.folder.as_deref(), Some(&in_use))
        });
        let planned = planned.await.map_err(|error| Failure::run(error.to_string()))??;
        planned.announce();
        let (output, observers) = (self.output.clone(), self.observers.clone());
        let (setup, in_use) = planned.into_setup(output, observers, Some(&self.in_use))?;
        let changes = match self.reloader.reload(setup).await {
            Ok(changes) => changes,
            Err(ReloadError::Stopping) => return Ok(None),
            Err(error) => return Err(Failure::run(error.to_string())),
        };
        in_use.take_effect();
        self.in_use = Arc::new(in_use);
        Ok(Some(changes))
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
