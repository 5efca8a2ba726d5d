//! `wasi-pubsub dead`: what nobody could handle, kept by a broker, listed, and
//! published again.

use crate::support::{Scene, drain};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use testkit::Stream::{Err, Out};
use testkit::{DEADLINE, Host, Mosquitto, eventually};

/// A handler of jobs with a dead-letter topic, and what is different there.
fn write(scene: &Scene, binding: &str) {
    scene.write(&format!(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "jobs/+"
delivery = "push"
retry = {{ max_attempts = 2, backoff = "10ms", backoff_max = "10ms" }}
dead_letter = "dead/jobs"
publish = ["out/#"]
{binding}
[[component]]
name = "handler"
path = "$GUESTS/faulty.wasm"
instances = 1
"#
    ));
}

/// What a command that has ended well has written.
async fn call(scene: &Scene, arguments: &[&str]) -> Vec<String> {
    let mut host = scene.command(&[&["dead"], arguments].concat()).start();
    host.expect_exit(0).await;
    host.lines().of(Out)
}

/// The same, as JSON.
async fn letters(scene: &Scene, arguments: &[&str]) -> Vec<Value> {
    let lines = call(scene, &[&["list", "--json"], arguments].concat()).await;
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Publishes jobs, each with its id.
async fn publish(scene: &Scene, jobs: &[(&str, &str)]) {
    for (id, steps) in jobs {
        scene.publish(&["jobs/0", "--id", id, "-m", steps], "").await;
    }
}

/// Waits until the handler has failed so often, and all letters are stored.
async fn died(scene: &mut Scene, host: &mut Host, failures: usize) {
    host.wait_for_count(Err, "handler failed", failures).await;
    // The acknowledgement of each comes after its letter.
    drain(host).await;
    scene.broker().idle().await;
}

#[tokio::test]
async fn what_nobody_could_handle_is_listed_and_redriven_once_it_can_be() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject no good"), ("b", "print b; error bad")]).await;
    died(&mut scene, &mut host, 3).await;

    let rows = call(&scene, &["list"]).await;
    let words: Vec<Vec<&str>> = rows.iter().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NUMBER", "COLLECTED", "TOPIC", "ATTEMPTS", "ID", "REASON"]);
    assert_eq!([&words[1][..1], &words[1][2..]].concat(), ["1", "jobs/0", "1", "a", "no", "good"]);
    assert_eq!([&words[2][..1], &words[2][2..]].concat(), ["2", "jobs/0", "2", "b", "bad"]);
    assert_eq!(rows.len(), 3);
    // They are here now, and stay until something is done with them.
    assert_eq!(call(&scene, &["list"]).await, rows);
    let shown = call(&scene, &["show", "b"]).await.join("\n");
    for part in
        ["topic         jobs/0", "dead letter   dead/jobs", "reason        bad", "error bad"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    let mut watcher = scene.command(&["subscribe", "jobs/+", "-n", "2", "--json"]).start();
    watcher.wait_for(Err, "subscribed").await;
    let said = call(&scene, &["redrive", "2", "a"]).await;
    assert_eq!(said, ["redriven 1 to jobs/0 (id a)", "redriven 2 to jobs/0 (id b)"]);
    watcher.expect_exit(0).await;
    let mut events: Vec<Value> =
        watcher.lines().of(Out).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        // What tells it from a repetition, beside what it was.
        let redrive = event.as_object_mut().and_then(|event| event.remove("deadletterredrive"));
        assert!(redrive.is_some_and(|redrive| redrive.is_string()), "{event}");
    }
    let expected = |id: &str, data: &str| {
        serde_json::json!({
            "topic": "jobs/0", "specversion": "1.0", "id": id, "source": "/wasi-pubsub/publish",
            "type": "wasi-pubsub.publish", "data": data,
        })
    };
    assert_eq!(events[0], expected("a", "reject no good"), "as it was before");
    assert_eq!(events[1], expected("b", "print b; error bad"));
    assert!(letters(&scene, &[]).await.is_empty());
}

#[tokio::test]
async fn at_qos_2_a_redriven_event_is_no_repetition() {
    let scene = Scene::mosquitto().await;
    write(&scene, "qos = 2");
    let mut host = scene.run_ready().await;
    let job = ["jobs/0", "--id", "a", "--qos", "2", "-m", "print hit; reject no"];
    scene.publish(&job, "").await;
    for (round, number) in [(1, "1"), (2, "2")] {
        host.wait_for_count(Out, "handler | hit", round).await;
        host.wait_for_count(Err, "stored on the dead-letter topic", round).await;
        assert_eq!(letters(&scene, &[]).await.len(), 1);
        let said = call(&scene, &["redrive", "--all"]).await;
        assert_eq!(said, [format!("redriven {number} to jobs/0 (id a)")]);
    }
    host.wait_for_count(Out, "handler | hit", 3).await;
    drain(&mut host).await;
}

