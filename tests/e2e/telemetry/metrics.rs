//! The values that operators rely on.

use super::run_with_metrics;
use super::samples::Samples;
use crate::support::{Jobs, Scene, drain, on_each_backend};
use testkit::Stream::{Err, Out};

on_each_backend!(
    every_end_of_a_handling_is_counted,
    a_queue_that_components_share_has_no_component_and_its_handlings_do,
);

/// The subscriptions of [`Jobs`].
const JOBS: [(&str, &str); 2] = [("component", "handler"), ("subscription", "wasi-pubsub/jobs/+")];
const DEAD: [(&str, &str); 2] = [("component", "letters"), ("subscription", "letters/dead/+")];

async fn every_end_of_a_handling_is_counted(scene: Scene) {
    let events = &[
        "ok",
        "publish out/a 2 x; ok",
        "until 2; error once",
        "until 2; panic",
        "until 2; sleep 60000",
        "reject bad",
        // Not granted: refused before it is a publish.
        "until 2; publish elsewhere/a 1 x",
    ];
    let component = "instances = 1\ntimeout = \"400ms\"";
    Jobs { component, events, ..Jobs::default() }.write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    let samples = Samples::scrape_until(&address, "all events to be done", |samples| {
        samples.get("wasi_pubsub_acked_total", &JOBS) == Some(6.0)
            && samples.get("wasi_pubsub_dead_lettered_total", &JOBS) == Some(1.0)
            && samples.get("wasi_pubsub_acked_total", &DEAD) == Some(1.0)
            && samples.sum("wasi_pubsub_in_flight") == 0.0
    })
    .await;

    // Eleven attempts at seven events.
    for (name, value) in [
        ("wasi_pubsub_received_total", 11.0),
        ("wasi_pubsub_retried_total", 4.0),
        ("wasi_pubsub_rejected_total", 1.0),
        ("wasi_pubsub_dropped_total", 0.0),
        ("wasi_pubsub_expired_total", 0.0),
        ("wasi_pubsub_waiting", 0.0),
        ("wasi_pubsub_queued", 0.0),
        ("wasi_pubsub_subscription_open", 1.0),
        ("wasi_pubsub_handling_seconds_count", 11.0),
    ] {
        assert_eq!(samples.get(name, &JOBS), Some(value), "{name}: {samples:#?}");
    }
    for (verdict, value) in [
        ("ack", 6.0),
        ("retry", 2.0),
        ("reject", 1.0),
        ("trap", 1.0),
        ("timeout", 1.0),
        ("too_large", 0.0),
        ("given_back", 0.0),
    ] {
        let labels = [JOBS[0], JOBS[1], ("verdict", verdict)];
        let found = samples.get("wasi_pubsub_handled_total", &labels);
        assert_eq!(found, Some(value), "{verdict}: {samples:#?}");
    }
    // One took the timeout of 0.4 s, and none of the others as long as that.
    let sum = samples.get("wasi_pubsub_handling_seconds_sum", &JOBS).unwrap();
    assert!((0.4..20.0).contains(&sum), "{sum} s");
    buckets_add_up(&samples, "wasi_pubsub_handling_seconds");
    buckets_add_up(&samples, "wasi_pubsub_publish_seconds");

    let handler = [("component", "handler")];
    for (name, value) in [
        ("wasi_pubsub_instances", 1.0),
        ("wasi_pubsub_instance_starts_total", 3.0),
        ("wasi_pubsub_instance_restarts_total", 2.0),
        ("wasi_pubsub_instance_start_failures_total", 0.0),
        ("wasi_pubsub_component_healthy", 1.0),
        ("wasi_pubsub_publish_seconds_count", 2.0),
    ] {
        assert_eq!(samples.get(name, &handler), Some(value), "{name}: {samples:#?}");
    }
    let source = [("component", "source")];
    let published = samples.get("wasi_pubsub_publish_seconds_count", &source);
    assert_eq!(published, Some(events.len() as f64), "a command's publishes count");
    assert_eq!(samples.sum("wasi_pubsub_publish_failures_total"), 0.0);
    assert_eq!(samples.get("wasi_pubsub_ready", &[]), Some(1.0));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(samples.get("wasi_pubsub_build_info", &version), Some(1.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_secs_f64() - samples.get("process_start_time_seconds", &[]).unwrap();
    assert!((0.0..600.0).contains(&age), "started {age} s ago");
    the_reference_has_each(&samples);
    drain(&mut host).await;
}

/// Buckets count from the smallest up, and the last one has all.
fn buckets_add_up(samples: &Samples, name: &str) {
    let counts: Vec<_> = samples.of(&format!("{name}_count")).collect();
    assert!(!counts.is_empty(), "{samples:#?}");
    for (labels, count) in counts {
        let mut buckets: Vec<_> = samples
            .of(&format!("{name}_bucket"))
            .filter(|(found, _)| labels.iter().all(|(k, v)| found.get(k) == Some(v)))
            .map(|(found, value)| (found["le"].parse::<f64>().unwrap(), value))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        assert_eq!((buckets[0].0, buckets[20].0), (0.000_01, 60.0), "from 10 µs to 60 s");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{labels:?}");
    }
}

pub(super) fn the_reference_has_each(samples: &Samples) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let text = std::fs::read_to_string(path).unwrap();
    for name in samples.names() {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        assert!(text.contains(&format!("`{family}`")), "docs/operating.md lacks {family}");
    }
}

async fn a_queue_that_components_share_has_no_component_and_its_handlings_do(scene: Scene) {
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "jobs/+"
group = "both"
components = ["one", "two"]
delivery = "push"
[[capability.config]]
components = ["source"]
publish = ["jobs/#"]
[[component]]
name = "one"
path = "$GUESTS/receiver.wasm"
[[component]]
name = "two"
path = "$GUESTS/receiver.wasm"
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["publish jobs/0 20 x"]
"#,
    );
    let (mut host, address) = run_with_metrics(&scene).await;
    let shared = [("subscription", "both/jobs/+")];
    let samples = Samples::scrape_until(&address, "all events to be done", |samples| {
        samples.get("wasi_pubsub_acked_total", &shared) == Some(20.0)
    })
    .await;
    let by = |component| {
        let labels = [("component", component), shared[0], ("verdict", "ack")];
        samples.get("wasi_pubsub_handled_total", &labels).unwrap_or_default()
    };
    assert_eq!(by("one") + by("two"), 20.0, "{samples:#?}");
    drain(&mut host).await;
}

