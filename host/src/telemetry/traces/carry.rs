//! Hands the trace context of an event on to what its handler publishes.

use super::context::{TRACEPARENT, TraceContext};
use crate::broker::{Event, Lease, Limits, Topic};
use crate::runtime::{Ended, Handling, Observer, Publishing};
use std::sync::Arc;

/// Hands the trace context of an event on to what its handler publishes, unless
/// the handler has set one. `limits` are those of the events that are published.
#[must_use]
pub fn carry_on(limits: Limits) -> Arc<dyn Observer> {
    Arc::new(Carrying { limits: Arc::new(limits) })
}

struct Carrying {
    limits: Arc<Limits>,
}

impl Observer for Carrying {
    fn handling(&self, _: &str, lease: &Lease) -> Option<Arc<dyn Handling>> {
        let context = TraceContext::of(lease.event())?;
        Some(Arc::new(Carried { context, limits: Arc::clone(&self.limits) }))
    }

    fn publishing(&self, _: &str, _: &Topic, _: &mut Event) -> Option<Box<dyn Publishing>> {
        None
    }
}

struct Carried {
    context: TraceContext,
    limits: Arc<Limits>,
}

impl Handling for Carried {
    fn publishing(&self, _: &Topic, event: &mut Event) -> Option<Box<dyn Publishing>> {
        if event.attribute(TRACEPARENT).is_none() {
            self.context.put(event, &self.limits);
        }
        None
    }

    fn ended(&self, _: &Ended<'_>) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_of_the_handlers_own_stays() {
        let context = TraceContext { parent: PARENT.into(), state: Some("a=1".into()) };
        let carried = Carried { context: context.clone(), limits: Arc::default() };
        let topic = Topic::new("t").unwrap();
        let mut event = Event::default();
        assert!(carried.publishing(&topic, &mut event).is_none());
        assert_eq!(TraceContext::of(&event), Some(context));
        let own = vec![(TRACEPARENT.to_owned(), "its own".to_owned())];
        let mut event = Event { attributes: own.clone(), ..Event::default() };
        assert!(carried.publishing(&topic, &mut event).is_none());
        assert_eq!(event.attributes, own);
    }
}
