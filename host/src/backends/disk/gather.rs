//! How long a commit waits for more to come.
//!
//! A commit costs about the same for one event and for a thousand. Who publishes
//! one event after the other comes again as soon as the last one is confirmed: so
//! the next commit waits until about as many have come as could, but only for a
//! part of what a commit takes. Where that does not bring them it waits less.

use std::time::Duration;

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_millis(5);
/// The largest part of a commit that is spent waiting: one over this.
const PART_MAX: u32 = 4;
/// The smallest part.
const PART_MIN: u32 = 32;
/// How much of what a commit took is taken over from what the ones before took.
const SMOOTHING: u32 = 4;

/// Learns from each commit what to expect of the next one.
#[derive(Debug)]
pub(super) struct Gather {
    /// As many as could come.
    expected: usize,
    /// Those of them that were waiting already when the last commit was over.
    waiting: usize,
    took: Duration,
    part: u32,
}

impl Default for Gather {
    fn default() -> Self {
        Self { expected: 1, waiting: 0, took: Duration::ZERO, part: PART_MAX }
    }
}

impl Gather {
    /// When so many are there, nothing more is waited for.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    /// The longest time to wait for them.
    pub(super) fn wait(&self) -> Duration {
        if self.expected <= 1 { Duration::ZERO } else { (self.took / self.part).min(WAIT_MAX) }
    }

    /// So many have come, and are committed now.
    pub(super) fn gathered(&mut self, events: usize) {
        let hoped = self.expected.saturating_sub(self.waiting);
        let came = events.saturating_sub(self.waiting);
        if hoped > 0 {
            let was_worth_it = came * 2 >= hoped;
            self.part = if was_worth_it { self.part / 2 } else { self.part * 2 };
            self.part = self.part.clamp(PART_MAX, PART_MIN);
        }
    }

    /// A commit is over: what it had, how long it took, and how many came meanwhile.
    pub(super) fn committed(&mut self, events: usize, took: Duration, waiting: usize) {
        self.took = (self.took * (SMOOTHING - 1) + took) / SMOOTHING;
        self.expected = (events + waiting).max(1);
        self.waiting = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(8);

    /// Commits until what a commit takes is known.
    fn used_to(publishers: usize) -> Gather {
        let mut gather = Gather::default();
        for _ in 0..32 {
            gather.gathered(publishers);
            gather.committed(publishers, COMMIT, 0);
        }
        gather
    }

    #[test]
    fn one_publisher_waits_for_nobody() {
        assert_eq!(Gather::default().wait(), Duration::ZERO);
        assert_eq!((used_to(1).expected(), used_to(1).wait()), (1, Duration::ZERO));
    }

    #[test]
    fn all_who_were_answered_and_all_who_wait_are_expected() {
        let mut gather = used_to(64);
        assert_eq!(gather.expected(), 64);
        let wait = gather.wait();
        assert!(wait > COMMIT / 5 && wait <= COMMIT / 4, "{wait:?}");
        // Two groups that missed each other come together again.
        gather.gathered(40);
        gather.committed(40, COMMIT, 24);
        assert_eq!(gather.expected(), 64);
    }

    #[test]
    fn in_vain_it_waits_less_and_less_and_tries_again() {
        let mut gather = used_to(64);
        let full = gather.wait();
        for _ in 0..8 {
            gather.gathered(1);
            gather.committed(64, COMMIT, 0);
        }
        let short = gather.wait();
        assert!(short > Duration::ZERO && short <= full / 7, "{short:?}");
        gather.gathered(64);
        gather.committed(64, COMMIT, 0);
        assert!(gather.wait() > short);
    }

    #[test]
    fn a_slow_disk_makes_nobody_wait_beyond_the_bound() {
        let mut gather = used_to(64);
        gather.committed(64, Duration::from_secs(60), 0);
        assert_eq!(gather.wait(), WAIT_MAX);
    }
}
