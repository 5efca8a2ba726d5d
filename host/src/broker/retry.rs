//! How long to wait before an event is tried again, and how often.

use std::time::Duration;

/// The longest delay that is honoured, whoever asks for it.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Exponential back-off with full jitter, and a bound on attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The number of attempts after which an event is exhausted; `None`: it is
    /// tried without end.
    pub max_attempts: Option<u32>,
    /// The longest delay after the first attempt; it doubles with each one.
    pub backoff: Duration,
    /// The longest delay after any attempt.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: None,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The delay after an attempt, counted from 1, that failed: evenly spread
    /// between nothing and the bound of that attempt, so that events that
    /// failed together do not come back together.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.bound(attempt);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(0..=nanos))
    }

    /// The longest delay after an attempt, counted from 1.
    #[must_use]
    pub fn bound(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.backoff.saturating_mul(1 << doublings).min(self.backoff_max).min(RETRY_DELAY_MAX)
    }

    /// Whether an event that failed this attempt has had all its attempts.
    #[must_use]
    pub fn is_exhausted(&self, attempt: u32) -> bool {
        self.max_attempts.is_some_and(|max| attempt >= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_its_maximum() {
        let policy = RetryPolicy::default();
        let millis = |attempt| policy.bound(attempt).as_millis();
        assert_eq!([millis(1), millis(2), millis(3), millis(9)], [100, 200, 400, 25_600]);
        assert_eq!([millis(10), millis(1000), millis(u32::MAX)], [30_000; 3]);
    }

    #[test]
    fn delays_fill_the_whole_range() {
        let policy = RetryPolicy::default();
        let mut rng = fastrand::Rng::with_seed(7);
        let delays: Vec<_> = (0..1000).map(|_| policy.delay(3, &mut rng)).collect();
        assert!(delays.iter().all(|d| *d <= policy.bound(3)));
        for eighth in 0..8 {
            let range =
                Duration::from_millis(eighth * 50)..Duration::from_millis((eighth + 1) * 50);
            let found = delays.iter().filter(|d| range.contains(d)).count();
            assert!((80..=170).contains(&found), "{found} delays in {range:?}");
        }
    }

    #[test]
    fn settings_without_sense_do_no_harm() {
        let mut rng = fastrand::Rng::with_seed(7);
        let zero = RetryPolicy { backoff: Duration::ZERO, ..RetryPolicy::default() };
        assert_eq!(zero.delay(5, &mut rng), Duration::ZERO);
        let huge = RetryPolicy {
            backoff: Duration::MAX,
            backoff_max: Duration::MAX,
            max_attempts: Some(0),
        };
        assert!(huge.delay(u32::MAX, &mut rng) <= RETRY_DELAY_MAX);
        assert!(huge.is_exhausted(1));
    }
}
