//! A broker that is not there: at the start, later, and while a guest publishes.

use crate::support::{Jobs, Scene, drain};
use std::time::{Duration, Instant};
use testkit::Stream::{Err, Out};
use testkit::{DEADLINE, Host, Mosquitto, Proxy, eventually};

/// So many attempts show that it goes on trying.
const ATTEMPTS: usize = 6;

/// Lines above `info`: an outage is worth one.
fn warnings(host: &Host) -> Vec<String> {
    let lines = host.lines().of(Err);
    lines.into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

#[tokio::test]
async fn a_broker_that_is_not_there_at_the_start_is_waited_for() {
    let mut scene = Scene::mosquitto().await;
    let address = scene.broker().address();
    let proxy = Proxy::start(address).await;
    proxy.refuse(true);
    scene.set_connection(format!("url = \"{}\"", proxy.url()));
    Jobs { events: &["print handled"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    let tries = || proxy.accepted() >= ATTEMPTS;
    eventually(DEADLINE, "the host has tried several times", tries).await;
    let said = warnings(&host);
    assert_eq!(said.len(), 1, "one line for one outage: {said:#?}");
    let (host_name, port) = ("127.0.0.1", proxy.port());
    assert!(said[0].contains(&format!("{host_name}:{port}")), "it names the broker: {said:?}");
    assert!(!host.lines().contain(Err, "ready"));

    proxy.refuse(false);
    host.wait_for(Err, "ready").await;
    host.wait_for(Out, "handler | handled").await;
    drain(&mut host).await;
    assert_eq!(warnings(&host).len(), 1, "{}", host.lines().dump());
}

#[tokio::test]
async fn a_host_that_waits_for_its_broker_ends_at_once() {
    let mut scene = Scene::mosquitto().await;
    scene.broker().kill();
    Jobs { events: &["print handled"], top: "drain = \"1m\"", ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    eventually(DEADLINE, "the host says that it waits", || !warnings(&host).is_empty()).await;
    // The drain time is longer than the deadline of this wait.
    drain(&mut host).await;
}

#[tokio::test]
async fn a_broker_that_comes_back_with_its_sessions_has_kept_what_was_published() {
    let mut scene = Scene::with_broker(Mosquitto::builder().persistence().start().await);
    Jobs { kind: "topic", events: &["print before"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | before").await;
    scene.broker().stop().await;
    eventually(DEADLINE, "the host says that the broker is gone", || !warnings(&host).is_empty())
        .await;
    scene.broker().restart().await;
    scene.publish(&["jobs/0", "-m", "print after"], "").await;
    host.wait_for(Out, "handler | after").await;
    drain(&mut host).await;
}

/// Not every broker keeps the members of a queue with its sessions, and one that
/// was killed keeps nothing at all: what is published before the host is back is
/// lost then, and nothing after it.
async fn found_again(mut scene: Scene, kind: &str, kill: bool) {
    Jobs { kind, events: &["print before"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | before").await;
    if kill {
        scene.broker().kill()
    } else {
        scene.broker().stop().await
    }
    eventually(DEADLINE, "the host says that the broker is gone", || !warnings(&host).is_empty())
        .await;
    scene.broker().restart().await;
    let end = Instant::now() + DEADLINE;
    while !host.lines().contain(Out, "handler | after") {
        assert!(Instant::now() < end, "nothing is handled any more: {}", host.lines().dump());
        scene.publish(&["jobs/0", "-m", "print after"], "").await;
    }
    drain(&mut host).await;
}

#[tokio::test]
async fn a_queue_is_found_again_on_a_broker_with_its_sessions() {
    let broker = Mosquitto::builder().persistence().start().await;
    found_again(Scene::with_broker(broker), "queue", false).await;
}

#[tokio::test]
async fn a_queue_is_found_again_on_a_broker_that_has_forgotten_it() {
    found_again(Scene::mosquitto().await, "queue", true).await;
}

#[tokio::test]
async fn a_topic_is_found_again_on_a_broker_that_has_forgotten_it() {
    found_again(Scene::mosquitto().await, "topic", true).await;
}

#[tokio::test]
async fn an_outage_while_an_event_is_handled_loses_nothing() {
    let mut scene = Scene::mosquitto().await;
    let proxy = Proxy::start(scene.broker().address()).await;
    scene.set_connection(format!("url = \"{}\"", proxy.url()));
    Jobs { events: &["print begun; sleep 500; print done"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    assert!(proxy.cut(), "the host was connected");
    host.wait_for(Out, "handler | done").await;
    drain(&mut host).await;

    // The verdict went to the broker over the new connection.
    Jobs { events: &["print next"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | next").await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out), ["handler | next"]);
}

#[tokio::test]
async fn publishing_without_a_broker_fails_after_the_timeout() {
    let mut scene = Scene::mosquitto().await;
    scene.broker().kill();
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
publish_timeout = "600ms"
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["print begun", "publish jobs/0 1 x", "print never"]
"#,
    );
    let mut host = scene.run();
    host.wait_for(Out, "source | begun").await;
    let start = Instant::now();
    host.expect_exit(1).await;
    let took = start.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
    assert!(host.lines().contain(Err, "source | Error: Unavailable("), "{}", host.lines().dump());
    assert!(!host.lines().contain(Out, "never"));
}

#[tokio::test]
async fn a_handler_that_cannot_publish_is_tried_again_until_it_can() {
    let mut scene = Scene::mosquitto().await;
    let proxy = Proxy::start(scene.broker().address()).await;
    scene.set_connection(format!("url = \"{}\"", proxy.url()));
    let binding = "publish_timeout = \"300ms\"";
    let events = &["print begun; sleep 300; publish out/a 1 sent; print done"];
    Jobs { binding, events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    proxy.refuse(true);
    proxy.cut();
    host.wait_for(Err, "handler failed: unavailable").await;
    proxy.refuse(false);
    host.wait_for(Out, "handler | done").await;
    host.wait_for(Out, r#"data: "sent""#).await;
    drain(&mut host).await;
}
