//! Pulling with explicit verdicts: leases, their deadlines, and what becomes of
//! events.

use crate::support::{Scene, drain, on_each_backend, printed};
use testkit::Stream::{Err, Out};

on_each_backend!(
    acknowledged_events_do_not_come_back,
    a_negative_acknowledgement_brings_an_event_back,
    what_is_dropped_without_a_verdict_comes_back,
    what_is_rejected_becomes_a_dead_letter,
    a_lease_that_is_over_has_no_effect,
    an_extended_lease_lasts_longer,
    a_subscription_that_is_not_configured_is_no_such_subscription,
    a_synchronous_handler_may_receive,
    what_a_failed_handler_has_received_comes_back,
    a_handler_that_waits_for_an_event_in_vain_misses_its_deadline,
    an_asynchronous_handler_may_pull,
    an_asynchronous_handler_may_not_receive_above_qos_0,
);

/// A command that pulls, and a source; dead letters are printed.
fn write(scene: &Scene, binding: &str, steps: &[&str], events: &[&str]) {
    let publish: Vec<String> =
        events.iter().map(|event| format!("publish jobs/0 1 {event}")).collect();
    scene.write(&format!(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/+"
components = ["puller"]
delivery = "pull"
retry = {{ backoff = "10ms", backoff_max = "10ms" }}
dead_letter = "dead/jobs"
{binding}

[[capability.config]]
components = ["source"]

[[component]]
name = "puller"
path = "$GUESTS/pulling-command.wasm"
args = {}

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {}
"#,
        serde_json::to_string(steps).unwrap(),
        serde_json::to_string(&publish).unwrap(),
    ));
}

/// Runs the command to its end; what it has printed.
async fn run(scene: &Scene, binding: &str, steps: &[&str], events: &[&str]) -> Vec<String> {
    write(scene, binding, steps, events);
    let mut host = scene.run();
    host.expect_exit(0).await;
    printed(&host)
}

const TAKE: &str = "pull jobs/+ 1 5000";
const NOTHING_LEFT: &str = "pull jobs/+ 1 300";

async fn acknowledged_events_do_not_come_back(scene: Scene) {
    let steps = &[TAKE, "ack", TAKE, TAKE, "ack-all", NOTHING_LEFT];
    assert_eq!(
        run(&scene, "", steps, &["one", "two", "three"]).await,
        [
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | pulled 1",
            "puller | delivery two attempt 1",
            "puller | pulled 1",
            "puller | delivery three attempt 1",
            "puller | pulled 0",
        ]
    );
}

async fn a_negative_acknowledgement_brings_an_event_back(scene: Scene) {
    let steps = &[TAKE, "nack 50", TAKE, "ack", NOTHING_LEFT];
    assert_eq!(
        run(&scene, "", steps, &["one"]).await,
        [
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | pulled 1",
            "puller | delivery one attempt 2",
            "puller | pulled 0",
        ]
    );
}

async fn what_is_dropped_without_a_verdict_comes_back(scene: Scene) {
    let steps = &[TAKE, "drop", TAKE, "ack", NOTHING_LEFT];
    assert_eq!(
        run(&scene, "", steps, &["one"]).await,
        [
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | pulled 1",
            "puller | delivery one attempt 2",
            "puller | pulled 0",
        ]
    );
}

async fn what_is_rejected_becomes_a_dead_letter(scene: Scene) {
    let letters = r#"
[[capability.config]]
queue = "dead/+"
components = ["puller"]
delivery = "pull"
"#;
    let steps = &[TAKE, "reject no good", "pull dead/+ 1 5000", "ack", NOTHING_LEFT];
    assert_eq!(
        run(&scene, letters, steps, &["one"]).await,
        [
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | pulled 0",
        ]
    );
}

