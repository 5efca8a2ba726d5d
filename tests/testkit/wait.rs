//! Waiting for the thing itself, with a deadline.

use std::collections::HashSet;
use std::future::Future;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a test waits for something that normally takes milliseconds.
/// Generous, for machines with much else to do.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until a condition holds. `what` completes "waited in vain until …".
///
/// # Panics
/// When the deadline has passed.
#[track_caller]
pub fn eventually<F>(
    deadline: Duration,
    what: &str,
    mut condition: F,
) -> impl Future<Output = ()> + use<'_, F>
where
    F: FnMut() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        while !condition() {
            assert!(Instant::now() < end, "{caller}: waited {deadline:?} in vain until {what}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// The result of a future that has to end within [`DEADLINE`]. `what` completes
/// "waited in vain for …".
///
/// # Panics
/// When the deadline has passed.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<'_, F> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: waited {DEADLINE:?} in vain for {what}"),
        }
    }
}

/// A port on 127.0.0.1 that nobody listens on, and that no other call in this
/// process gets.
///
/// # Panics
/// When the system has none left.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
        let port = listener.local_addr().expect("the address of a listener").port();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.get_or_insert_default().insert(port) {
            return port;
        }
    }
}
