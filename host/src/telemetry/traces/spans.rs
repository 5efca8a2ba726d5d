//! A span for each handling and for each publish, after OpenTelemetry's semantic
//! conventions for messaging.

use super::context::{TRACEPARENT, TraceContext};
use crate::broker::{BrokerError, Event, Lease, Limits, Topic, Verdict};
use crate::runtime::{Ended, Handling, Observer, Publishing};
use crate::telemetry::outcome::Outcome;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use parking_lot::Mutex;
use std::str::FromStr;
use std::sync::Arc;

/// The value of `messaging.system`: the neutral interface that components see.
const SYSTEM: &str = "wasi_pubsub";
/// How much of the reason for a failure a span has, in characters.
const REASON_CHARACTERS_MAX: usize = 256;

/// Makes spans.
pub(super) struct Spans {
    maker: Arc<Maker>,
}

struct Maker {
    tracer: SdkTracer,
    limits: Limits,
}

impl Spans {
    /// `limits` are those of the events that are published.
    pub(super) fn new(tracer: SdkTracer, limits: Limits) -> Self {
        Self { maker: Arc::new(Maker { tracer, limits }) }
    }
}

impl Observer for Spans {
    fn handling(&self, component: &str, lease: &Lease) -> Option<Arc<dyn Handling>> {
        let incoming = TraceContext::of(lease.event());
        let parent = incoming.as_ref().and_then(remote);
        let parent = parent
            .map_or_else(Context::new, |remote| Context::new().with_remote_span_context(remote));
        let settings = lease.subscription().settings();
        let name = format!("process {}", settings.filter);
        let span = self.maker.start(name, SpanKind::Consumer, &parent, || {
            let mut attributes =
                attributes("process", "process", component, lease.topic(), lease.event());
            attributes.extend([
                KeyValue::new("messaging.destination.subscription.name", settings.label.clone()),
                KeyValue::new("messaging.destination.template", settings.filter.to_string()),
                KeyValue::new("wasi_pubsub.attempt", i64::from(lease.attempt())),
            ]);
            attributes.extend(
                settings
                    .group
                    .as_ref()
                    .map(|group| KeyValue::new("messaging.consumer.group.name", group.clone())),
            );
            attributes
        });
        Some(Arc::new(Process {
            maker: Arc::clone(&self.maker),
            component: component.to_owned(),
            incoming: incoming.map(|incoming| incoming.parent),
            context: Context::new().with_remote_span_context(span.span_context().clone()),
            span: Mutex::new(Some(span)),
        }))
    }

    fn publishing(
        &self,
        component: &str,
        topic: &Topic,
        event: &mut Event,
    ) -> Option<Box<dyn Publishing>> {
        if event.attribute(TRACEPARENT).is_some() {
            return None;
        }
        Some(self.maker.publish(component, &Context::new(), topic, event))
    }
}

impl Maker {
    /// Starts a span. Its attributes are only made when it is recorded.
    fn start(
        &self,
        name: String,
        kind: SpanKind,
        parent: &Context,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Span {
        let builder = self.tracer.span_builder(name).with_kind(kind);
        let mut span = self.tracer.build_with_context(builder, parent);
        if span.is_recording() {
            span.set_attributes(attributes());
        }
        span
    }

    /// Starts the span of a publish, and gives its context to the event.
    fn publish(
        &self,
        component: &str,
        parent: &Context,
        topic: &Topic,
        event: &mut Event,
    ) -> Box<dyn Publishing> {
        let name = format!("publish {topic}");
        let span = self.start(name, SpanKind::Producer, parent, || {
            attributes("publish", "send", component, topic, event)
        });
        outgoing(span.span_context()).put(event, &self.limits);
        Box::new(Publish { span, ended: false })
    }
}

fn attributes(
    operation: &'static str,
    operation_type: &'static str,
    component: &str,
    topic: &Topic,
    event: &Event,
) -> Vec<KeyValue> {
    let size = i64::try_from(event.data.len()).unwrap_or(i64::MAX);
    vec![
        KeyValue::new("messaging.system", SYSTEM),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", operation_type),
        KeyValue::new("messaging.destination.name", topic.as_str().to_owned()),
        KeyValue::new("messaging.message.id", event.id.clone()),
        KeyValue::new("messaging.message.body.size", size),
        KeyValue::new("cloudevents.event_source", event.source.clone()),
        KeyValue::new("cloudevents.event_type", event.kind.clone()),
        KeyValue::new("wasi_pubsub.component", component.to_owned()),
    ]
}

/// The span that a context names, in another process or in this one.
fn remote(context: &TraceContext) -> Option<SpanContext> {
    let mut parts = context.parent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    // The other flags say nothing of spans that begin here.
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let state = context.state.as_deref().and_then(|state| TraceState::from_str(state).ok());
    Some(SpanContext::new(trace, span, flags, true, state.unwrap_or_default()))
}

/// The context that names a span.
fn outgoing(span: &SpanContext) -> TraceContext {
    let state = span.trace_state().header();
    TraceContext {
        parent: format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        ),
        state: (!state.is_empty()).then_some(state),
    }
}

/// The handling of one event.
struct Process {
    maker: Arc<Maker>,
    component: String,
    /// The `traceparent` that the event came with.
    incoming: Option<String>,
    /// What the spans of publishes have as their parent.
    context: Context,
    /// Until it has ended.
    span: Mutex<Option<Span>>,
}

impl Handling for Process {
    fn publishing(&self, topic: &Topic, event: &mut Event) -> Option<Box<dyn Publishing>> {
        // A handler that passes all attributes on has set none of its own.
        let own = event.attribute(TRACEPARENT).is_some_and(|p| Some(p) != self.incoming.as_deref());
        if own {
            return None;
        }
        Some(self.maker.publish(&self.component, &self.context, topic, event))
    }

    fn ended(&self, ended: &Ended<'_>) {
        let Some(mut span) = self.span.lock().take() else { return };
        let outcome = Outcome::of(ended);
        span.set_attribute(KeyValue::new("wasi_pubsub.verdict", outcome.word()));
        if outcome != Outcome::Ack {
            let reason = match ended.verdict {
                Some(Verdict::Retry { reason, .. } | Verdict::Reject { reason }) => reason.as_str(),
                _ => "the instance failed while it had several events in flight",
            };
            failed(&mut span, outcome.word(), reason);
        }
        span.end();
    }
}

/// One event being published.
struct Publish {
    span: Span,
    ended: bool,
}

impl Publishing for Publish {
    fn ended(mut self: Box<Self>, result: Result<(), &BrokerError>) {
        self.ended = true;
        if let Err(error) = result {
            failed(&mut self.span, "publish_failed", &error.to_string());
        }
        self.span.end();
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if !self.ended {
            failed(&mut self.span, "abandoned", "the call that published it ended before");
        }
    }
}

fn failed(span: &mut Span, kind: &'static str, reason: &str) {
    if !span.is_recording() {
        return;
    }
    span.set_attribute(KeyValue::new("error.type", kind));
    let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
    span.set_status(Status::error(reason));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_written_as_it_was_read() {
        for (flags, state) in [("00", None), ("01", Some("vendor=a,other=b"))] {
            let context = TraceContext {
                parent: format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"),
                state: state.map(str::to_owned),
            };
            let span = remote(&context).unwrap();
            assert!(span.is_valid() && span.is_remote());
            assert_eq!(span.is_sampled(), flags == "01");
            assert_eq!(outgoing(&span), context);
        }
    }
}
