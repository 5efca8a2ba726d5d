//! All tests.

use crate::guests;
use crate::shell::{cargo, heading, profile_dir, run, text_of};
use crate::tools::{NEXTEST, Tools, with_tools};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Installs what the tests need, builds the guests that they run, and runs them:
/// last those of the workspace, so that the runner's summary ends the output.
pub(crate) fn test(tools: &Tools, filters: &[String]) -> Result<()> {
    tools.mosquitto()?;
    let has_browsers = tools.browsers();
    let has_nextest = tools.cargo_tool(&NEXTEST)?;
    guests::build(tools)?;
    // In one go: apart, host and tests would ask different features of tokio.
    heading("Building the host and the tests (the first time takes minutes)");
    run(&mut cargo(["build", "--workspace", "--bins", "--tests"]))?;
    let mut failed = Vec::new();
    if filters.is_empty() {
        failed.extend(attempt("Testing the guest SDK", &mut sdk_tests()));
        failed.extend(attempt("Testing the examples in the documentation", &mut doc_tests()));
    }
    heading("Testing the workspace");
    let tested = match has_nextest {
        true => nextest(filters, has_browsers),
        false => cargo_test(filters, has_browsers),
    };
    failed.extend(tested.err().map(|error| error.to_string()));
    if !failed.is_empty() {
        bail!("{}", failed.join("\nerror: "));
    }
    Ok(())
}

/// Runs a part of the tests; what failed, in words.
fn attempt(title: &str, command: &mut Command) -> Option<String> {
    heading(title);
    run(command).err().map(|error| error.to_string())
}

fn sdk_tests() -> Command {
    let mut command = cargo(["test", "--manifest-path", "guest-sdk/Cargo.toml", "--workspace"]);
    command.arg("--target-dir").arg(guests::target_dir());
    command
}

fn doc_tests() -> Command {
    cargo(["test", "--workspace", "--doc"])
}

fn nextest(filters: &[String], has_browsers: bool) -> Result<()> {
    let mut command = with_tools(cargo(["nextest", "run", "--workspace"]))?;
    if std::env::var_os("CI").is_some() {
        command.args(["--profile", "ci"]);
    }
    run(with_host(command.args(filters), has_browsers)?)
}

/// The tests without cargo-nextest: no limit on a test's time, and one program
/// after the other.
fn cargo_test(filters: &[String], has_browsers: bool) -> Result<()> {
    eprintln!(
        "note: using `cargo test`, which is slower: cargo-nextest is missing \
         (`cargo install --locked cargo-nextest`)"
    );
    let mut command = cargo(["test", "--workspace", "--lib", "--bins", "--tests"]);
    command.args(["--no-fail-fast", "--"]).args(filters);
    let command = with_host(&mut command, has_browsers)?;
    let text = text_of(command);
    eprintln!("    {text}");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut total = Total::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what cargo prints")?;
        println!("{line}");
        total.add(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    println!("{}", total.line(status.success()));
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    if total.passed == 0 {
        bail!("no test has run");
    }
    Ok(())
}

/// Tells the tests which host to run, which was built just now, and whether they may
/// leave out those with browsers.
fn with_host(command: &mut Command, has_browsers: bool) -> Result<&mut Command> {
    if has_browsers {
        command.env("WASI_PUBSUB_TEST_BROWSERS", "1");
    }
    Ok(command.env("WASI_PUBSUB_BIN", profile_dir()?.join("wasi-pubsub")))
}

/// The results of all test programs, which `cargo test` reports one by one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    passed: u64,
    failed: u64,
    ignored: u64,
    programs: u64,
}

impl Total {
    /// Reads a line as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.programs += 1;
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn line(&self, ok: bool) -> String {
        let Self { passed, failed, ignored, programs } = self;
        let word = if ok { "ok" } else { "FAILED" };
        format!(
            "\nAll {programs} test programs together:\n\
             test result: {word}. {passed} passed; {failed} failed; {ignored} ignored"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_added() {
        let mut total = Total::default();
        total.add("running 12 tests");
        total.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.10s",
        );
        total.add(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; \
             finished in 0.10s",
        );
        assert_eq!(total, Total { passed: 15, failed: 2, ignored: 1, programs: 2 });
        assert!(total.line(false).ends_with("FAILED. 15 passed; 2 failed; 1 ignored"));
    }
}
