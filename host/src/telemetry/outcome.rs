//! How a handling ended, in one word for labels and attributes.

use crate::broker::Verdict;
use crate::runtime::{Cause, Ended};

/// How the handling of one event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ack,
    Retry,
    Reject,
    Trap,
    Timeout,
    TooLarge,
    /// It goes back uncharged: it was in flight with others in an instance that
    /// failed, and runs again alone.
    GivenBack,
}

impl Outcome {
    /// All of them, each at the index that [`index`](Self::index) says.
    pub(super) const ALL: [Self; 7] = [
        Self::Ack,
        Self::Retry,
        Self::Reject,
        Self::Trap,
        Self::Timeout,
        Self::TooLarge,
        Self::GivenBack,
    ];

    pub(super) fn of(ended: &Ended<'_>) -> Self {
        match (ended.cause, ended.verdict) {
            (_, None) => Self::GivenBack,
            (Cause::Trapped, _) => Self::Trap,
            (Cause::TimedOut, _) => Self::Timeout,
            (Cause::TooLarge, _) => Self::TooLarge,
            (Cause::Returned, Some(Verdict::Ack)) => Self::Ack,
            (Cause::Returned, Some(Verdict::Retry { .. })) => Self::Retry,
            (Cause::Returned, Some(Verdict::Reject { .. })) => Self::Reject,
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::GivenBack => "given_back",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn each_has_its_own_place() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index, "{outcome:?}");
        }
    }
}
