//! What becomes of an event, by the verdict of its handler.

use crate::support::{Jobs, Scene, drain, on_each_backend};
use std::time::{Duration, Instant};
use testkit::Stream::{Err, Out};

on_each_backend!(
    an_error_is_tried_again_and_attempts_are_counted,
    a_handler_can_ask_for_a_delay,
    what_is_rejected_becomes_a_dead_letter_at_once,
    too_many_attempts_make_a_dead_letter,
    what_is_exhausted_is_dropped_where_the_configuration_says_so,
    what_is_rejected_without_a_dead_letter_topic_is_logged_and_gone,
    a_handler_publishes_and_its_own_grants_bound_it,
);

async fn an_error_is_tried_again_and_attempts_are_counted(scene: Scene) {
    Jobs { events: &["print try; until 3; error not yet"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "handler | try", 3).await;
    drain(&mut host).await;
    let lines = host.lines();
    assert_eq!(lines.count(Out, "handler | try"), 3);
    let failures: Vec<_> =
        lines.of(Err).into_iter().filter(|l| l.contains("handler failed: not yet")).collect();
    let [first, second] = failures.as_slice() else { panic!("two failures, not {failures:?}") };
    assert!(first.contains("attempt=1") && second.contains("attempt=2"), "{failures:?}");
    assert!(first.contains("component=handler") && first.contains("topic=jobs/0"), "{first}");
}

async fn a_handler_can_ask_for_a_delay(scene: Scene) {
    let retry = "backoff = \"1h\", backoff_max = \"1h\"";
    Jobs { retry, events: &["print try; until 2; retry 300"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | try").await;
    let start = Instant::now();
    host.wait_for_count(Out, "handler | try", 2).await;
    // Its first line is seen a moment after it was written.
    assert!(start.elapsed() > Duration::from_millis(200), "after {:?}", start.elapsed());
    drain(&mut host).await;
}

async fn what_is_rejected_becomes_a_dead_letter_at_once(scene: Scene) {
    Jobs { events: &["print try; reject no good"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "letters | received").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | try"), 1);
    let letter = letter(&host.lines().of(Out));
    for part in [
        r#"source: "source""#,
        r#"type: "test""#,
        r#"data: "print try; reject no good""#,
        r#""deadletterreason": "no good""#,
        r#""deadlettertopic": "jobs/0""#,
        r#""deadletterattempts": "1""#,
        r#"topic: "dead/jobs""#,
    ] {
        assert!(letter.contains(part), "{part} in {letter}");
    }
}

async fn too_many_attempts_make_a_dead_letter(scene: Scene) {
    let retry = "max_attempts = 3, backoff = \"10ms\", backoff_max = \"10ms\"";
    Jobs { retry, events: &["print try; error bad", "print next"], ..Jobs::default() }
        .write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "letters | received").await;
    host.wait_for(Out, "handler | next").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | try"), 3);
    let letter = letter(&host.lines().of(Out));
    for part in [r#""deadletterreason": "bad""#, r#""deadletterattempts": "3""#] {
        assert!(letter.contains(part), "{part} in {letter}");
    }
}

async fn what_is_exhausted_is_dropped_where_the_configuration_says_so(scene: Scene) {
    let retry = "max_attempts = 2, backoff = \"10ms\", backoff_max = \"10ms\"";
    let binding = "on_exhausted = \"drop\"";
    Jobs { retry, binding, events: &["print try; error bad"], ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, "given up: the event is dropped").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | try"), 2);
    assert_eq!(host.lines().count(Err, "given up: the event is dropped"), 1);
}

async fn what_is_rejected_without_a_dead_letter_topic_is_logged_and_gone(scene: Scene) {
    let events = &["print try; reject no good", "print next"];
    Jobs { binding: "", events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, "given up: the event is dropped").await;
    host.wait_for(Out, "handler | next").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | try"), 1);
    assert!(host.lines().contain(Err, "no good"));
}

async fn a_handler_publishes_and_its_own_grants_bound_it(scene: Scene) {
    let retry = "max_attempts = 1";
    let events = &["publish out/a 2 allowed; print done", "publish secret/a 1 x; print never"];
    Jobs { retry, events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, r#"data: "allowed""#, 2).await;
    host.wait_for(Out, "deadletterreason").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | done"), 1);
    assert_eq!(host.lines().count(Out, "handler | never"), 0);
    let letter = letter(&host.lines().of(Out));
    assert!(letter.contains("denied") && letter.contains("secret/a"), "{letter}");
}

/// The only dead letter.
fn letter(lines: &[String]) -> String {
    let mut letters = lines.iter().filter(|line| line.contains("deadletterreason"));
    let letter = letters.next().expect("a dead letter");
    assert_eq!(letters.next(), None, "one dead letter only");
    letter.clone()
}
