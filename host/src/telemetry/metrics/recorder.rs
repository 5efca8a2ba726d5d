//! Counts what the runtime tells: handlings by their end, and publishes.

use super::histogram::Histogram;
use crate::broker::{BrokerError, Event, Lease, Topic};
use crate::runtime::{Ended, Handling, Observer, Publishing};
use crate::telemetry::outcome::Outcome;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counts handlings and publishes. What it keeps is bounded by the numbers of
/// components and subscriptions.
#[derive(Debug, Default)]
pub struct Recorder {
    components: RwLock<HashMap<String, Arc<Component>>>,
}

/// What is counted for one component.
#[derive(Debug, Default)]
struct Component {
    publishes: Arc<Publishes>,
    handlings: RwLock<HashMap<String, Arc<Handlings>>>,
}

/// What one component has handled of one subscription.
#[derive(Debug, Default)]
pub(super) struct Handlings {
    ended: [AtomicU64; Outcome::ALL.len()],
    /// The times of all but those for which there was no call.
    pub(super) times: Histogram,
    publishes: Arc<Publishes>,
}

/// What one component has published.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    failed: [AtomicU64; ERRORS.len()],
    /// The times of those that succeeded and of those that failed.
    pub(super) times: Histogram,
}

/// Why a publish failed, as a label.
const ERRORS: [&str; 10] = [
    "invalid_topic",
    "denied",
    "too_large",
    "unavailable",
    "timeout",
    "closed",
    "lease_expired",
    "unsupported",
    "other",
    "abandoned",
];
/// The call that published ended before the broker had answered.
const ABANDONED: usize = ERRORS.len() - 1;

fn error_index(error: &BrokerError) -> usize {
    match error {
        BrokerError::InvalidTopic(_) => 0,
        BrokerError::Denied(_) => 1,
        BrokerError::TooLarge { .. } => 2,
        BrokerError::Unavailable(_) => 3,
        BrokerError::Timeout => 4,
        BrokerError::Closed(_) => 5,
        BrokerError::LeaseExpired => 6,
        BrokerError::Unsupported(_) => 7,
        BrokerError::Other(_) => 8,
    }
}

impl Recorder {
    /// What was handled, by component and by the label of the subscription.
    pub(super) fn handlings(&self) -> BTreeMap<(String, String), Arc<Handlings>> {
        let mut found = BTreeMap::new();
        for (component, counted) in self.components.read().iter() {
            for (subscription, handlings) in counted.handlings.read().iter() {
                found.insert((component.clone(), subscription.clone()), Arc::clone(handlings));
            }
        }
        found
    }

    /// What was published, by component.
    pub(super) fn publishes(&self) -> BTreeMap<String, Arc<Publishes>> {
        let components = self.components.read();
        components.iter().map(|(name, c)| (name.clone(), Arc::clone(&c.publishes))).collect()
    }

    fn component(&self, name: &str) -> Arc<Component> {
        if let Some(component) = self.components.read().get(name) {
            return Arc::clone(component);
        }
        Arc::clone(self.components.write().entry(name.to_owned()).or_default())
    }
}

impl Component {
    fn handlings(&self, subscription: &str) -> Arc<Handlings> {
        if let Some(handlings) = self.handlings.read().get(subscription) {
            return Arc::clone(handlings);
        }
        let new =
            || Arc::new(Handlings { publishes: self.publishes.clone(), ..Handlings::default() });
        let mut handlings = self.handlings.write();
        Arc::clone(handlings.entry(subscription.to_owned()).or_insert_with(new))
    }
}

impl Handlings {
    /// How many ended in each way.
    pub(super) fn by_outcome(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().map(|outcome| (outcome, self.ended[outcome.index()].load(Relaxed)))
    }
}

impl Publishes {
    /// How many failed for each reason.
    pub(super) fn by_error(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ERRORS.into_iter().zip(self.failed.iter().map(|count| count.load(Relaxed)))
    }

    fn begin(self: &Arc<Self>) -> Box<dyn Publishing> {
        Box::new(Publish { counted: Arc::clone(self), begun: Instant::now(), ended: false })
    }
}