async fn a_lease_that_is_over_has_no_effect(scene: Scene) {
    let steps = &[TAKE, "sleep 600", "try ack", TAKE, "ack", NOTHING_LEFT];
    assert_eq!(
        run(&scene, "ack_deadline = \"300ms\"", steps, &["one"]).await,
        [
            "puller | pulled 1",
            "puller | delivery one attempt 1",
            "puller | error: the lease on the event is over",
            "puller | pulled 1",
            "puller | delivery one attempt 2",
            "puller | pulled 0",
        ]
    );
}

async fn an_extended_lease_lasts_longer(scene: Scene) {
    let steps = &[TAKE, "extend 10000", "sleep 800", "ack", NOTHING_LEFT];
    assert_eq!(
        run(&scene, "ack_deadline = \"400ms\"", steps, &["one"]).await,
        ["puller | pulled 1", "puller | delivery one attempt 1", "puller | pulled 0"]
    );
}

async fn a_subscription_that_is_not_configured_is_no_such_subscription(scene: Scene) {
    let steps = &["try receive jobs/0 1", "try stream other 1", "try pull jobs/# 1 0"];
    let lines = run(&scene, "", steps, &[]).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, name) in lines.iter().zip(["jobs/0", "other", "jobs/#"]) {
        assert!(line.starts_with("puller | error: no such subscription: "), "{line}");
        assert!(line.contains(name), "{line}");
    }
}

/// A handler that pulls from `side/+`, as its events say.
fn write_handler(scene: &Scene, guest: &str, event: &str) {
    write_handler_with(scene, guest, event, "");
}

fn write_handler_with(scene: &Scene, guest: &str, event: &str, component: &str) {
    scene.write(&format!(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/+"
components = ["handler"]
delivery = "push"
retry = {{ max_attempts = 2, backoff = "10ms", backoff_max = "10ms" }}
on_exhausted = "drop"

[[capability.config]]
queue = "side/+"
components = ["handler"]
delivery = "pull"
retry = {{ backoff = "10ms", backoff_max = "10ms" }}

[[capability.config]]
components = ["source"]

[[component]]
name = "handler"
path = "$GUESTS/{guest}.wasm"
instances = 1
{component}

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["publish side/0 1 aside", "publish jobs/0 1 {event}"]
"#
    ));
}

async fn a_synchronous_handler_may_receive(scene: Scene) {
    write_handler(&scene, "pulling", "receive side/+ 1");
    let mut host = scene.run();
    host.wait_for(Out, "handler | received aside").await;
    drain(&mut host).await;
    assert_eq!(printed(&host).len(), 1);
}

async fn what_a_failed_handler_has_received_comes_back(scene: Scene) {
    write_handler(&scene, "pulling", "receive side/+ 1 fail");
    let mut host = scene.run();
    host.wait_for(Err, "given up: the event is dropped").await;
    drain(&mut host).await;
    assert_eq!(printed(&host), ["handler | received aside"; 2]);
}

async fn a_handler_that_waits_for_an_event_in_vain_misses_its_deadline(scene: Scene) {
    // The second event never comes.
    write_handler_with(&scene, "pulling", "receive side/+ 2", "timeout = \"300ms\"");
    let mut host = scene.run();
    host.wait_for(Err, "given up: the event is dropped").await;
    drain(&mut host).await;
    assert!(host.lines().contain(Out, "handler | received aside"));
    let missed = "handler failed: no verdict within the timeout of 300ms";
    assert_eq!(host.lines().count(Err, missed), 2, "{}", host.lines().dump());
}

async fn an_asynchronous_handler_may_pull(scene: Scene) {
    write_handler(&scene, "pulling_async", "pull side/+ 1");
    let mut host = scene.run();
    host.wait_for(Out, "handler | pulled aside").await;
    drain(&mut host).await;
    assert_eq!(printed(&host).len(), 1);
}

async fn an_asynchronous_handler_may_not_receive_above_qos_0(scene: Scene) {
    for verb in ["receive", "stream"] {
        write_handler(&scene, "pulling_async", &format!("{verb} side/+ 1"));
        let mut host = scene.run();
        host.wait_for_count(Err, "handler failed: unsupported: ", 2).await;
        drain(&mut host).await;
        assert!(printed(&host).is_empty());
    }
}
