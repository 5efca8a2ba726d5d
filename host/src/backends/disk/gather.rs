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
