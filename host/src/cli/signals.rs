//! SIGINT and SIGTERM: the first drains, the second ends at once.

use super::failure::Failure;

/// Resolves at the first signal. From then on a second one ends the process.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

/// The exit code of a process that a signal ended, as shells count: 128 + SIGTERM.
const EXIT_TERMINATED: i32 = 143;

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }

    /// Resolves at the first signal, and makes the second one final.
    pub(super) async fn first(mut self) {
        self.next().await;
        tracing::info!("stopping: finishing what is in flight; a second signal ends at once");
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("stopped at once; what was in flight goes back");
            std::process::exit(EXIT_TERMINATED);
        });
    }
}
