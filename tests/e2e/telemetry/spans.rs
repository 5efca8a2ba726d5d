//! Spans, as a collector gets them.

use super::collector::{Collector, attribute, traceparent};
use crate::support::{Jobs, Scene, drain, on_each_backend};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use testkit::Stream::{Err, Out};
use testkit::{Host, free_port};

on_each_backend!(
    a_trace_goes_from_a_command_through_two_components,
    a_handling_that_fails_has_a_span_that_says_so,
);

/// Sends spans at once, so that a test need not wait.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");
/// Sends spans when the host ends.
const AT_THE_END: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "3600000");

fn run(scene: &Scene, collector: &Collector, (name, value): (&str, &str)) -> Host {
    scene.command(&["run", "--otlp", collector.url()]).env(name, value).start()
}

fn is_child(span: &Span, parent: &Span) -> bool {
    span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id
}

fn is_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

async fn a_trace_goes_from_a_command_through_two_components(scene: Scene) {
    let collector = Collector::start().await;
    Jobs { events: &["publish out/a 1 onward"], ..Jobs::default() }.write(&scene);
    let mut host = run(&scene, &collector, SOON);
    let first = collector.one("publish jobs/0").await;
    let handled = collector.one("process jobs/+").await;
    let second = collector.one("publish out/a").await;
    let received = collector.one("process out/+").await;
    assert!(first.parent_span_id.is_empty(), "a command begins a trace: {first:#?}");
    assert!(is_child(&handled, &first), "{handled:#?}");
    assert!(is_child(&second, &handled), "{second:#?}");
    assert!(is_child(&received, &second), "{received:#?}");
    for (span, kind) in [(&first, SpanKind::Producer), (&handled, SpanKind::Consumer)] {
        assert_eq!(span.kind(), kind, "{span:#?}");
        assert!(!is_failed(span), "{span:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:#?}");
    }
    for (span, name, value) in [
        (&first, "messaging.system", "wasi_pubsub"),
        (&first, "messaging.operation.name", "publish"),
        (&first, "messaging.operation.type", "send"),
        (&first, "messaging.destination.name", "jobs/0"),
        (&first, "wasi_pubsub.component", "source"),
        (&handled, "messaging.operation.name", "process"),
        (&handled, "messaging.operation.type", "process"),
        (&handled, "messaging.destination.name", "jobs/0"),
        (&handled, "messaging.destination.template", "jobs/+"),
        (&handled, "messaging.destination.subscription.name", "wasi-pubsub/jobs/+"),
        (&handled, "messaging.consumer.group.name", "wasi-pubsub"),
        (&handled, "messaging.message.body.size", "22"),
        (&handled, "cloudevents.event_source", "source"),
        (&handled, "cloudevents.event_type", "test"),
        (&handled, "wasi_pubsub.component", "handler"),
        (&handled, "wasi_pubsub.attempt", "1"),
        (&handled, "wasi_pubsub.verdict", "ack"),
        (&second, "wasi_pubsub.component", "handler"),
        (&received, "wasi_pubsub.component", "letters"),
    ] {
        assert_eq!(attribute(span, name).as_deref(), Some(value), "{name} of {span:#?}");
    }
    let id = attribute(&first, "messaging.message.id");
    assert!(id.as_ref().is_some_and(|id| !id.is_empty()), "{first:#?}");
    assert_eq!(id, attribute(&handled, "messaging.message.id"));
    host.wait_for(Out, &format!(r#""traceparent": "{}""#, traceparent(&second))).await;
    assert_eq!(collector.resource("service.name").as_deref(), Some("wasi-pubsub"));
    let version = collector.resource("service.version");
    assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    drain(&mut host).await;
}

async fn a_handling_that_fails_has_a_span_that_says_so(scene: Scene) {
    let collector = Collector::start().await;
    let events = &["until 2; error not yet", "until 2; panic", "reject never"];
    Jobs { events, ..Jobs::default() }.write(&scene);
    let mut host = run(&scene, &collector, SOON);
    let spans = collector.wait_for("process jobs/+", 5).await;
    let said = |verdict: &str, attempt: &str| {
        let is_it = |span: &&Span| {
            attribute(span, "wasi_pubsub.verdict").as_deref() == Some(verdict)
                && attribute(span, "wasi_pubsub.attempt").as_deref() == Some(attempt)
        };
        let found: Vec<_> = spans.iter().filter(is_it).collect();
        let text = |span: &Span| span.status.clone().unwrap_or_default().message;
        found.iter().map(|span| (is_failed(span), text(span))).collect::<Vec<_>>()
    };
    assert_eq!(said("retry", "1"), [(true, "not yet".to_owned())]);
    assert_eq!(said("reject", "1"), [(true, "never".to_owned())]);
    assert_eq!(said("ack", "2"), [(false, String::new()), (false, String::new())]);
    let [(true, trap)] = &said("trap", "1")[..] else { panic!("{spans:#?}") };
    assert!(trap.starts_with("trapped: "), "{trap}");
    // Both attempts at an event are in the trace that it came with.
    let traces: std::collections::HashSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces.len(), 3, "{spans:#?}");
    drain(&mut host).await;
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_stays_so() {
    let scene = Scene::mosquitto().await;
    let collector = Collector::start().await;
    Jobs::default().write(&scene);
    let mut host = run(&scene, &collector, SOON);
    host.wait_for(Err, "ready").await;
    let parent = |flags| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    let step = |text: &str| format!("publish out/a 1 {text}");
    for (flags, text) in [("00", "unseen"), ("01", "seen")] {
        let attribute = format!("traceparent={}", parent(flags));
        scene.publish(&["jobs/0", "-m", &step(text), "-a", &attribute], "").await;
        host.wait_for(Out, &format!("data: \"{text}\"")).await;
    }
    let span = collector.one("process jobs/+").await;
    assert_eq!(traceparent(&span)[..35], parent("01")[..35], "in the trace that it came with");
    assert_eq!(span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    let lines = host.lines().of(Out);
    let unseen = lines.iter().find(|line| line.contains("\"unseen\"")).unwrap();
    assert!(unseen.contains("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{unseen}");
    assert!(unseen.contains("-00\""), "what was not sampled goes on so: {unseen}");
    drain(&mut host).await;
}

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end() {
    let scene = Scene::memory();
    let collector = Collector::start().await;
    Jobs { events: &["print handled"], ..Jobs::default() }.write(&scene);
    // The address comes from the environment here, and so does the name.
    let mut host = scene
        .command(&["run"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_SERVICE_NAME", "plant")
        .env(AT_THE_END.0, AT_THE_END.1)
        .start();
    host.wait_for(Out, "handler | handled").await;
    assert_eq!(collector.spans().len(), 0, "nothing is sent before");
    drain(&mut host).await;
    let mut names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["process jobs/+", "publish jobs/0"]);
    assert_eq!(collector.resource("service.name").as_deref(), Some("plant"));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_one_line() {
    let scene = Scene::memory();
    let events = &["print 1", "until 2; error once", "print 3"];
    Jobs { events, ..Jobs::default() }.write(&scene);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut host = scene.command(&["run", "--otlp", &nobody]).env(SOON.0, SOON.1).start();
    host.wait_for(Out, "handler | 3").await;
    host.wait_for(Err, "spans cannot be exported").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Err, "spans"), 1, "{}", host.lines().dump());
    assert!(host.lines().contain(Err, &nobody), "{}", host.lines().dump());
}

#[tokio::test]
async fn an_address_that_is_none_is_an_error_before_anything_runs() {
    let scene = Scene::memory();
    Jobs { events: &["print handled"], ..Jobs::default() }.write(&scene);
    for (url, reason) in [
        ("localhost:4318", "neither http nor https"),
        ("grpc://localhost:4317", "`grpc` is neither http nor https"),
        ("http://", "no address of a collector"),
        ("nonsense", "no address of a collector"),
        ("http://me:hush@localhost", "OTEL_EXPORTER_OTLP_HEADERS"),
    ] {
        let mut host = scene.command(&["run", "--otlp", url]).start();
        host.expect_exit(2).await;
        let text = host.lines().dump();
        assert!(text.contains("--otlp: ") && text.contains(reason), "{url}: {text}");
        assert!(text.contains("http://127.0.0.1:4318") && !text.contains("hush"), "{text}");
        assert_eq!(host.lines().of(Out), [""; 0]);
    }
}

#[tokio::test]
async fn the_environment_can_forbid_what_it_names() {
    let scene = Scene::memory();
    Jobs { events: &["print handled"], ..Jobs::default() }.write(&scene);
    let collector = Collector::start().await;
    for (name, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let command = scene.command(&["run", "--otlp", collector.url()]);
        let mut host = command.env(name, value).start();
        host.wait_for(Out, "handler | handled").await;
        drain(&mut host).await;
        assert!(host.lines().contain(Err, "no traces are exported"), "{}", host.lines().dump());
    }
    assert_eq!(collector.spans().len(), 0);
}