impl Observer for Recorder {
    fn handling(&self, component: &str, lease: &Lease) -> Option<Arc<dyn Handling>> {
        Some(self.component(component).handlings(&lease.subscription().settings().label))
    }

    fn publishing(&self, component: &str, _: &Topic, _: &mut Event) -> Option<Box<dyn Publishing>> {
        Some(self.component(component).publishes.begin())
    }
}

/// All that is handled for one subscription is counted in one place, so that a
/// handling needs nothing of its own.
impl Handling for Handlings {
    fn publishing(&self, _: &Topic, _: &mut Event) -> Option<Box<dyn Publishing>> {
        Some(self.publishes.begin())
    }

    fn ended(&self, ended: &Ended<'_>) {
        let outcome = Outcome::of(ended);
        self.ended[outcome.index()].fetch_add(1, Relaxed);
        if outcome != Outcome::TooLarge {
            self.times.record(ended.took);
        }
    }
}

struct Publish {
    counted: Arc<Publishes>,
    begun: Instant,
    ended: bool,
}

impl Publishing for Publish {
    fn ended(mut self: Box<Self>, result: Result<(), &BrokerError>) {
        self.ended = true;
        self.counted.times.record(self.begun.elapsed());
        if let Err(error) = result {
            self.counted.failed[error_index(error)].fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if !self.ended {
            self.counted.times.record(self.begun.elapsed());
            self.counted.failed[ABANDONED].fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::broker::Verdict;
    use crate::runtime::Cause;
    use std::time::Duration;

    fn retry() -> Verdict {
        Verdict::Retry { after: None, reason: "r".into() }
    }

    #[test]
    fn handlings_are_counted_by_what_ended_them() {
        let handlings = Handlings::default();
        let reject = Verdict::Reject { reason: "r".into() };
        for (verdict, cause) in [
            (Some(&Verdict::Ack), Cause::Returned),
            (Some(&Verdict::Ack), Cause::Returned),
            (Some(&retry()), Cause::Returned),
            (Some(&reject), Cause::Returned),
            (Some(&retry()), Cause::Trapped),
            (Some(&retry()), Cause::TimedOut),
            (Some(&retry()), Cause::TooLarge),
            (None, Cause::Trapped),
        ] {
            handlings.ended(&Ended { verdict, cause, took: Duration::from_millis(1) });
        }
        let counted: Vec<_> = handlings.by_outcome().map(|(o, n)| (o.word(), n)).collect();
        let expected = [
            ("ack", 2),
            ("retry", 1),
            ("reject", 1),
            ("trap", 1),
            ("timeout", 1),
            ("too_large", 1),
            ("given_back", 1),
        ];
        assert_eq!(counted, expected);
        assert_eq!(handlings.times.counted().count, 7, "there was no call for one");
    }

    #[test]
    fn publishes_are_counted_by_why_they_failed() {
        let recorder = Recorder::default();
        let topic = Topic::new("a").unwrap();
        let begin = || recorder.publishing("c", &topic, &mut Event::default()).unwrap();
        begin().ended(Ok(()));
        begin().ended(Err(&BrokerError::Unavailable("down".into())));
        drop(begin());
        let counted = &recorder.publishes()["c"];
        let failed: Vec<_> = counted.by_error().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failed, [("unavailable", 1), ("abandoned", 1)]);
        assert_eq!(counted.times.counted().count, 3);
    }

    #[test]
    fn each_error_has_its_word() {
        let text = String::new;
        let errors = [
            BrokerError::InvalidTopic(text()),
            BrokerError::Denied(text()),
            BrokerError::TooLarge { limit: 1 },
            BrokerError::Unavailable(text()),
            BrokerError::Timeout,
            BrokerError::Closed(text()),
            BrokerError::LeaseExpired,
            BrokerError::Unsupported(text()),
            BrokerError::Other(text()),
        ];
        for (index, error) in errors.iter().enumerate() {
            assert_eq!(error_index(error), index, "{error:?} is `{}`", ERRORS[index]);
        }
        assert_eq!(ERRORS[ABANDONED], "abandoned");
    }
}
