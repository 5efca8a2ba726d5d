//! Who is told of each handling of an event, and of what is published meanwhile.
//!
//! Metrics, traces and recordings are observers. Where there are none, nothing
//! here costs anything.

use crate::broker::{BrokerError, Event, Lease, Topic, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Is told what components do. Called on the way of each event: quick, and never
/// blocking.
pub trait Observer: Send + Sync + 'static {
    /// A handler is about to be called with an event. `None`: this one is of no
    /// interest.
    fn handling(&self, component: &str, lease: &Lease) -> Option<Arc<dyn Handling>>;

    /// A component publishes outside of any handling that this observer follows:
    /// a command does, for one. The event is complete, and may be added to.
    fn publishing(
        &self,
        component: &str,
        topic: &Topic,
        event: &mut Event,
    ) -> Option<Box<dyn Publishing>>;
}

/// One event being handled.
pub trait Handling: Send + Sync + 'static {
    /// The handler publishes. The event is complete, and may be added to.
    fn publishing(&self, topic: &Topic, event: &mut Event) -> Option<Box<dyn Publishing>>;

    /// It is over. Not called where the process ends in the middle of it.
    fn ended(&self, ended: &Ended<'_>);
}

/// One event being published.
pub trait Publishing: Send + 'static {
    /// The broker has taken responsibility, or not. Not called where the caller
    /// ended before.
    fn ended(self: Box<Self>, result: Result<(), &BrokerError>);
}

/// How the handling of one event ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What becomes of the event; `None`: it goes back uncharged, because it was
    /// in flight with others in an instance that failed.
    pub verdict: Option<&'a Verdict>,
    /// What ended the call.
    pub cause: Cause,
    /// How long the call took.
    pub took: Duration,
}

/// What ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The handler returned.
    Returned,
    /// The instance trapped, or exceeded its memory.
    Trapped,
    /// The timeout.
    TimedOut,
    /// The event does not fit into the memory of an instance; there was no call.
    TooLarge,
}

/// All observers.
#[derive(Clone, Default)]
pub struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    /// These, told in this order.
    #[must_use]
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers.into())
    }

    /// An event is about to be handled. `None` where nobody wants to know.
    #[must_use]
    pub fn begin(&self, component: &str, lease: &Lease) -> Option<Arc<Observation>> {
        // Nothing is allocated where nobody wants to know, as for most events.
        let mut handlings: Option<Box<[_]>> = None;
        for (index, observer) in self.0.iter().enumerate() {
            if let Some(handling) = observer.handling(component, lease) {
                let none = || vec![None; self.0.len()].into_boxed_slice();
                handlings.get_or_insert_with(none)[index] = Some(handling);
            }
        }
        Some(Arc::new(Observation { handlings: handlings?, begun: Instant::now() }))
    }

    /// Tells each of a publish: as part of the handling, where the observer
    /// follows it.
    pub(super) fn publishing(
        &self,
        observation: Option<&Observation>,
        component: &str,
        topic: &Topic,
        event: &mut Event,
    ) -> Publishings {
        let mut told = Vec::new();
        for (index, observer) in self.0.iter().enumerate() {
            let handling = observation.and_then(|found| found.handlings.get(index)?.as_ref());
            told.extend(match handling {
                Some(handling) => handling.publishing(topic, event),
                None => observer.publishing(component, topic, event),
            });
        }
        Publishings(told)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One handling, as all observers see it.
pub struct Observation {
    /// In the order of the observers.
    handlings: Box<[Option<Arc<dyn Handling>>]>,
    begun: Instant,
}

impl Observation {
    /// Tells how it ended.
    pub fn end(&self, verdict: Option<&Verdict>, cause: Cause) {
        let took = match cause {
            Cause::TooLarge => Duration::ZERO,
            _ => self.begun.elapsed(),
        };
        for handling in self.handlings.iter().flatten() {
            handling.ended(&Ended { verdict, cause, took });
        }
    }
}

/// One publish, as all observers see it.
pub(super) struct Publishings(Vec<Box<dyn Publishing>>);

impl Publishings {
    pub(super) fn end(self, result: Result<(), &BrokerError>) {
        for publishing in self.0 {
            publishing.ended(result);
        }
    }
}
