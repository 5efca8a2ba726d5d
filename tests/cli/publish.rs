//! `publish`

use crate::support::Scene;
use crate::{call, call_with_input, done, failed};
use std::fs;
use std::time::{Duration, Instant};
use testkit::Host;
use testkit::Stream::{Err, Out};

const CONFIG: &str =
    "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n";

/// A scene with a mosquitto, and `subscribe` that has begun there.
async fn watched(arguments: &[&str]) -> (Scene, Host) {
    let scene = Scene::mosquitto().await;
    scene.write(CONFIG);
    let mut subscriber = scene.command(&[&["subscribe"], arguments].concat()).start();
    subscriber.wait_for(Err, "subscribed").await;
    (scene, subscriber)
}

#[tokio::test]
async fn a_message_a_file_and_standard_input() {
    let (scene, mut subscriber) = watched(&["a/#", "-n", "3"]).await;
    assert_eq!(done(&scene, &["publish", "a/b", "-m", "a message"]).await, "");
    fs::write(scene.folder().join("data"), "a file").unwrap();
    assert_eq!(done(&scene, &["publish", "a/c", "-f", "data"]).await, "");
    let outcome = call_with_input(&scene, &["publish", "a", "-f", "-"], "standard input").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""), "{}", outcome.err);
    subscriber.expect_exit(0).await;
    assert_eq!(subscriber.lines().of(Out), ["a/b a message", "a/c a file", "a standard input"]);
}

#[tokio::test]
async fn a_thousand_lines_keep_their_order() {
    let (scene, mut subscriber) = watched(&["a/lines", "-n", "1000"]).await;
    let lines: Vec<String> = (1..=1000).map(|n| format!("line {n}")).collect();
    // The last line has no end.
    let outcome = call_with_input(&scene, &["publish", "a/lines", "-l"], &lines.join("\n")).await;
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
    subscriber.expect_exit(0).await;
    let found = subscriber.lines().of(Out);
    assert_eq!(found.len(), lines.len());
    for (found, line) in found.iter().zip(&lines) {
        assert_eq!(*found, format!("a/lines {line}"), "the first that is out of order");
    }
}

#[tokio::test]
async fn attributes_go_round() {
    for qos in ["0", "1", "2"] {
        let (scene, mut subscriber) = watched(&["#", "-n", "1", "--json", "-q", qos]).await;
        let arguments = [
            "publish",
            "orders/new",
            "-m",
            "{\"item\": 7}",
            "--qos",
            qos,
            "--id",
            "id-1",
            "--source",
            "/shop",
            "--type",
            "com.example.order",
            "--content-type",
            "application/json",
            "--subject",
            "7",
            "--time",
            "2026-01-02T03:04:05Z",
            "--ordering-key",
            "anna",
            "-a",
            "region=eu",
            "-a",
            "note=a = b, é",
        ];
        assert_eq!(done(&scene, &arguments).await, "");
        subscriber.expect_exit(0).await;
        let line = subscriber.lines().of(Out).concat();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0",
            "id": "id-1",
            "source": "/shop",
            "type": "com.example.order",
            "datacontenttype": "application/json",
            "subject": "7",
            "time": "2026-01-02T03:04:05Z",
            "partitionkey": "anna",
            "region": "eu",
            "note": "a = b, é",
            "data": {"item": 7},
            "topic": "orders/new",
        });
        assert_eq!(event, expected, "qos {qos}");
    }
}

