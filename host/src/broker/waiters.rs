//! The takers that wait for something to take.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// The most wakers kept for takers that poll by themselves. Beyond it all are
/// woken, so that those of takers that have gone away cannot pile up.
const LOOSE_WAKERS_MAX: usize = 4096;

/// Wakers of those who found nothing. All are woken at once: which of them still
/// want something is not known.
#[derive(Default)]
pub(super) struct Waiters {
    /// Counts the wakings, so that one that comes between looking for something
    /// and registering is not lost.
    epoch: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_id: u64,
    wakers: Vec<(Option<WaiterId>, Waker)>,
}

/// Names a taker that says when it goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaiterId(u64);

/// A taker that waits with a name. Dropping it forgets its waker.
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    pub(super) id: WaiterId,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.leave(self.id);
    }
}

impl Waiters {
    /// To be read before looking for something.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A taker with a name of its own.
    pub(super) fn waiter(&self) -> Waiter<'_> {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        Waiter { waiters: self, id: WaiterId(inner.last_id) }
    }

    /// Keeps a waker; `false` if there was a waking since `epoch`: look again.
    pub(super) fn register(&self, epoch: u64, id: Option<WaiterId>, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if self.epoch.load(Ordering::Relaxed) != epoch {
            return false;
        }
        let known = inner.wakers.iter_mut().find(|(other, kept)| match id {
            Some(_) => *other == id,
            None => other.is_none() && kept.will_wake(waker),
        });
        if let Some((_, kept)) = known {
            kept.clone_from(waker);
            return true;
        }
        let full = id.is_none() && inner.wakers.len() >= LOOSE_WAKERS_MAX;
        let flushed = if full { std::mem::take(&mut inner.wakers) } else { Vec::new() };
        inner.wakers.push((id, waker.clone()));
        drop(inner);
        wake(flushed);
        true
    }

    fn leave(&self, id: WaiterId) {
        let gone = {
            let mut inner = self.inner.lock();
            let index = inner.wakers.iter().position(|(other, _)| *other == Some(id));
            index.map(|index| inner.wakers.swap_remove(index))
        };
        drop(gone);
    }

    /// Wakes all who wait.
    pub(super) fn wake_all(&self) {
        let woken = {
            let mut inner = self.inner.lock();
            self.epoch.fetch_add(1, Ordering::Release);
            std::mem::take(&mut inner.wakers)
        };
        wake(woken);
    }
}

/// Called without the lock, as a waker may do anything.
fn wake(wakers: Vec<(Option<WaiterId>, Waker)>) {
    for (_, waker) in wakers {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(of: &Arc<Count>) -> usize {
        of.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_waking_between_looking_and_registering_is_seen() {
        let (waiters, woken) = (Waiters::default(), Arc::new(Count::default()));
        let epoch = waiters.epoch();
        waiters.wake_all();
        assert!(!waiters.register(epoch, None, &woken.clone().into()));
        assert!(waiters.register(waiters.epoch(), None, &woken.clone().into()));
        waiters.wake_all();
        waiters.wake_all();
        assert_eq!(count(&woken), 1);
    }

    #[test]
    fn the_same_taker_is_kept_once_and_one_that_left_not_at_all() {
        let (waiters, woken) = (Waiters::default(), Arc::new(Count::default()));
        let waker: Waker = woken.clone().into();
        let (one, two) = (waiters.waiter(), waiters.waiter());
        for id in [None, Some(one.id), Some(two.id), None, Some(one.id), Some(two.id)] {
            assert!(waiters.register(waiters.epoch(), id, &waker));
        }
        drop(two);
        waiters.wake_all();
        assert_eq!(count(&woken), 2);
    }

    #[test]
    fn wakers_of_takers_that_are_gone_do_not_pile_up() {
        let (waiters, woken) = (Waiters::default(), Arc::new(Count::default()));
        for _ in 0..3 * LOOSE_WAKERS_MAX {
            let taker = Arc::new(Count::default());
            assert!(waiters.register(waiters.epoch(), None, &taker.into()));
        }
        assert!(waiters.inner.lock().wakers.len() <= LOOSE_WAKERS_MAX);
        assert!(waiters.register(waiters.epoch(), None, &woken.clone().into()));
        waiters.wake_all();
        assert_eq!(count(&woken), 1);
    }
}
