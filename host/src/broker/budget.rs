//! Bounds in bytes on what several hold together.
//!
//! A [`Budget`] is such a bound: of the process, or of a component. Of the
//! process's, each subscription has a [`Share`], which counts what its driver
//! has taken from the broker and the core has not done with. At the bound a
//! driver takes nothing more, and is told when there is room again: those who
//! wait get room for one event each, in turn. An event that is larger than the
//! bound holds up none but its own subscription.
//!
//! A subscription that holds nothing may always take one event. So no slow
//! component stops another, and handlers that publish to each other cannot wait
//! in a ring. What is held stays below the bound and one event for each
//! subscription.

use super::driver::Ready;
use super::waiters::Waiters;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

/// Those that wait. Nothing that is dropped with its lock may be a [`Share`],
/// which would want the lock itself.
type Line = VecDeque<Arc<Place>>;

/// The place of a share in the line.
struct Place {
    share: Weak<Share>,
    /// What it waits for, in bytes.
    wanted: AtomicUsize,
}

/// A bound in bytes. Counting takes no lock while nobody waits.
pub struct Budget {
    bytes_max: AtomicUsize,
    used: AtomicUsize,
    /// How many shares wait.
    waiting: AtomicUsize,
    /// Those that wait, the first to be served in front.
    line: Mutex<Line>,
    /// Who waits for room by polling.
    pollers: Waiters,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max: AtomicUsize::new(bytes_max),
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            pollers: Waiters::default(),
        })
    }

    /// A budget without a bound. It counts all the same.
    #[must_use]
    pub fn unbounded() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// The bound.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max.load(SeqCst)
    }

    /// Changes the bound. What is held above it stays until it is given back.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, SeqCst);
        // There may be room now.
        self.pollers.wake_all();
        self.release(0, None);
    }

    /// What is held now, in bytes.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// Room for so many bytes, even above the bound: for what is there already,
    /// after [`poll_room`](Self::poll_room) has said that there is room.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.used.fetch_add(bytes, SeqCst);
        Reservation { budget: self.clone(), bytes }
    }

    /// Ready when less than the bound is held. Whoever has polled is woken when
    /// that may be so.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let epoch = self.pollers.epoch();
            if self.bytes_used() < self.bytes_max() {
                return Poll::Ready(());
            }
            if self.pollers.register(epoch, None, cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// Takes room where there is some, or where this much may be held anyway.
    fn take(&self, bytes: usize, anyway: impl Fn() -> bool) -> bool {
        let more = |used: usize| {
            let sum = used.saturating_add(bytes);
            (sum <= self.bytes_max() || anyway()).then_some(sum)
        };
        self.used.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Gives room back, and wakes who waits for it. `own` is the share that held it.
    fn release(&self, bytes: usize, own: Option<&Share>) {
        let used = self.used.fetch_sub(bytes, SeqCst);
        if used >= self.bytes_max() && used - bytes < self.bytes_max() {
            self.pollers.wake_all();
        }
        if self.waiting.load(SeqCst) > 0 {
            for share in self.next_in_line(own) {
                share.wake();
            }
        }
    }

    /// Takes out of the line who is served now: as many as there is room for,
    /// which they get, and one that holds nothing any more. What is larger than
    /// the bound finds no room here: it waits until its own share holds nothing.
    fn next_in_line(&self, own: Option<&Share>) -> Vec<Arc<Share>> {
        let mut served = Vec::new();
        let mut line = self.line.lock();
        if let Some(own) = own
            && own.holds_nothing()
            && own.state.load(SeqCst) == WAITING
            && own.leave(&mut line)
        {
            served.extend(own.place.share.upgrade());
        }
        let mut index = 0;
        while let Some(place) = line.get(index) {
            let wanted = place.wanted.load(SeqCst);
            if wanted > self.bytes_max() {
                index += 1;
                continue;
            }
            if !self.take(wanted, || false) {
                break;
            }
            match place.share.upgrade() {
                Some(share) => {
                    share.granted.store(wanted, SeqCst);
                    share.state.store(SERVED, SeqCst);
                    served.push(share);
                }
                // It is being dropped.
                None => drop(self.used.fetch_sub(wanted, SeqCst)),
            }
            line.remove(index);
        }
        self.waiting.store(line.len(), SeqCst);
        served
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("bytes_max", &self.bytes_max())
            .field("bytes_used", &self.bytes_used())
            .finish_non_exhaustive()
    }
}

/// Room in a [`Budget`]. Dropped, it is given back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its room back"]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes, None);
    }
}

