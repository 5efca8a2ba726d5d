//! The command line as it is typed: texts, exit codes, and what scripts rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod arguments;
mod broker;
mod check;
mod components;
mod dead;
mod inspect;
mod publish;
mod subscribe;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the end-to-end tests")]
mod support;
mod testing;

use support::Scene;
use testkit::Stream;

/// How a call of the program has ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the program to its end.
async fn call(scene: &Scene, arguments: &[&str]) -> Outcome {
    call_with_input(scene, arguments, "").await
}

async fn call_with_input(scene: &Scene, arguments: &[&str], input: &str) -> Outcome {
    let mut host = scene.command(arguments).start_with_input(input);
    let code = host.exit_code().await;
    let text = |stream| {
        let lines = host.lines().of(stream);
        lines.iter().map(|line| format!("{line}\n")).collect()
    };
    Outcome { code, out: text(Stream::Out), err: text(Stream::Err) }
}

/// What a call that failed has written, which has nothing on standard output.
async fn failed(scene: &Scene, arguments: &[&str], code: i32) -> String {
    let outcome = call(scene, arguments).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(code), ""), "{}", outcome.err);
    outcome.err
}

/// What a call that went well has written, with nothing on standard error.
async fn done(scene: &Scene, arguments: &[&str]) -> String {
    let outcome = call(scene, arguments).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    outcome.out
}