#[tokio::test]
async fn a_handler_that_was_mended_handles_what_is_redriven() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    let mut host = scene.run_ready().await;
    // From its third attempt on it is `ok`; a redriven event begins anew.
    publish(&scene, &[("a", "until 3; error not yet")]).await;
    died(&mut scene, &mut host, 2).await;
    write(&scene, "");
    let config = fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    let config = config.replace("max_attempts = 2", "max_attempts = 3");
    fs::write(scene.folder().join("capabilities.toml"), config).unwrap();
    let mut host = scene.run_ready().await;
    assert_eq!(call(&scene, &["redrive", "--all"]).await, ["redriven 1 to jobs/0 (id a)"]);
    host.wait_for_count(Err, "handler failed", 2).await;
    drain(&mut host).await;
    assert!(letters(&scene, &[]).await.is_empty(), "it was handled at the third attempt");
}

#[tokio::test]
async fn letters_of_a_time_in_which_the_broker_was_not_there_at_first() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    scene.broker().kill();
    let mut host = scene.run();
    host.wait_for(Err, "cannot reach the broker").await;
    scene.broker().restart().await;
    host.wait_for(Err, "ready").await;
    publish(&scene, &[("a", "reject no good")]).await;
    died(&mut scene, &mut host, 1).await;
    assert_eq!(letters(&scene, &[]).await.len(), 1);
    assert_eq!(host.lines().count(Err, "cannot reach the broker"), 1, "{}", host.lines().dump());
}

#[tokio::test]
async fn a_session_that_the_broker_forgot_is_made_again_by_the_next_host() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    let mut host = scene.run_ready().await;
    drain(&mut host).await;
    // Without persistence it forgets everything.
    scene.broker().kill();
    scene.broker().restart().await;
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject no good")]).await;
    died(&mut scene, &mut host, 1).await;
    assert_eq!(letters(&scene, &[]).await[0]["id"], "a");
}

#[tokio::test]
async fn more_than_one_batch_with_every_attribute_and_byte() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "max_in_flight = 16");
    let mut host = scene.run_ready().await;
    let lines: String = (0..300).map(|n| format!("reject number {n}\n")).collect();
    scene
        .publish(
            &["jobs/0", "-l", "--ordering-key", "k", "-a", "region=eu", "--subject", "é"],
            &lines,
        )
        .await;
    died(&mut scene, &mut host, 300).await;
    let letters = letters(&scene, &[]).await;
    assert_eq!(letters.len(), 300);
    let mut reasons: Vec<_> =
        letters.iter().map(|l| l["deadletterreason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), 300);
    for letter in &letters {
        let parts = ["topic", "region", "subject", "partitionkey", "deadletterattempts"];
        let found = parts.map(|name| letter[name].as_str().unwrap());
        assert_eq!(found, ["dead/jobs", "eu", "é", "k", "1"]);
    }
    let originals = call(&scene, &["list", "--original"]).await;
    let original: Value = serde_json::from_str(&originals[0]).unwrap();
    assert_eq!(
        (&original["topic"], &original["deadletterreason"]),
        (&"jobs/0".into(), &Value::Null)
    );
    let dropped = call(&scene, &["drop", "--all"]).await;
    assert_eq!(dropped.len(), 300);
    assert_eq!(call(&scene, &["list"]).await, [""; 0]);
}

/// The files with letters.
fn spools(scene: &Scene) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(scene.folder().join("state/wasi-pubsub/dead")) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect()
}

#[tokio::test]
async fn a_kill_between_spool_and_acknowledgement_loses_nothing_and_shows_nothing_twice() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    let mut host = scene.run_ready().await;
    let lines: String = (0..200).map(|n| format!("reject number {n}\n")).collect();
    scene.publish(&["jobs/0", "-l"], &lines).await;
    died(&mut scene, &mut host, 200).await;
    // Killed at another moment each time, as soon as something is on the disk.
    let mut kills = 0;
    for bytes in [1, 10_000, 40_000] {
        let mut list = scene.command(&["dead", "list", "--wait", "10"]).start();
        let size = || {
            let sizes =
                spools(&scene).into_iter().map(|path| fs::metadata(path).map_or(0, |m| m.len()));
            sizes.sum::<u64>()
        };
        eventually(DEADLINE, "letters are on the disk", || size() >= bytes).await;
        list.kill();
        kills += 1;
    }
    assert_eq!(kills, 3);
    let letters = letters(&scene, &[]).await;
    let mut data: Vec<_> = letters.iter().map(|l| l["data"].as_str().unwrap().to_owned()).collect();
    assert_eq!(data.len(), 200);
    data.sort();
    data.dedup();
    assert_eq!(data.len(), 200, "each of them once");
}