#[tokio::test]
async fn what_waits_behind_an_event_in_handling_is_queued() {
    let scene = Scene::memory();
    let events = &["print begun; sleep 60000", "ok", "ok", "ok"];
    let component = "instances = 1\ntimeout = \"2m\"";
    let binding = "max_in_flight = 1";
    Jobs { component, binding, events, ..Jobs::default() }.write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    host.wait_for(Out, "handler | begun").await;
    let samples = Samples::scrape_until(&address, "three events to be queued", |samples| {
        samples.get("wasi_pubsub_queued", &JOBS) == Some(3.0)
    })
    .await;
    assert_eq!(samples.get("wasi_pubsub_in_flight", &JOBS), Some(1.0));
    host.kill();
}

#[tokio::test]
async fn a_publish_that_fails_is_counted_with_its_reason() {
    let mut scene = Scene::mosquitto().await;
    let keys = format!("url = \"{}\"\npublish_timeout = \"100ms\"", scene.broker().url());
    scene.set_connection(keys);
    Jobs::default().write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    host.wait_for(Err, "ready").await;
    scene
        .publish(&["jobs/0", "-m", "print begun; until 2; sleep 1000; publish out/a 1 x"], "")
        .await;
    host.wait_for(Out, "handler | begun").await;
    scene.broker().kill();
    let failed = [("component", "handler"), ("error", "unavailable")];
    Samples::scrape_until(&address, "a publish to fail", |samples| {
        samples.get("wasi_pubsub_publish_failures_total", &failed) >= Some(1.0)
    })
    .await;
    host.kill();
}