/// It does not wait.
const IDLE: u8 = 0;
/// It is in the line.
const WAITING: u8 = 1;
/// It was in the line, and has got room that it has not used yet.
const SERVED: u8 = 2;

/// What one subscription holds of a budget.
///
/// Who waits and is served keeps the room that it got, for one event, until it
/// uses, [declines](Self::decline) or [withdraws](Self::withdraw) it. Where only
/// a taker makes the driver look, as in the built-in broker, a subscription that
/// nobody takes from any more keeps it until it is stopped.
pub struct Share {
    budget: Arc<Budget>,
    held: AtomicUsize,
    /// In the line while it waits.
    place: Arc<Place>,
    /// What it got when it was served, in bytes. Who swaps it for nothing has it.
    granted: AtomicUsize,
    /// Changes with the line's lock, but for who was served and uses it.
    state: AtomicU8,
    /// It has given room back that those who wait have not been served with.
    surplus: AtomicBool,
    on_room: OnceLock<Ready>,
}

impl Share {
    /// A share that holds nothing.
    #[must_use]
    pub fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            budget: budget.clone(),
            held: AtomicUsize::new(0),
            place: Arc::new(Place { share: this.clone(), wanted: AtomicUsize::new(0) }),
            granted: AtomicUsize::new(0),
            state: AtomicU8::new(IDLE),
            surplus: AtomicBool::new(false),
            on_room: OnceLock::new(),
        })
    }

    /// What is held, in bytes.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.held.load(SeqCst)
    }

    /// Says whom to tell that there may be room, after
    /// [`try_add`](Self::try_add) found none. The first call counts.
    pub fn on_room(&self, tell: Ready) {
        let _first_counts = self.on_room.set(tell);
    }

    /// Counts an event that is about to be taken from the broker, by its
    /// [`size`](super::Event::size), if there is room for it. If not, whoever
    /// [`on_room`](Self::on_room) names is told when there may be.
    ///
    /// It may be called with a lock, as it tells nobody; whoever calls it passes
    /// on what is left over: see [`pass_on`](Self::pass_on). Calls of one share
    /// come one after the other.
    #[must_use]
    pub fn try_add(&self, bytes: usize) -> bool {
        let served = self.is_served();
        let added = match served {
            true => self.use_grant(bytes),
            false => self.budget.waiting.load(SeqCst) == 0 && self.add(bytes),
        };
        added || self.queue(bytes, served)
    }

    /// Adds what the share has got room for, as far as that is enough.
    fn use_grant(&self, bytes: usize) -> bool {
        let granted = self.granted.swap(0, SeqCst);
        let _idle = self.state.compare_exchange(SERVED, IDLE, SeqCst, SeqCst);
        let missing = bytes.saturating_sub(granted);
        if missing > 0 && !self.budget.take(missing, || self.holds_nothing()) {
            self.leave_over(granted);
            return false;
        }
        self.leave_over(granted.saturating_sub(bytes));
        self.held.fetch_add(bytes, SeqCst);
        true
    }

    /// Gives room back, but serves nobody: this may be under a lock.
    fn leave_over(&self, bytes: usize) {
        if bytes > 0 {
            self.budget.used.fetch_sub(bytes, SeqCst);
            self.surplus.store(true, SeqCst);
        }
    }

    /// Waits in the line, unless there is room by now.
    /// Who was served and got too little stays in front.
    fn queue(&self, bytes: usize, was_served: bool) -> bool {
        let mut line = self.budget.line.lock();
        self.place.wanted.store(bytes, SeqCst);
        let state = self.state.load(SeqCst);
        // It may have been served since this began.
        if state == SERVED && self.use_grant(bytes) {
            return true;
        }
        if was_served || state == SERVED {
            line.push_front(self.place.clone());
        } else if state == IDLE {
            line.push_back(self.place.clone());
        }
        self.state.store(WAITING, SeqCst);
        self.budget.waiting.store(line.len(), SeqCst);
        // From here on whoever gives room back sees this in the line. What was
        // given back before may be enough.
        let room = (self.is_first(&line) || self.holds_nothing()) && self.add(bytes);
        if room {
            self.leave(&mut line);
            self.budget.waiting.store(line.len(), SeqCst);
        }
        room
    }

    /// Whether nobody is before it but what is larger than the bound.
    fn is_first(&self, line: &Line) -> bool {
        let bytes_max = self.budget.bytes_max();
        let first =
            line.iter().find(|place| self.is_at(place) || place.wanted.load(SeqCst) <= bytes_max);
        first.is_some_and(|first| self.is_at(first))
    }

    fn is_at(&self, place: &Arc<Place>) -> bool {
        Arc::ptr_eq(place, &self.place)
    }

    /// Gives room back, and tells who waits for it. To be called without a lock,
    /// as that is foreign code. What was never counted has no effect.
    pub fn remove(&self, bytes: usize) {
        let less = |held: usize| Some(held.saturating_sub(bytes));
        let held = self.held.fetch_update(SeqCst, SeqCst, less).unwrap_or(0);
        self.budget.release(bytes.min(held), Some(self));
    }

    /// Whether it has waited, and got room that it has not used yet. A driver that
    /// finds nothing to take any more [declines](Self::decline) it.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.state.load(SeqCst) == SERVED
    }

    /// Whether [`try_add`](Self::try_add) has left over some of the room that was
    /// given: the event was smaller than the one that had waited, or too large.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        self.surplus.load(SeqCst)
    }

    /// Serves those who wait with what [`try_add`](Self::try_add) has left over.
    /// To be called without a lock, as [`remove`](Self::remove), soon after it.
    /// Without that they are served when anything else is given back.
    pub fn pass_on(&self) {
        if self.has_surplus() && self.surplus.swap(false, SeqCst) {
            self.budget.pollers.wake_all();
            self.budget.release(0, None);
        }
    }

    /// Gives unused room back. To be called without a lock, as
    /// [`remove`](Self::remove).
    pub fn decline(&self) {
        let granted = {
            let _line = self.budget.line.lock();
            // In the line again, it wants something after all.
            let idle = self.state.compare_exchange(SERVED, IDLE, SeqCst, SeqCst);
            if idle.is_ok() { self.granted.swap(0, SeqCst) } else { 0 }
        };
        self.budget.release(granted, None);
    }

    /// Nothing is wanted any more: leaves the line, and gives unused room back. To
    /// be called without a lock, as [`remove`](Self::remove).
    pub fn withdraw(&self) {
        let granted = {
            let mut line = self.budget.line.lock();
            self.leave(&mut line);
            self.budget.waiting.store(line.len(), SeqCst);
            self.granted.swap(0, SeqCst)
        };
        // There may be room for those behind it.
        self.budget.release(granted, None);
    }

    fn add(&self, bytes: usize) -> bool {
        let added = self.budget.take(bytes, || self.holds_nothing());
        if added {
            self.held.fetch_add(bytes, SeqCst);
        }
        added
    }

    fn holds_nothing(&self) -> bool {
        self.bytes_held() == 0
    }

    /// Takes it out of the line; whether it was there.
    fn leave(&self, line: &mut Line) -> bool {
        self.state.store(IDLE, SeqCst);
        let place = line.iter().position(|place| self.is_at(place));
        place.is_some_and(|place| line.remove(place).is_some())
    }

    fn wake(&self) {
        if let Some(ready) = self.on_room.get() {
            ready.notify();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if *self.state.get_mut() != IDLE {
            self.withdraw();
        }
        self.budget.release(*self.held.get_mut(), None);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("bytes_held", &self.bytes_held()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shares of one budget, and how often each was told of room.
    fn shares<const N: usize>(budget: &Arc<Budget>) -> [(Arc<Share>, Arc<Count>); N] {
        [(); N].map(|()| {
            let (share, count) = (Share::new(budget), Arc::new(Count::default()));
            let counted = count.clone();
            share.on_room(Ready(Arc::new(move || counted.clone().wake())));
            (share, count)
        })
    }

    fn told(count: &Arc<Count>) -> usize {
        count.0.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn the_bound_holds_and_one_event_is_always_taken() {
        let budget = Budget::new(100);
        let [(a, _), (b, told_b)] = shares(&budget);
        assert!(a.try_add(60) && a.try_add(40));
        assert!(!a.try_add(1), "it is full");
        assert!(b.try_add(500), "it holds nothing");
        assert!(!b.try_add(1));
        assert_eq!((budget.bytes_used(), a.bytes_held(), b.bytes_held()), (600, 100, 500));
        b.remove(500);
        assert_eq!(told(&told_b), 1, "it holds nothing again, whatever the others do");
        assert!(b.try_add(500));
    }

    #[test]
    fn a_bound_that_is_raised_lets_in_who_waits() {
        let budget = Budget::new(100);
        let [(a, _), (b, told_b)] = shares(&budget);
        assert!(a.try_add(90) && b.try_add(10));
        assert!(!b.try_add(50));
        budget.set_bytes_max(200);
        assert_eq!(told(&told_b), 1);
        assert!(b.try_add(50) && !b.try_add(100));
        budget.set_bytes_max(100);
        assert!(!a.try_add(1), "what is held above the bound leaves no room");
    }

    #[test]
    fn those_who_wait_have_one_event_each_in_turn() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b), (c, told_c)] = shares(&budget);
        assert!(a.try_add(80) && b.try_add(10) && c.try_add(10));
        assert!(!b.try_add(10) && !c.try_add(10) && !a.try_add(10));
        a.remove(10);
        assert_eq!([told(&told_a), told(&told_b), told(&told_c)], [0, 1, 0]);
        assert!(!a.try_add(10), "others come first");
        assert!(b.try_add(10) && !b.try_add(10), "one event each");
        a.remove(20);
        assert_eq!([told(&told_a), told(&told_b), told(&told_c)], [1, 0, 1]);
        assert!(c.try_add(10) && a.try_add(10));
        assert_eq!(budget.bytes_used(), 100);
    }

    #[test]
    fn whoever_was_served_and_found_too_little_comes_first_again() {
        let budget = Budget::new(100);
        let [(a, _), (b, told_b), (c, told_c)] = shares(&budget);
        assert!(a.try_add(80) && b.try_add(10) && c.try_add(10));
        assert!(!b.try_add(10) && !c.try_add(10));
        a.remove(10);
        assert_eq!([told(&told_b), told(&told_c)], [1, 0]);
        assert_eq!(budget.bytes_used(), 100, "it has got the room");
        assert!(!b.try_add(30), "the event is another one by now");
        a.remove(10);
        assert_eq!([told(&told_b), told(&told_c)], [0, 0], "not enough for the first");
        a.remove(10);
        assert_eq!([told(&told_b), told(&told_c)], [1, 0]);
    }

    #[test]
    fn room_that_was_given_is_kept_until_it_is_used_or_declined() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b)] = shares(&budget);
        assert!(a.try_add(80) && a.try_add(10) && b.try_add(10));
        assert!(!b.try_add(10));
        a.remove(10);
        assert!(b.is_served() && !a.try_add(5), "nobody takes it away");
        b.decline();
        b.decline();
        assert_eq!([told(&told_a), told(&told_b)], [1, 1]);
        assert!(a.try_add(3) && !b.is_served());
        assert_eq!(budget.bytes_used(), 93, "less than it had waited for");
        assert!(!b.try_add(8));
        a.remove(3);
        drop(b);
        assert_eq!(budget.bytes_used(), 80);
    }

    #[test]
    fn whoever_goes_away_holds_up_nobody() {
        let budget = Budget::new(100);
        let [(a, _), (b, _), (c, _), (d, told_d)] = shares(&budget);
        assert!(a.try_add(70) && b.try_add(10) && c.try_add(10) && d.try_add(10));
        assert!(!b.try_add(90) && !c.try_add(90) && !d.try_add(20));
        b.withdraw();
        drop(c);
        assert_eq!(budget.bytes_used(), 90, "what it held is free");
        a.remove(10);
        assert_eq!(told(&told_d), 1);
        drop((a, b, d));
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn an_event_larger_than_the_bound_holds_up_none_but_its_own_share() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b)] = shares(&budget);
        assert!(a.try_add(10) && b.try_add(90));
        assert!(!a.try_add(150) && !b.try_add(10));
        b.remove(40);
        assert_eq!([told(&told_a), told(&told_b)], [0, 1]);
        assert!(b.try_add(10), "it was served past the other");
        assert!(b.try_add(20) && b.try_add(10), "it takes more while the other waits");
        assert!(!b.try_add(1), "the bound holds");
        a.remove(10);
        assert_eq!([told(&told_a), told(&told_b)], [1, 1], "it holds nothing any more");
        assert!(a.try_add(150) && b.try_add(1));
    }

    #[test]
    fn a_bound_below_what_the_first_waits_for_holds_up_no_other() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b)] = shares(&budget);
        assert!(a.try_add(20) && b.try_add(80));
        assert!(!a.try_add(60) && !b.try_add(10));
        budget.set_bytes_max(50);
        b.remove(70);
        assert_eq!([told(&told_a), told(&told_b)], [0, 1]);
        assert!(b.try_add(10) && b.try_add(5) && !b.try_add(10));
        budget.set_bytes_max(100);
        assert_eq!([told(&told_a), told(&told_b)], [0, 0], "the first is first again");
        b.remove(5);
        assert_eq!([told(&told_a), told(&told_b)], [1, 0]);
        assert!(a.try_add(60));
    }

    #[test]
    fn what_an_event_leaves_over_serves_those_who_wait() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b)] = shares(&budget);
        assert!(a.try_add(80) && b.try_add(20));
        assert!(!a.try_add(50) && !b.try_add(30));
        a.remove(50);
        assert_eq!([told(&told_a), told(&told_b)], [1, 0]);
        assert!(a.try_add(20) && a.has_surplus(), "the event is a smaller one by now");
        assert_eq!((budget.bytes_used(), told(&told_b)), (70, 0), "nobody is told under a lock");
        a.pass_on();
        assert_eq!([told(&told_a), told(&told_b)], [0, 1]);
        assert!(!a.has_surplus() && b.try_add(30));
        assert_eq!(budget.bytes_used(), 100);
    }

    #[test]
    fn what_was_given_for_an_event_that_is_too_large_by_now_serves_others() {
        let budget = Budget::new(100);
        let [(a, told_a), (b, told_b)] = shares(&budget);
        assert!(a.try_add(80) && b.try_add(20));
        assert!(!a.try_add(50) && !b.try_add(30));
        a.remove(50);
        assert!(!a.try_add(500));
        a.pass_on();
        assert_eq!([told(&told_a), told(&told_b)], [1, 1]);
        assert!(b.try_add(30) && b.try_add(20));
    }

    /// A share may be dropped by its owner just as it is looked at in the line.
    #[test]
    fn a_share_that_is_dropped_while_room_is_given_out_hangs_nobody() {
        const ROUNDS: usize = 400_000;
        let budget = Budget::new(100);
        let ended = Arc::new(AtomicBool::new(false));
        let (done, is_done) = std::sync::mpsc::channel();
        // Not scoped: a thread that hangs must not hang the test.
        let (of_looker, ended_of_looker) = (budget.clone(), ended.clone());
        std::thread::spawn(move || {
            while !ended_of_looker.load(SeqCst) {
                of_looker.release(0, None);
            }
        });
        std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                let share = Share::new(&budget);
                assert!(share.try_add(90) && !share.try_add(90));
            }
            assert_eq!((budget.bytes_used(), budget.waiting.load(SeqCst)), (0, 0));
            ended.store(true, SeqCst);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(std::time::Duration::from_secs(60)).expect("it hangs");
    }

    #[test]
    fn what_was_never_counted_has_no_effect() {
        let budget = Budget::new(100);
        let [(a, _)] = shares(&budget);
        a.remove(10);
        assert!(a.try_add(5));
        a.remove(10);
        assert_eq!((budget.bytes_used(), a.bytes_held()), (0, 0));
    }

    #[test]
    fn reservations_are_given_back_and_pollers_woken() {
        let budget = Budget::new(100);
        let count = Arc::new(Count::default());
        let waker: Waker = count.clone().into();
        let mut cx = Context::from_waker(&waker);
        let large = budget.reserve(500);
        assert!(budget.poll_room(&mut cx).is_pending());
        drop(large);
        assert_eq!(told(&count), 1);
        assert!(budget.poll_room(&mut cx).is_ready());
        let (first, second) = (budget.reserve(90), budget.reserve(90));
        assert!(budget.poll_room(&mut cx).is_pending());
        drop(first);
        assert!(budget.poll_room(&mut cx).is_ready());
        assert_eq!((told(&count), budget.bytes_used()), (1, 90));
        drop(second);
        assert_eq!((told(&count), budget.bytes_used()), (0, 0), "nobody waits");
    }

    /// Threads that take and wait for room, while others give back what is held:
    /// none is left waiting, and the bound and one event for each holds.
    #[test]
    fn nobody_is_forgotten_and_the_bound_holds() {
        const THREADS: usize = 8;
        const ROUNDS: usize = 3000;
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for seed in 0..THREADS as u64 {
                let budget = &budget;
                let share = Share::new(budget);
                let (room, told) = std::sync::mpsc::channel();
                let tell = move || {
                    let _nobody_listens = room.send(());
                };
                share.on_room(Ready(Arc::new(tell)));
                let (taken, to_settle) = std::sync::mpsc::channel();
                let settled = share.clone();
                scope.spawn(move || to_settle.iter().for_each(|bytes| settled.remove(bytes)));
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for _ in 0..ROUNDS {
                        let bytes = rng.usize(1..300);
                        while !share.try_add(bytes) {
                            let long = std::time::Duration::from_secs(30);
                            told.recv_timeout(long).expect("nobody was told of room");
                        }
                        taken.send(bytes).unwrap();
                        assert!(budget.bytes_used() <= 1000 + THREADS * 300);
                    }
                });
            }
        });
        assert_eq!((budget.bytes_used(), budget.waiting.load(SeqCst)), (0, 0));
    }
}
