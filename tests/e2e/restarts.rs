//! What a restart of the host costs: with mosquitto, which keeps its session.

use crate::support::{Jobs, Scene, drain};
use testkit::Host;
use testkit::Stream::{Err, Out};

/// Events that take a moment, published from outside, as many as may run at once.
const COUNT: usize = 4;

async fn begin(scene: &Scene, qos: &str, step: &str) -> Host {
    let mut host = scene.run_ready().await;
    let lines: String =
        (1..=COUNT).map(|n| format!("print begun {n}.; {step}; print done {n}.\n")).collect();
    scene.publish(&["jobs/0", "--lines", "--qos", qos], &lines).await;
    host.wait_for_count(Out, "handler | begun", COUNT).await;
    host
}

fn write(scene: &Scene, guest: &str, qos: u8, top: &str) {
    let binding = &format!("qos = {qos}");
    let component = "instances = 4\ntimeout = \"2m\"";
    Jobs { guest, binding, component, top, ..Jobs::default() }.write(scene);
}

/// Nothing comes again, as a later event shows.
async fn nothing_is_left(scene: &Scene) {
    let mut host = scene.run_ready().await;
    scene.publish(&["jobs/0", "-m", "print marker"], "").await;
    host.wait_for(Out, "handler | marker").await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out), ["handler | marker"]);
}

async fn killed_in_the_middle(guest: &str, qos: u8) {
    let scene = Scene::mosquitto().await;
    write(&scene, guest, qos, "");
    let mut host = begin(&scene, &qos.to_string(), "sleep 1500").await;
    host.kill();
    host.exit_code().await;
    assert_eq!(host.lines().count(Out, "handler | done"), 0, "it was killed in the middle");

    let mut host = scene.run_ready().await;
    for n in 1..=COUNT {
        host.wait_for(Out, &format!("handler | done {n}.")).await;
    }
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | done"), COUNT, "once each");
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_host_killed_in_the_middle_loses_nothing_at_qos_1() {
    killed_in_the_middle("faulty", 1).await;
}

#[tokio::test]
async fn a_host_killed_in_the_middle_loses_nothing_at_qos_2() {
    killed_in_the_middle("faulty", 2).await;
}

#[tokio::test]
async fn a_host_killed_in_the_middle_of_one_instance_loses_nothing() {
    killed_in_the_middle("faulty_async", 1).await;
}

async fn terminated_in_the_middle(guest: &str) {
    let scene = Scene::mosquitto().await;
    write(&scene, guest, 1, "");
    let mut host = begin(&scene, "1", "sleep 700").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | done"), COUNT, "what was in flight was finished");
    assert!(host.lines().contain(Err, "stopping"));
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn sigterm_finishes_and_acknowledges_what_is_in_flight() {
    terminated_in_the_middle("faulty").await;
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_in_one_instance() {
    terminated_in_the_middle("faulty_async").await;
}

#[tokio::test]
async fn sigint_drains_as_well() {
    let scene = Scene::mosquitto().await;
    write(&scene, "faulty", 1, "");
    let mut host = begin(&scene, "1", "sleep 300").await;
    host.interrupt();
    host.expect_exit(0).await;
    assert_eq!(host.lines().count(Out, "handler | done"), COUNT);
}

#[tokio::test]
async fn what_waited_behind_the_event_in_flight_comes_after_the_restart() {
    let scene = Scene::mosquitto().await;
    let component = "instances = 1";
    Jobs { component, binding: "max_in_flight = 2", ..Jobs::default() }.write(&scene);
    let mut host = scene.run_ready().await;
    let lines: String =
        (1..=6).map(|n| format!("print begun {n}; sleep 300; print done {n}\n")).collect();
    scene.publish(&["jobs/0", "--lines"], &lines).await;
    host.wait_for(Out, "handler | begun").await;
    drain(&mut host).await;
    let before = host.lines().count(Out, "handler | done");
    assert!(before < 6, "the host was asked to end at the first of six");

    let mut host = scene.run_ready().await;
    host.wait_for_count(Out, "handler | done", 6 - before).await;
    drain(&mut host).await;
    assert_eq!(before + host.lines().count(Out, "handler | done"), 6, "each once");
}

/// The broker delivers again what was in flight, which is more than it now may.
#[tokio::test]
async fn a_host_that_is_to_take_less_than_before_gets_all_of_it() {
    let scene = Scene::mosquitto().await;
    write(&scene, "faulty", 1, "");
    let mut host = begin(&scene, "1", "sleep 1000").await;
    host.kill();
    host.exit_code().await;

    let binding = "max_in_flight = 1";
    Jobs { binding, component: "instances = 1", ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    for n in 1..=COUNT {
        host.wait_for(Out, &format!("handler | done {n}.")).await;
    }
    drain(&mut host).await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_host_killed_while_a_command_works_gives_it_the_event_again() {
    let scene = Scene::mosquitto().await;
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "jobs/+"
delivery = "pull"
[[component]]
name = "puller"
path = "$GUESTS/pulling-command.wasm"
args = ["receive jobs/+ 1", "sleep 300", "receive jobs/+ 1"]
"#,
    );
    let mut host = scene.run_ready().await;
    scene.publish(&["jobs/0", "-m", "one"], "").await;
    host.wait_for(Out, "puller | received one").await;
    host.kill();
    host.exit_code().await;

    let mut host = scene.run_ready().await;
    host.wait_for(Out, "puller | received one").await;
    scene.publish(&["jobs/0", "-m", "two"], "").await;
    host.expect_exit(0).await;
    assert_eq!(host.lines().of(Out).len(), 2, "{}", host.lines().dump());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let scene = Scene::memory();
    let events = &["print begun; sleep 60000"];
    let (component, top) = ("timeout = \"2m\"", "drain = \"1m\"");
    Jobs { events, component, top, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    host.terminate();
    host.wait_for(Err, "stopping").await;
    host.terminate();
    // The deadline of the wait is far shorter than the drain time.
    assert_eq!(host.exit_code().await, Some(143), "{}", host.lines().dump());
}

#[tokio::test]
async fn what_outlasts_the_drain_time_goes_back() {
    let scene = Scene::mosquitto().await;
    write(&scene, "faulty", 1, "drain = \"300ms\"");
    let mut host = begin(&scene, "1", "sleep 2000").await;
    host.terminate();
    host.expect_exit(1).await;
    assert!(host.lines().contain(Err, "drain time"), "{}", host.lines().dump());
    assert_eq!(host.lines().count(Out, "handler | done"), 0);

    let mut host = scene.run_ready().await;
    host.wait_for_count(Out, "handler | done", COUNT).await;
    drain(&mut host).await;
}

#[tokio::test]
async fn at_qos_2_an_event_published_twice_is_handled_once() {
    let scene = Scene::mosquitto().await;
    write(&scene, "faulty", 2, "");
    let mut host = scene.run_ready().await;
    for _ in 0..2 {
        let event = ["jobs/0", "--qos", "2", "--id", "7", "--source", "/test", "-m", "print once"];
        scene.publish(&event, "").await;
    }
    scene.publish(&["jobs/0", "--qos", "2", "-m", "sleep 200; print last"], "").await;
    host.wait_for(Out, "handler | last").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | once"), 1);
}
