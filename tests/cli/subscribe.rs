//! `subscribe`

use crate::failed;
use crate::support::Scene;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::Stream::{Err, Out};
use testkit::{DEADLINE, Host, eventually, host_binary};

const CONFIG: &str =
    "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n";

async fn begin(scene: &Scene, arguments: &[&str]) -> Host {
    let mut host = scene.command(&[&["subscribe"], arguments].concat()).start();
    host.wait_for(Err, "subscribed").await;
    host
}

async fn scene() -> Scene {
    let scene = Scene::mosquitto().await;
    scene.write(CONFIG);
    scene
}

#[tokio::test]
async fn it_ends_after_so_many_events() {
    let scene = scene().await;
    let mut host = begin(&scene, &["a/+", "--count", "2"]).await;
    for n in 1..=3 {
        scene.publish(&["a/b", "-m", &n.to_string()], "").await;
    }
    host.expect_exit(0).await;
    assert_eq!(host.lines().of(Out), ["a/b 1", "a/b 2"]);
}

#[tokio::test]
async fn a_signal_ends_it_well() {
    let scene = scene().await;
    for interrupt in [true, false] {
        let mut host = begin(&scene, &["a/+"]).await;
        scene.publish(&["a/b", "-m", "one"], "").await;
        host.wait_for(Out, "a/b one").await;
        if interrupt {
            host.interrupt()
        } else {
            host.terminate()
        }
        host.expect_exit(0).await;
    }
}

#[tokio::test]
async fn without_an_event_it_gives_up_after_the_timeout() {
    let scene = scene().await;
    let start = Instant::now();
    let mut host = begin(&scene, &["a", "--timeout", "0.4"]).await;
    host.expect_exit(1).await;
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert!(
        host.lines().contain(Err, "error: no event came within 400ms"),
        "{}",
        host.lines().dump()
    );
}

#[tokio::test]
async fn a_broker_that_is_down_fails_within_the_timeout() {
    let mut scene = scene().await;
    scene.broker().kill();
    let mut host = scene.command(&["subscribe", "a", "--timeout", "0.5"]).start();
    host.expect_exit(1).await;
    assert!(host.lines().contain(Err, "error: "), "{}", host.lines().dump());
}

#[tokio::test]
async fn members_of_a_queue_share_what_comes() {
    let scene = scene().await;
    let mut members = [
        begin(&scene, &["a", "--queue", "team"]).await,
        begin(&scene, &["a", "--queue", "team"]).await,
    ];
    let mut watcher = begin(&scene, &["a", "-n", "20"]).await;
    let lines: String = (1..=20).map(|n| format!("{n}\n")).collect();
    scene.publish(&["a", "-l"], &lines).await;
    watcher.expect_exit(0).await;
    let both = || members.iter().map(|m| m.lines().of(Out).len()).sum::<usize>() >= 20;
    eventually(DEADLINE, "the members have all events", both).await;
    for member in &mut members {
        member.terminate();
        member.expect_exit(0).await;
        assert!(!member.lines().of(Out).is_empty(), "each has some");
    }
    let mut all: Vec<u32> = members
        .iter()
        .flat_map(|member| member.lines().of(Out))
        .map(|line| line.trim_start_matches("a ").parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_it_well() {
    let scene = scene().await;
    let mut command = Command::new(host_binary());
    command.args(["subscribe", "a"]).current_dir(scene.folder()).env("HOME", scene.folder());
    command.env("XDG_STATE_HOME", scene.folder().join("state"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("subscribed") {
        let mut chunk = [0; 256];
        let length = log.read(&mut chunk).unwrap();
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..length]);
    }
    drop(child.stdout.take());
    scene.publish(&["a", "-m", "unread"], "").await;
    let mut status = None;
    eventually(DEADLINE, "it has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// As a device does it: MQTT 3.1.1, and nothing but a payload.
#[tokio::test]
async fn a_plain_message_becomes_an_event() {
    let mut scene = scene().await;
    let address = scene.broker().address();
    let mut host = begin(&scene, &["plant/+", "-n", "2", "--json"]).await;
    let mut device = TcpStream::connect(address).unwrap();
    device.write_all(b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06device").unwrap();
    let mut answer = [0; 4];
    device.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    for payload in [&b"21.5"[..], b"\xff\x00"] {
        let topic = b"plant/7";
        let length = u8::try_from(2 + topic.len() + payload.len()).unwrap();
        let head = [&[0x30, length, 0, 7][..], topic, payload].concat();
        device.write_all(&head).unwrap();
    }
    host.expect_exit(0).await;
    let events: Vec<serde_json::Value> =
        host.lines().of(Out).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["data"], "21.5");
    assert_eq!(events[1]["data_base64"], "/wA=");
    assert_ne!(events[0]["id"], events[1]["id"]);
    for event in events {
        assert_eq!(event["type"], "mqtt.publish");
        assert_eq!(event["topic"], "plant/7");
        assert!(event["source"].as_str().is_some_and(|source| !source.is_empty()));
    }
}

#[tokio::test]
async fn a_malformed_filter_is_refused() {
    let scene = scene().await;
    for (filter, part) in
        [("a#", "`#` must be the whole last level"), ("", "it is empty"), ("$share/g/a", "queue")]
    {
        let text = failed(&scene, &["subscribe", filter], 2).await;
        assert!(text.starts_with("error: ") && text.contains(part), "{part} in {text}");
    }
}
