//! SIGINT and SIGTERM: the first drains, the second ends at once. SIGHUP reloads,
//! unless it says that the terminal is gone: then it is as SIGTERM.

use super::failure::Failure;

/// Resolves at the first signal. From then on a second one ends the process.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    hangups: Hangups,
}

/// Resolves at each SIGHUP that asks for a reload.
pub(super) struct Hangups {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    /// Whether there was a terminal at the start.
    terminal: bool,
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
            hangups: Hangups::listen()?,
        })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { hangups: Hangups::listen()? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = self.hangups.terminal_gone() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = self.hangups.terminal_gone() => {}
        }
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

impl Hangups {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup())?, terminal: has_terminal() })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminal: has_terminal() })
    }

    pub(super) async fn next(&mut self) {
        while self.signal().await {}
    }

    async fn terminal_gone(&mut self) {
        while !self.signal().await {}
    }

    /// Waits for the signal, and says whether the terminal is gone.
    #[cfg(unix)]
    async fn signal(&mut self) -> bool {
        self.hangup.recv().await;
        self.terminal && !has_terminal()
    }

    #[cfg(not(unix))]
    async fn signal(&mut self) -> bool {
        let _ = self.terminal;
        std::future::pending().await
    }
}

fn has_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}
