//! `test`

use crate::components::COMMAND;
use crate::support::{Scene, guests};
use crate::{Outcome, call, call_with_input, failed};
use std::fs;

/// Events for the guest that does what its events say: every verdict.
const EVENTS: &str = r#"{"topic": "jobs/1", "data": "ok"}
{"topic": "jobs/1", "data": "publish out/a 1 {\"n\": 1}; publish out/b 2 b"}

{"topic": "jobs/two/levels", "data": "error bad"}
{"topic": "jobs/1", "data": "retry 300"}
{"topic": "jobs/1", "data": "publish out/a 1 x; reject no\ngood"}
{"topic": "jobs/1", "data": "panic"}
{"topic": "jobs/1", "data": "until 3; error no", "attempt": 3}
{"specversion": "1.0", "id": "given", "source": "/s", "type": "t", "topic": "jobs/1", "datacontenttype": "application/json", "data": {"a": 1}, "do": "publish bad/# 1 x"}
"#;

const TABLE: &str = "\
#  TOPIC            VERDICT           TOOK  REASON
1  jobs/1           ack            0.00 ms
2  jobs/1           ack            0.00 ms
   published out/a  {\"n\": 1}
   published out/b  b
   published out/b  b
3  jobs/two/levels  retry          0.00 ms  bad
4  jobs/1           retry          0.00 ms  the handler asked for a retry after 300 ms
5  jobs/1           reject         0.00 ms  no\\ngood
   published out/a  x
6  jobs/1           trap           0.00 ms  trapped: wasm trap: wasm `unreachable` instruction executed
7  jobs/1           ack            0.00 ms
8  jobs/1           retry          0.00 ms  invalid topic: it contains a wildcard, `+` or `#`: events are published to one topic
8 events: 3 ack, 1 reject, 3 retry, 1 trap
";

fn guest(name: &str) -> String {
    guests().join(format!("{name}.wasm")).to_string_lossy().into_owned()
}

/// The report with all times at zero.
fn timeless(report: &str) -> String {
    let line = |line: &str| {
        if let Some(at) =
            line.find(" ms").filter(|at| line[..*at].ends_with(|c: char| c.is_ascii_digit()))
            && let Some(start) = at.checked_sub("10000.00".len())
            && line[start..at].trim().parse::<f64>().is_ok()
        {
            return format!("{}    0.00{}\n", &line[..start], &line[at..]);
        }
        match line.split_once("\"took_ms\":") {
            Some((before, _)) => format!("{before}\"took_ms\":0}}}}\n"),
            None => format!("{line}\n"),
        }
    };
    report.lines().map(line).collect()
}

/// Feeds events to a guest.
async fn test(scene: &Scene, guest_name: &str, arguments: &[&str], events: &str) -> Outcome {
    let guest = guest(guest_name);
    call_with_input(scene, &[&["test", &guest], arguments].concat(), events).await
}

#[tokio::test]
async fn every_verdict_is_told_for_both_versions_of_the_interface() {
    let scene = Scene::memory();
    for name in ["faulty", "faulty_async"] {
        let outcome = test(&scene, name, &[], EVENTS).await;
        assert_eq!(timeless(&outcome.out), TABLE, "{name}: {}", outcome.err);
        assert_eq!(outcome.code, Some(1));
        let last = outcome.err.lines().last();
        assert_eq!(last, Some("error: 1 event got no answer from the handler"));
        assert!(!outcome.err.contains("WARN"), "{}", outcome.err);
    }
}

#[tokio::test]
async fn answers_of_any_kind_end_well() {
    let scene = Scene::memory();
    let events = "{\"data\": \"ok\"}\n{\"data\": \"error x\"}\n{\"data\": \"reject x\"}";
    let outcome = test(&scene, "faulty", &["--topic", "a"], events).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert!(outcome.out.ends_with("\n3 events: 1 ack, 1 reject, 1 retry\n"), "{}", outcome.out);
}

#[tokio::test]
async fn lines_of_json_are_the_same_each_time() {
    let scene = Scene::memory();
    let events = EVENTS.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    let events = format!("{events}{}\n", EVENTS.lines().nth(4).unwrap());
    let first = test(&scene, "faulty", &["--json"], &events).await;
    let expected = r#"{"topic":"jobs/1","specversion":"1.0","id":"1","source":"/wasi-pubsub/test","type":"wasi-pubsub.test","data":"ok","attempt":1,"outcome":{"component":"faulty","verdict":"ack","published":[],"took_ms":0}}
{"topic":"jobs/1","specversion":"1.0","id":"2","source":"/wasi-pubsub/test","type":"wasi-pubsub.test","data":"publish out/a 1 {\"n\": 1}; publish out/b 2 b","attempt":1,"outcome":{"component":"faulty","verdict":"ack","published":[{"topic":"out/a","specversion":"1.0","id":"0000000000000000-0","source":"faulty","type":"test","data":"{\"n\": 1}"},{"topic":"out/b","specversion":"1.0","id":"0000000000000000-1","source":"faulty","type":"test","data":"b"},{"topic":"out/b","specversion":"1.0","id":"0000000000000000-2","source":"faulty","type":"test","data":"b"}],"took_ms":0}}
{"topic":"jobs/1","specversion":"1.0","id":"3","source":"/wasi-pubsub/test","type":"wasi-pubsub.test","data":"retry 300","attempt":1,"outcome":{"component":"faulty","verdict":"retry","after_ms":300,"reason":"the handler asked for a retry after 300 ms","published":[],"took_ms":0}}
"#;
    assert_eq!(timeless(&first.out), expected);
    let second = test(&scene, "faulty", &["--json"], &events).await;
    assert_eq!(timeless(&second.out), expected);
}

#[tokio::test]
async fn what_differs_from_what_was_expected_is_told() {
    let scene = Scene::memory();
    let file = scene.folder().join("expected.jsonl");
    let json = test(&scene, "faulty", &["--json"], EVENTS).await.out;
    fs::write(&file, &json).unwrap();
    // Another component, other times: all the same. Its events are the input.
    for (name, input) in [("faulty", EVENTS), ("faulty_async", "")] {
        let outcome = test(&scene, name, &["--expect", "expected.jsonl"], input).await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert_eq!(timeless(&outcome.out), format!("{TABLE}as expected\n"));
    }
    let changed = EVENTS
        .replace("publish out/a 1 {", "publish out/c 1 {")
        .replace("error bad", "error worse")
        .replace("retry 300", "ok")
        .replace("publish out/a 1 x; reject", "reject");
    let changed: String = changed.lines().take(7).map(|line| format!("{line}\n")).collect();
    let outcome = test(&scene, "faulty", &["--json", "--expect", "expected.jsonl"], &changed).await;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.out.lines().count(), 6);
    let (_, error) = outcome.err.split_once("error: ").unwrap();
    assert_eq!(
        error,
        "4 of 6 events not as expected; 8 events were expected, and 6 handled
event 2, to jobs/1 (expected.jsonl:2):
  publish 1: expected out/a  {\"n\": 1}
             found out/c  {\"n\": 1}
event 3, to jobs/two/levels (expected.jsonl:3):
  reason: expected `bad`, found `worse`
event 4, to jobs/1 (expected.jsonl:4):
  verdict: expected retry, found ack
  delay: expected 300 ms, found none
  reason: expected `the handler asked for a retry after 300 ms`, found none
event 5, to jobs/1 (expected.jsonl:5):
  number of publishes: expected 1, found 0
"
    );
    // What nobody sees in the table differs as well.
    let hidden = json.replace("\"type\":\"test\"", "\"type\":\"other\"");
    fs::write(&file, hidden).unwrap();
    let outcome = test(&scene, "faulty", &["--expect", "expected.jsonl"], EVENTS).await;
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("\n  publish 1: type: expected `other`, found `test`\n"),
        "{}",
        outcome.err
    );
    let other = EVENTS.replace("\"data\": \"ok\"", "\"data\": \"ok\", \"id\": \"x\"");
    let outcome = test(&scene, "faulty", &["--expect", "expected.jsonl"], &other).await;
    assert!(
        outcome.err.contains(
            "\n  it is another event: expected 1 of /wasi-pubsub/test to jobs/1, found x of \
             /wasi-pubsub/test\n"
        ),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn input_that_is_wrong_is_refused_before_anything_runs() {
    let scene = Scene::memory();
    let good = "{\"topic\": \"a\", \"data\": \"print never\"}\n";
    for (line, said) in [
        (
            "{\"topic\": }",
            "standard input:2:11: it is no JSON object: expected value\n  help: a line is an event in the CloudEvents JSON format with its topic in `topic`, or {\"topic\": \"orders/new\", \"data\": ...}\n",
        ),
        (
            "{\"topic\": \"a/+\"}",
            "standard input:2:11: `a/+` is no topic: it contains a wildcard, `+` or `#`: ",
        ),
        (
            "{\"topic\": \"a\", \"x\": {}}",
            "standard input:2:21: the attribute `x` is an object: allowed is a string, a number or a boolean\n",
        ),
        (
            "{\"data\": 1}",
            "standard input:2: there is no `topic`\n  help: write it into the line, or name one for all with --topic\n",
        ),
        (
            "{\"topic\": \"a\", \"outcome\": {}}",
            "standard input:2: `outcome` is none that `--json` or `--record` has written: missing field `verdict`",
        ),
    ] {
        let outcome = test(&scene, "faulty", &[], &format!("{good}{line}\n")).await;
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{}", outcome.err);
        let error = outcome.err.strip_prefix("error: ").unwrap();
        assert!(error.starts_with(said), "{error}");
    }
    let outcome = test(&scene, "faulty", &[], "\n\n").await;
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.starts_with("error: there are no events\n  help: "), "{}", outcome.err);
    let faulty = guest("faulty");
    let text = failed(&scene, &["test", &faulty, "nowhere.jsonl"], 2).await;
    assert_eq!(text, "error: nowhere.jsonl: No such file or directory (os error 2)\n");
    failed(&scene, &["test", &faulty, "--topic", "a/#"], 2).await;
}

#[tokio::test]
async fn files_are_fed_one_after_the_other() {
    let scene = Scene::memory();
    fs::write(scene.folder().join("a"), "{\"topic\": \"a\", \"data\": \"count\"}").unwrap();
    fs::write(scene.folder().join("b"), "{\"topic\": \"b\", \"data\": \"count\"}").unwrap();
    let outcome = test(&scene, "faulty", &["a", "-", "b", "--json"], "{\"topic\": \"in\"}").await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let ids: Vec<_> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| format!("{} {}", line["topic"], line["id"]))
        .collect();
    assert_eq!(ids, [r#""a" "1""#, r#""in" "2""#, r#""b" "3""#]);
    assert_eq!(outcome.err, "faulty | call 1\nfaulty | call 3\n", "one instance had them all");
}

fn configure(scene: &Scene, component: &str) {
    let path = guest("faulty");
    let text = format!(
        "specversion = \"0.2\"\n[[component]]\nname = \"mine\"\npath = {path:?}\n{component}\n"
    );
    fs::write(scene.folder().join("capabilities.toml"), text).unwrap();
}

#[tokio::test]
async fn the_component_runs_as_the_configuration_says() {
    let scene = Scene::memory();
    configure(&scene, "instance = \"fresh\"\ntimeout = \"200ms\"\nenv = { CURRENCY = \"EUR\" }");
    let events = "{\"data\": \"count; env CURRENCY\"}\n{\"data\": \"count; sleep 60000\"}\n{\"data\": \"spin\"}";
    let outcome = test(&scene, "faulty", &["--topic", "a"], events).await;
    assert_eq!(outcome.code, Some(1));
    let reason = "no verdict within the timeout of 200ms";
    let rows: Vec<&str> = outcome.out.lines().collect();
    for row in &rows[2..4] {
        assert!(row.contains("  timeout  ") && row.ends_with(reason), "{row}");
    }
    assert_eq!(rows[4], "3 events: 1 ack, 2 timeout");
    for line in ["mine | call 1", "mine | env Some(\"EUR\")"] {
        assert!(outcome.err.lines().any(|said| said == line), "{line} in {}", outcome.err);
    }
    assert_eq!(outcome.err.matches("mine | call 1").count(), 2, "a fresh instance each");
    assert!(outcome.err.ends_with("error: 2 events got no answer from the handler\n"));
}

#[tokio::test]
async fn an_event_that_is_larger_than_the_memory_is_too_large() {
    let scene = Scene::memory();
    configure(&scene, "memory_limit = \"2MiB\"");
    let event = format!("{{\"topic\": \"a\", \"data\": \"{}\"}}", "x".repeat(3 << 20));
    let outcome = test(&scene, "faulty", &[], &event).await;
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    assert!(outcome.out.contains("  too-large  "), "{}", outcome.out);
    assert!(outcome.out.contains("the component's memory_limit is 2097152\n"), "{}", outcome.out);
}

#[tokio::test]
async fn a_component_that_cannot_start_is_said_at_once() {
    let scene = Scene::memory();
    configure(&scene, "memory_limit = \"64KiB\"");
    let outcome = test(&scene, "faulty", &[], "{\"topic\": \"a\"}").await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("error: no instance can be started: "), "{}", outcome.err);
    assert!(outcome.err.contains("memory limit of 65536 bytes exceeded"), "{}", outcome.err);
}

#[tokio::test]
async fn what_is_no_handler_is_refused() {
    let scene = Scene::memory();
    fs::write(scene.folder().join("command.wat"), COMMAND).unwrap();
    let text = failed(&scene, &["test", "command.wat"], 2).await;
    assert_eq!(
        text,
        "error: command.wat: it exports no `on-message`: there is no handler to test\n"
    );
    let text = failed(&scene, &["test", "nowhere.wasm"], 2).await;
    assert!(text.starts_with("error: nowhere.wasm: the file cannot be read: "), "{text}");
    configure(&scene, "");
    let raw = guest("raw");
    let text = failed(&scene, &["test", "-c", "capabilities.toml", &raw], 2).await;
    assert!(text.contains("capabilities.toml has no [[component]] with the path "), "{text}");
}

#[tokio::test]
async fn nothing_can_be_pulled() {
    let scene = Scene::memory();
    for name in ["pulling", "pulling_async"] {
        for step in ["receive a/b 1", "pull a/b 1"] {
            let event = format!("{{\"topic\": \"a\", \"data\": \"{step}\"}}");
            let outcome = test(&scene, name, &[], &event).await;
            assert_eq!(outcome.code, Some(0), "{}", outcome.err);
            assert!(outcome.out.contains("no such subscription: a/b"), "{}", outcome.out);
        }
    }
}

#[tokio::test]
async fn of_a_recording_of_several_components_one_is_meant() {
    let scene = Scene::memory();
    let line = |component: &str, data: &str| {
        format!(
            "{{\"topic\":\"a\",\"data\":\"{data}\",\"outcome\":{{\"component\":\"{component}\",\
             \"verdict\":\"ack\"}}}}\n"
        )
    };
    let lines = [line("one", "ok"), line("two", "error x"), line("one", "ok")].concat();
    fs::write(scene.folder().join("all.jsonl"), lines).unwrap();
    let outcome = test(&scene, "faulty", &["--name", "one", "--expect", "all.jsonl"], "").await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.out.ends_with("\n2 events: 2 ack\nas expected\n"), "{}", outcome.out);
    let outcome = test(&scene, "faulty", &["--name", "two", "--expect", "all.jsonl"], "").await;
    assert_eq!(outcome.code, Some(1));
    let faulty = guest("faulty");
    let text = failed(&scene, &["test", &faulty, "all.jsonl"], 2).await;
    assert_eq!(
        text,
        "error: the events were recorded of `one`, `two`, and not of `faulty`\n  help: say whose are \
         meant: --name NAME\n"
    );
}

#[tokio::test]
async fn more_can_be_logged_where_it_is_asked_for() {
    let scene = Scene::memory();
    let faulty = guest("faulty");
    fs::write(scene.folder().join("a"), "{\"topic\": \"a\", \"data\": \"error x\"}").unwrap();
    let outcome = call(&scene, &["--log", "info", "test", &faulty, "a"]).await;
    assert!(outcome.err.contains("handler failed: x"), "{}", outcome.err);
}