#[tokio::test]
async fn while_the_broker_is_away_nothing_is_lost() {
    let mut scene = Scene::with_broker(Mosquitto::builder().persistence().start().await);
    write(&scene, "");
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject one"), ("b", "reject two")]).await;
    died(&mut scene, &mut host, 2).await;
    let before = letters(&scene, &[]).await;
    assert_eq!(before.len(), 2);
    scene.broker().stop().await;

    let mut redrive = scene.command(&["dead", "redrive", "1", "2", "--timeout", "0.3"]).start();
    redrive.expect_exit(1).await;
    assert_eq!(redrive.lines().of(Out), [""; 0]);
    let said = redrive.lines();
    assert!(said.contain(Err, "1 was not redriven: unavailable: "), "{}", said.dump());
    assert!(said.contain(Err, "2 was not redriven: unavailable: "), "{}", said.dump());
    assert!(said.contain(Err, "error: 0 redriven; 2 stay as they were"), "{}", said.dump());

    // What is here is listed all the same, and that it may not be all is said.
    let mut list = scene.command(&["dead", "list", "--json"]).start();
    list.expect_exit(1).await;
    assert_eq!(list.lines().of(Out).len(), 2);
    assert!(list.lines().contain(Err, "cannot be reached within"), "{}", list.lines().dump());

    scene.broker().restart().await;
    assert_eq!(letters(&scene, &[]).await, before);
    assert_eq!(call(&scene, &["redrive", "--all"]).await.len(), 2);
}

#[tokio::test]
async fn letters_wait_in_a_broker_that_restarts() {
    let mut scene = Scene::with_broker(Mosquitto::builder().persistence().start().await);
    write(&scene, "");
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject one")]).await;
    died(&mut scene, &mut host, 1).await;
    scene.broker().stop().await;
    scene.broker().restart().await;
    let mut host = scene.run_ready().await;
    drain(&mut host).await;
    assert_eq!(letters(&scene, &[]).await.len(), 1, "a host that starts leaves them there");
}

#[tokio::test]
async fn where_the_configuration_says_so_nothing_is_kept() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "keep_dead_letters = false");
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject one")]).await;
    died(&mut scene, &mut host, 1).await;
    write(&scene, "");
    assert!(letters(&scene, &[]).await.is_empty());
    assert_eq!(scene.broker().log().count(Err, "as wasi-pubsub-dead-"), 1, "by `list` alone");
}

#[tokio::test]
async fn raw_letters_say_nothing_of_where_they_came_from() {
    let mut scene = Scene::mosquitto().await;
    let url = scene.broker().url();
    scene.set_connection(format!("url = \"{url}\"\nformat = \"raw\""));
    write(&scene, "");
    let mut host = scene.run_ready().await;
    publish(&scene, &[("a", "reject one")]).await;
    died(&mut scene, &mut host, 1).await;
    let mut redrive = scene.command(&["dead", "redrive", "--all"]).start();
    redrive.expect_exit(1).await;
    let said = redrive.lines();
    assert!(
        said.contain(Err, "it does not say where it was published: name a topic with --to"),
        "{}",
        said.dump()
    );
    let mut watcher = scene.command(&["subscribe", "other/#", "-n", "1"]).start();
    watcher.wait_for(Err, "subscribed").await;
    call(&scene, &["redrive", "--all", "--to", "other/jobs"]).await;
    watcher.expect_exit(0).await;
    assert_eq!(watcher.lines().of(Out), ["other/jobs reject one"]);
}

#[tokio::test]
async fn the_session_is_the_same_for_every_host_and_for_mqtt_3() {
    for version in ["5", "3.1.1"] {
        let mut scene = Scene::mosquitto().await;
        let url = scene.broker().url();
        scene.set_connection(format!(
            "url = \"{url}\"\nversion = \"{version}\"\nclient_id = \"mine\""
        ));
        write(&scene, "");
        let mut first = scene.run_ready().await;
        drain(&mut first).await;
        let mut host = scene.run_ready().await;
        publish(&scene, &[("a", "reject one")]).await;
        died(&mut scene, &mut host, 1).await;
        assert_eq!(letters(&scene, &[]).await.len(), 1, "{version}");
        // It names what brokers keep: it must never change.
        let id = " as wasi-pubsub-dead-dead_jobs-";
        assert!(scene.broker().log().contain(Err, id), "{version}");
    }
}

#[tokio::test]
async fn the_letter_of_a_retained_event_is_not_retained() {
    let mut scene = Scene::mosquitto().await;
    write(&scene, "");
    let config = fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    let config = config.replace("queue = \"jobs/+\"", "topic = \"jobs/+\"");
    fs::write(scene.folder().join("capabilities.toml"), config).unwrap();
    scene.publish(&["jobs/0", "-a", "mqtt.retain=true", "-m", "reject one"], "").await;
    let mut host = scene.run_ready().await;
    died(&mut scene, &mut host, 1).await;
    assert_eq!(letters(&scene, &[]).await.len(), 1);
    let mut late = scene.command(&["subscribe", "dead/#", "--timeout", "0.5"]).start();
    late.expect_exit(1).await;
    assert_eq!(late.lines().of(Out), [""; 0]);
    // The event itself still is.
    let mut late = scene.command(&["subscribe", "jobs/#", "-n", "1"]).start();
    late.expect_exit(0).await;
    assert_eq!(late.lines().of(Out), ["jobs/0 reject one"]);
}
