//! The two configurations that were there before the program, byte for byte.

use crate::support::{Scene, drain, guests};
use std::net::TcpStream;
use testkit::Mosquitto;
use testkit::Stream::Out;

const PULL: &str = r#"specversion = "0.2"

[[capability]]
name = "pubsub.mqtt"
[[capability.config]]
url = "tcp://localhost:1883"
qos = 1
queue = "user/+"
delivery = "pull"
"#;

const PUSH: &str = r#"specversion = "0.2"

[[capability]]
name = "pubsub.mqtt"
[[capability.config]]
url = "tcp://localhost:1883"
qos = 1
topic = "group"
delivery = "push"
on_message = "on_message"
"#;

/// One test, as both need the one port 1883. A broker that is there is used.
#[tokio::test]
async fn the_given_configurations_run_as_they_are() {
    let _broker = match TcpStream::connect("localhost:1883") {
        Ok(_) => None,
        Err(_) => Some(Mosquitto::builder().line("listener 1883 127.0.0.1").start().await),
    };
    pushed().await;
    pulled().await;
}

async fn pushed() {
    let scene = Scene::memory();
    std::fs::write(scene.folder().join("capabilities.toml"), PUSH).unwrap();
    let component = guests().join("receiver.wasm").display().to_string();
    let mut host = scene.command(&["run", &component]).start();
    host.wait_for(testkit::Stream::Err, "ready").await;
    scene.publish(&["group", "-m", "hello, group"], "").await;
    host.wait_for(Out, "receiver | received Event {").await;
    drain(&mut host).await;
    let lines = host.lines().of(Out);
    let [line] = lines.as_slice() else { panic!("one event, not {lines:?}") };
    assert!(
        line.contains(r#"data: "hello, group""#) && line.contains(r#"topic: "group""#),
        "{line}"
    );
}

async fn pulled() {
    let scene = Scene::memory();
    std::fs::write(scene.folder().join("capabilities.toml"), PULL).unwrap();
    let component = guests().join("user-puller.wasm").display().to_string();
    let mut host = scene.command(&["run", &component]).start();
    host.wait_for(testkit::Stream::Err, "ready").await;
    for user in ["anna", "ben"] {
        scene.publish(&[&format!("user/{user}"), "-m", user], "").await;
    }
    host.wait_for(Out, "user-puller | received anna from user/anna").await;
    host.wait_for(Out, "user-puller | received ben from user/ben").await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out).len(), 2);
}
