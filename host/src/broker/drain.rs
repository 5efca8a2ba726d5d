//! Waiting for the end of all work.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Counts the calls that are still carrying out what was decided under the lock,
/// and tells who waits for the end when it may have come.
#[derive(Default)]
pub(super) struct Drain {
    busy: AtomicUsize,
    waiting: AtomicUsize,
    changed: Notify,
}

impl Drain {
    /// A call begins; to be called before the lock is released.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::SeqCst);
    }

    /// The call has carried out everything.
    pub(super) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    /// Something may be over; to be called without the lock. As who waits says so
    /// before looking, and this looks after the change, one sees the other.
    pub(super) fn changed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Waits until no call is busy and `is_over` holds.
    pub(super) async fn wait(&self, is_over: impl Fn() -> bool) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_over() && self.busy.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