#[tokio::test]
async fn what_is_not_given_is_filled_in() {
    let (scene, mut subscriber) = watched(&["a", "-n", "2", "--json"]).await;
    for _ in 0..2 {
        done(&scene, &["publish", "a", "-m", "x"]).await;
    }
    subscriber.expect_exit(0).await;
    let events: Vec<serde_json::Value> =
        subscriber.lines().of(Out).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &events {
        assert_eq!(event["source"], "/wasi-pubsub/publish");
        assert_eq!(event["type"], "wasi-pubsub.publish");
        assert_eq!(event["data"], "x");
    }
    assert!(events[0]["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert_ne!(events[0]["id"], events[1]["id"]);
}

#[tokio::test]
async fn the_built_in_broker_cannot_be_reached() {
    let scene = Scene::memory();
    for arguments in [&["publish", "a", "-m", "x"][..], &["subscribe", "a"]] {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: there is no capabilities.toml here"), "{text}");
        assert!(text.contains("\n  help: name a configuration with a network broker"), "{text}");
    }
    scene.write(CONFIG);
    for arguments in [&["publish", "a", "-m", "x"][..], &["subscribe", "a"]] {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: the broker is pubsub.memory"), "{text}");
        assert!(text.contains("\n  help: give it an address, as in listen ="), "{text}");
    }
}

#[tokio::test]
async fn a_broker_that_is_down_fails_within_the_timeout() {
    let mut scene = Scene::mosquitto().await;
    scene.write(CONFIG);
    scene.broker().kill();
    let start = Instant::now();
    let outcome = call(&scene, &["publish", "a", "-m", "x", "--timeout", "0.5"]).await;
    let took = start.elapsed();
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    assert!(outcome.err.contains("error: cannot publish to `a`: unavailable: "), "{}", outcome.err);
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_broker_that_comes_within_the_timeout_is_in_time() {
    let mut scene = Scene::mosquitto().await;
    scene.write(CONFIG);
    scene.broker().kill();
    let mut publisher = scene.command(&["publish", "a", "-m", "x", "--timeout", "15"]).start();
    scene.broker().restart().await;
    publisher.expect_exit(0).await;
}

#[tokio::test]
async fn what_cannot_be_published_is_said() {
    let scene = Scene::mosquitto().await;
    scene.write(&format!("max_event_size = \"1kB\"\n{CONFIG}"));
    for (arguments, part) in [
        (&["publish", "a/#", "-m", "x"][..], "it contains a wildcard"),
        (&["publish", "", "-m", "x"], "it is empty"),
        (&["publish", "a", "-f", "nowhere"], "nowhere: "),
        (&["publish", "a", "-l", "--id", "7"], "the same id"),
    ] {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: ") && text.contains(part), "{part} in {text}");
    }
    fs::write(scene.folder().join("large"), [b'x'; 2000]).unwrap();
    let text = failed(&scene, &["publish", "a", "-f", "large"], 2).await;
    assert_eq!(text, "error: cannot publish to `a`: the event is larger than 1000 bytes\n");
}

#[tokio::test]
async fn of_several_brokers_one_is_named() {
    let (scene, mut subscriber) = watched(&["a", "-n", "1"]).await;
    let config = fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    let first =
        config.replace("name = \"pubsub.mqtt\"\n", "name = \"pubsub.mqtt\"\nid = \"plant\"\n");
    let second = "[[capability]]\nname = \"pubsub.mqtt\"\nid = \"office\"\n[[capability.config]]\n\
                  url = \"tcp://127.0.0.1:1\"\n";
    fs::write(scene.folder().join("two.toml"), format!("{first}{second}")).unwrap();
    let text = failed(&scene, &["publish", "-c", "two.toml", "a", "-m", "x"], 2).await;
    assert_eq!(
        text,
        "error: several brokers are configured: say which one, as in plant:a or office:a\n"
    );
    done(&scene, &["publish", "-c", "two.toml", "plant:a", "-m", "found"]).await;
    subscriber.expect_exit(0).await;
    assert_eq!(subscriber.lines().of(Out), ["a found"]);
}

#[tokio::test]
async fn what_was_printed_as_json_is_published_again() {
    let (scene, mut first) = watched(&["a/#", "-n", "2", "--json"]).await;
    let input = "{\"topic\": \"a/one\", \"data\": {\"n\":  1}}\n\n{\"data\": \"text\", \"region\": \"eu\", \"id\": \"7\"}\n";
    let outcome = call_with_input(&scene, &["publish", "--json", "a/rest"], input).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    first.expect_exit(0).await;
    let printed = first.lines().of(Out);
    assert!(printed[0].starts_with(r#"{"topic":"a/one","#), "{}", printed[0]);
    assert!(printed[0].contains(r#""datacontenttype":"application/json","data":{"n":  1}"#));
    assert!(printed[1].starts_with(r#"{"topic":"a/rest","#) && printed[1].contains(r#""id":"7""#));
    let mut second = scene.command(&["subscribe", "a/#", "-n", "2", "--json"]).start();
    second.wait_for(Err, "subscribed").await;
    let outcome = call_with_input(&scene, &["publish", "--json"], &printed.join("\n")).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    second.expect_exit(0).await;
    assert_eq!(second.lines().of(Out), printed);
}

#[tokio::test]
async fn a_line_of_json_that_is_wrong_is_named() {
    let scene = Scene::mosquitto().await;
    scene.write(CONFIG);
    for (line, part) in [
        ("{\"data\": 1}", "error: standard input:2: there is no `topic`\n"),
        ("{\"topic\": \"a\"", "error: standard input:2:13: it is no JSON object: "),
    ] {
        let input = format!("{{\"topic\": \"a\"}}\n{line}\n");
        let outcome = call_with_input(&scene, &["publish", "--json"], &input).await;
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.err.starts_with(part), "{}", outcome.err);
    }
    let text = failed(&scene, &["publish", "--json", "--id", "7"], 2).await;
    assert!(text.contains("cannot be used with"), "{text}");
    failed(&scene, &["publish", "-m", "x"], 2).await;
}
