//! `dead`, as far as no host is needed.

use crate::support::Scene;
use crate::{call, failed};
use std::fs;

const MEMORY: &str =
    "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n";

fn binding(topic: &str, more: &str) -> String {
    format!(
        "[[capability.config]]\ntopic = \"a\"\ndelivery = \"push\"\ndead_letter = \"{topic}\"\n{more}\n"
    )
}

fn config(bindings: &[String]) -> String {
    format!(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n{}",
        bindings.concat()
    )
}

#[tokio::test]
async fn the_built_in_broker_keeps_no_dead_letters() {
    let scene = Scene::memory();
    for arguments in [&["dead", "list"][..], &["dead", "redrive", "--all"], &["dead", "show", "1"]]
    {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: there is no capabilities.toml here"), "{text}");
    }
    scene.write(MEMORY);
    let text = failed(&scene, &["dead", "list"], 2).await;
    assert_eq!(
        text,
        "error: the broker is pubsub.memory, which lives inside `wasi-pubsub run`: its dead letters go \
         to who subscribes to their topic there\n  help: configure another broker, such as pubsub.disk \
         or pubsub.mqtt\n"
    );
}

#[tokio::test]
async fn there_must_be_a_dead_letter_topic_and_the_one_that_is_named() {
    let scene = Scene::mosquitto().await;
    scene.write(MEMORY);
    let text = failed(&scene, &["dead", "list"], 2).await;
    assert!(
        text.starts_with("error: no subscription at a broker that keeps them has a `dead_letter`"),
        "{text}"
    );
    scene.write(&config(&[binding("dead/a", "keep_dead_letters = false")]));
    let text = failed(&scene, &["dead", "list"], 2).await;
    assert!(text.contains("without `keep_dead_letters = false`"), "{text}");
    scene.write(&config(&[binding("dead/a", ""), binding("dead/b", "")]));
    let text = failed(&scene, &["dead", "list", "dead/c"], 2).await;
    assert_eq!(
        text,
        "error: `dead/c` is no dead-letter topic of the configuration: there is `dead/a`, `dead/b`\n"
    );
    for topic in ["dead/b", "pubsub.mqtt:dead/b"] {
        let outcome = call(&scene, &["dead", "list", topic, "--wait", "0.1"]).await;
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""), "{}", outcome.err);
        assert!(outcome.err.contains("there are no dead letters"), "{}", outcome.err);
    }
}

#[tokio::test]
async fn which_letters_are_meant_has_to_be_said() {
    let scene = Scene::mosquitto().await;
    scene.write(&config(&[binding("dead/a", "")]));
    for command in ["redrive", "drop"] {
        let text = failed(&scene, &["dead", command], 2).await;
        assert!(text.contains("<ID|--all>") || text.contains("--all"), "{text}");
        let text = failed(&scene, &["dead", command, "1", "--all"], 2).await;
        assert!(text.contains("cannot be used with"), "{text}");
        let text = failed(&scene, &["dead", command, "7", "--wait", "0.1"], 2).await;
        assert_eq!(
            text,
            "error: there is no dead letter `7`\n  help: `wasi-pubsub dead list` shows those that are \
             there\n"
        );
    }
    let text = failed(&scene, &["dead", "redrive", "--all", "--to", "a/#"], 2).await;
    assert!(text.starts_with("error: --to is no topic: "), "{text}");
}

#[tokio::test]
async fn one_at_a_time_has_the_letters() {
    let mut scene = Scene::mosquitto().await;
    scene.write(&config(&[binding("dead/a", "")]));
    let mut first = scene.command(&["dead", "list", "--wait", "600"]).start();
    let broker = scene.broker().log().clone();
    testkit::eventually(testkit::DEADLINE, "the first is at work", || {
        broker.contain(testkit::Stream::Err, "Sending SUBACK to wasi-pubsub-dead-")
    })
    .await;
    let text = failed(&scene, &["dead", "list"], 1).await;
    assert!(text.starts_with("error: another `wasi-pubsub dead` is at work on "), "{text}");
    first.kill();
    let outcome = call(&scene, &["dead", "list", "--wait", "0.1"]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
}

#[tokio::test]
async fn letters_that_cannot_be_read_are_an_error_and_stay() {
    let scene = Scene::mosquitto().await;
    scene.write(&config(&[binding("dead/a", "")]));
    let folder = scene.folder().join("state/wasi-pubsub/dead");
    let outcome = call(&scene, &["dead", "list", "--wait", "0.1"]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    // The name holds for letters that were kept by earlier versions.
    scene.publish(&["dead/a", "--id", "x", "-m", "letter"], "").await;
    let outcome = call(&scene, &["dead", "list", "--json"]).await;
    assert!(outcome.out.contains(r#""data":"letter","number":1,"collected":""#), "{outcome:?}");
    let spool = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let spool =
        spool.into_iter().find(|path| path.extension().is_some_and(|e| e == "jsonl")).unwrap();
    assert!(spool.file_name().unwrap().to_str().unwrap().starts_with("dead_a-"), "{spool:?}");
    let text = fs::read_to_string(&spool).unwrap();
    fs::write(&spool, format!("nonsense\n{text}")).unwrap();
    let said = failed(&scene, &["dead", "list"], 1).await;
    assert!(
        said.starts_with("error: dead letters cannot be read: ") && said.contains("line 1: "),
        "{said}"
    );
    assert!(said.contains("\n  help: move the file away"), "{said}");
    assert!(fs::read_to_string(&spool).unwrap().ends_with(&text));
}
