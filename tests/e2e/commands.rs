//! Components with a `main`: how the host ends with them, and what their end
//! means for what they have received.

use crate::support::{Scene, on_each_backend, printed};
use testkit::Stream::Err;

on_each_backend!(
    a_clean_end_acknowledges_what_was_received,
    a_failed_command_gives_back_what_it_received_last,
    a_trap_gives_back_what_a_stream_has_handed_out,
    a_stream_hands_out_what_is_published,
);

/// Commands that share nothing, on the built-in broker.
fn write_commands(scene: &Scene, commands: &[(&str, &[&str])]) {
    let mut text = "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n\
                    [[capability.config]]\n"
        .to_owned();
    for (name, steps) in commands {
        let steps = serde_json::to_string(steps).unwrap();
        text.push_str(&format!(
            "[[component]]\nname = \"{name}\"\npath = \"$GUESTS/faulty-command.wasm\"\nargs = {steps}\n"
        ));
    }
    scene.write(&text);
}

#[tokio::test]
async fn when_all_commands_have_ended_well_so_does_the_host() {
    let scene = Scene::memory();
    write_commands(
        &scene,
        &[("one", &["print first"]), ("two", &["sleep 200", "print last", "exit 0"])],
    );
    let mut host = scene.run();
    host.expect_exit(0).await;
    assert_eq!(printed(&host), ["one | first", "two | last"]);
}

#[tokio::test]
async fn one_failed_command_makes_the_exit_code_1_and_is_not_started_again() {
    for (step, reason) in [
        ("fail on purpose", "its main returned an error"),
        ("exit 3", "it exited with code 1"),
        ("panic", "it trapped"),
        ("abort", "it trapped"),
        ("grow", "memory limit of 67108864 bytes exceeded"),
    ] {
        let scene = Scene::memory();
        write_commands(
            &scene,
            &[("bad", &["print begun", step]), ("good", &["sleep 100", "print done"])],
        );
        let mut host = scene.run();
        host.expect_exit(1).await;
        assert_eq!(printed(&host), ["bad | begun", "good | done"], "{step}");
        assert!(host.lines().contain(Err, reason), "{reason}: {}", host.lines().dump());
        assert!(host.lines().contain(Err, "error: failed: bad"), "{}", host.lines().dump());
    }
}

/// Two commands that pull from one queue, the second one later, and a source.
fn write_pullers(scene: &Scene, first: &[&str], second: &[&str], events: &[&str]) {
    let steps = |steps: &[&str]| serde_json::to_string(steps).unwrap();
    let publish: Vec<String> =
        events.iter().map(|event| format!("publish jobs/0 1 {event}")).collect();
    let publish: Vec<&str> = publish.iter().map(String::as_str).collect();
    scene.write(&format!(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/+"
components = ["first", "second"]
delivery = "pull"
retry = {{ backoff = "10ms", backoff_max = "10ms" }}

[[capability.config]]
components = ["source"]

[[component]]
name = "first"
path = "$GUESTS/pulling-command.wasm"
args = {}

[[component]]
name = "second"
path = "$GUESTS/pulling-command.wasm"
args = {}

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {}
"#,
        steps(first),
        steps(second),
        steps(&publish),
    ));
}

async fn a_clean_end_acknowledges_what_was_received(scene: Scene) {
    let first = &["receive jobs/+ 2"];
    let second = &["sleep 800", "pull jobs/+ 10 300"];
    write_pullers(&scene, first, second, &["one", "two"]);
    let mut host = scene.run();
    host.expect_exit(0).await;
    assert_eq!(
        printed(&host),
        ["first | received one attempt 1", "first | received two attempt 1", "second | pulled 0"]
    );
}

async fn a_failed_command_gives_back_what_it_received_last(scene: Scene) {
    let first = &["receive jobs/+ 2", "fail on purpose"];
    let second = &["sleep 800", "pull jobs/+ 10 5000", "ack"];
    write_pullers(&scene, first, second, &["one", "two"]);
    let mut host = scene.run();
    host.expect_exit(1).await;
    assert_eq!(
        printed(&host),
        [
            "first | received one attempt 1",
            "first | received two attempt 1",
            "second | pulled 1",
            "second | delivery two attempt 2",
        ]
    );
}

async fn a_trap_gives_back_what_a_stream_has_handed_out(scene: Scene) {
    let first = &["stream jobs/+ 1", "panic"];
    let second = &["sleep 800", "receive jobs/+ 1"];
    write_pullers(&scene, first, second, &["one"]);
    let mut host = scene.run();
    host.expect_exit(1).await;
    // Dropping a stream acknowledges nothing either.
    let lines = printed(&host);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "first | streamed one attempt 1");
    assert!(lines[1].starts_with("second | received one attempt "), "{lines:?}");
    assert!(host.lines().contain(Err, "first | "), "the panic is on standard error");
}

async fn a_stream_hands_out_what_is_published(scene: Scene) {
    write_pullers(&scene, &["stream jobs/+ 3"], &[], &["one", "two", "three"]);
    let mut host = scene.run();
    host.expect_exit(0).await;
    assert_eq!(
        printed(&host),
        [
            "first | streamed one attempt 1",
            "first | streamed two attempt 1",
            "first | streamed three attempt 1",
        ]
    );
}
