//! `run --record`, and tests made of recordings.

use crate::support::{Jobs, Scene, drain, guests, on_each_backend};
use serde_json::Value;
use std::fs;
use testkit::Stream::{Err, Out};

on_each_backend!(what_is_recorded_is_input_for_a_test);

/// Runs jobs until so many lines contain each text, and returns what was recorded.
async fn recorded(scene: &Scene, jobs: Jobs<'_>, wait: &[(&str, usize)]) -> Vec<Value> {
    jobs.write(scene);
    let mut host = scene.command(&["run", "--record", "all.jsonl"]).start();
    for (text, count) in wait {
        host.wait_for_count(Out, text, *count).await;
    }
    drain(&mut host).await;
    let text = fs::read_to_string(scene.folder().join("all.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(lines: &'a [Value], component: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["outcome"]["component"] == component).collect()
}

async fn what_is_recorded_is_input_for_a_test(scene: Scene) {
    let events = &[
        "publish out/a 1 first",
        "print try; until 2; error not yet",
        "reject no good",
        "print try; until 2; panic",
        "publish out/b 2 last",
    ];
    let jobs = Jobs { events, ..Jobs::default() };
    let lines = recorded(&scene, jobs, &[("letters | received", 4), ("handler | try", 4)]).await;
    // The order of retries is not certain.
    let mut found: Vec<String> = of(&lines, "handler")
        .iter()
        .map(|line| {
            let outcome = &line["outcome"];
            let published = outcome["published"].as_array().unwrap().len();
            format!("{} {} {} {published}", line["data"], line["attempt"], outcome["verdict"])
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            r#""print try; until 2; error not yet" 1 "retry" 0"#,
            r#""print try; until 2; error not yet" 2 "ack" 0"#,
            r#""print try; until 2; panic" 1 "trap" 0"#,
            r#""print try; until 2; panic" 2 "ack" 0"#,
            r#""publish out/a 1 first" 1 "ack" 1"#,
            r#""publish out/b 2 last" 1 "ack" 2"#,
            r#""reject no good" 1 "reject" 0"#,
        ]
    );
    assert_eq!(of(&lines, "letters").len(), 4);
    assert!(lines.iter().all(|line| line["outcome"]["took_ms"].as_f64().is_some_and(|t| t > 0.0)));

    let test = async |name: &str, more: &[&str]| {
        let path = guests().join(format!("{name}.wasm")).to_string_lossy().into_owned();
        let arguments = [&["test", &path, "--expect", "all.jsonl"], more].concat();
        let mut host = scene.command(&arguments).start();
        let code = host.exit_code().await;
        (code, host.lines().of(Err).join("\n"))
    };
    // The configuration has the component's name.
    let (code, said) = test("faulty", &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = test("receiver", &["--name", "letters"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = test("receiver", &["--name", "handler"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("verdict: expected reject, found ack"), "{said}");
}

#[tokio::test]
async fn many_at_once_in_one_instance_are_told_apart() {
    let scene = Scene::memory();
    let steps: Vec<String> =
        (0..40).map(|n| format!("sleep {}; publish out/a 1 of-{n}", n % 7 * 5)).collect();
    let events: Vec<&str> = steps.iter().map(String::as_str).collect();
    let jobs = Jobs { guest: "faulty_async", events: &events, ..Jobs::default() };
    let lines = recorded(&scene, jobs, &[("letters | received", 40)]).await;
    let handled = of(&lines, "handler");
    assert_eq!(handled.len(), 40);
    for line in handled {
        let of = line["data"].as_str().unwrap().rsplit(' ').next().unwrap();
        let published = line["outcome"]["published"].as_array().unwrap();
        let data: Vec<_> = published.iter().map(|event| event["data"].as_str().unwrap()).collect();
        assert_eq!(data, [of], "{line}");
    }
}

#[tokio::test]
async fn a_second_run_adds_to_the_file() {
    let scene = Scene::memory();
    for run in 1..=2 {
        let jobs = Jobs { events: &["print done"], ..Jobs::default() };
        let lines = recorded(&scene, jobs, &[("handler | done", 1)]).await;
        assert_eq!(lines.len(), run);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_holds_nothing_up() {
    let scene = Scene::memory();
    Jobs { events: &["print one", "print two"], ..Jobs::default() }.write(&scene);
    let mut host = scene.command(&["run", "--record", "/dev/full"]).start();
    host.wait_for(Out, "handler | two").await;
    host.wait_for(Err, "cannot record to /dev/full: No space left on device").await;
    drain(&mut host).await;
    let said = host.lines();
    assert_eq!(said.count(Err, "cannot record to"), 1, "{}", said.dump());
    assert!(said.contain(Err, "2 deliveries are not recorded in /dev/full"), "{}", said.dump());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_said_at_the_start() {
    let scene = Scene::memory();
    Jobs { events: &["print never"], ..Jobs::default() }.write(&scene);
    let mut host = scene.command(&["run", "--record", "nowhere/all.jsonl"]).start();
    host.expect_exit(2).await;
    let said = host.lines();
    assert_eq!(said.of(Out), [""; 0]);
    assert!(
        said.contain(Err, "error: --record nowhere/all.jsonl: No such file or directory"),
        "{}",
        said.dump()
    );
}
