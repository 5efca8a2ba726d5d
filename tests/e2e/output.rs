//! What guests write, and what the host logs.

use crate::support::{Jobs, Scene, drain};
use testkit::Stream::{Err, Out};

#[tokio::test]
async fn every_line_of_a_guest_bears_its_component() {
    let scene = Scene::memory();
    let events = &["print one; mutter two; print  and three; until 2; panic"];
    Jobs { events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "handler | two and three", 2).await;
    drain(&mut host).await;
    assert_eq!(
        host.lines().of(Out),
        ["handler | one", "handler | two and three", "handler | one", "handler | two and three"]
    );
    let panics: Vec<_> =
        host.lines().of(Err).into_iter().filter(|line| line.contains("told to panic")).collect();
    assert!(
        !panics.is_empty() && panics.iter().all(|line| line.starts_with("handler | ")),
        "{panics:?}"
    );
}

#[tokio::test]
async fn a_line_without_an_end_is_written_when_its_instance_ends() {
    let scene = Scene::memory();
    // Rust's own buffer is emptied by `exit`, and would not be by a trap.
    Jobs { retry: "max_attempts = 1", events: &["mutter half; exit 3"], ..Jobs::default() }
        .write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "letters | received").await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out)[0], "handler | half", "it came before the verdict took effect");
    assert_eq!(host.lines().count(Out, "handler | half"), 1);
}

#[tokio::test]
async fn logs_go_to_standard_error_as_text_or_json() {
    let scene = Scene::memory();
    Jobs { events: &["print done; until 2; error not yet"], ..Jobs::default() }.write(&scene);
    let mut host = scene.command(&["run", "--log-format", "json"]).start();
    host.wait_for_count(Out, "handler | done", 2).await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out), ["handler | done"; 2]);
    let mut messages = Vec::new();
    for line in host.lines().of(Err) {
        let entry: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line} is no JSON: {e}"));
        assert!(entry["timestamp"].is_string() && entry["level"].is_string(), "{entry}");
        messages.push((entry["message"].as_str().unwrap().to_owned(), entry));
    }
    let (_, failure) = messages.iter().find(|(m, _)| m.contains("not yet")).expect("the failure");
    assert_eq!(failure["level"], "WARN");
    assert_eq!(failure["component"], "handler");
    assert_eq!(failure["topic"], "jobs/0");
    assert_eq!(failure["attempt"], 1);
    for expected in ["ready", "stopping"] {
        assert!(messages.iter().any(|(m, _)| m.starts_with(expected)), "{expected}: {messages:#?}");
    }
}

#[tokio::test]
async fn a_component_with_both_handlers_gets_each_event_once() {
    let scene = Scene::memory();
    Jobs { guest: "both", events: &["one", "two", "three"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "handler | ", 3).await;
    drain(&mut host).await;
    for text in ["one", "two", "three"] {
        assert_eq!(host.lines().count(Out, text), 1, "{text}");
    }
}
