//! Events on their way through three components.

use crate::guests;
use crate::shell::{cargo, heading, profile_dir, root, run, text_of};
use crate::tools::Tools;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// What the publisher of capabilities.toml publishes.
const EVENTS: usize = 3;
/// How long the host may take for all of it. The first start compiles the guests.
const DEADLINE: Duration = Duration::from_secs(120);

/// Builds all that is needed, and runs publisher, pipeline and receiver on the
/// built-in broker until every event is through.
pub(crate) fn demo(tools: &Tools) -> Result<()> {
    guests::build_examples(tools, &["publisher", "pipeline", "receiver"])?;
    build_host()?;
    let program = profile_dir()?.join("wasi-pubsub");
    let mut command = Command::new(&program);
    command.args(["run", "--config", "capabilities.toml"]).current_dir(root());
    heading("Running publisher, pipeline and receiver on the built-in broker");
    eprintln!("    {}\n", text_of(&command));
    watch(command)?;
    let shown = program.strip_prefix(root()).unwrap_or(&program).display().to_string();
    println!("{}", next_steps(&shown));
    Ok(())
}

fn next_steps(program: &str) -> String {
    format!(
        "
That was `wasi-pubsub run` with capabilities.toml: the publisher sent three orders, the
pipeline wrote an invoice for each, and the receiver printed the invoices. Now try:

  {program} run         the same again, until Ctrl-C
  {program} check       is capabilities.toml right?
  {program} --help      every command has examples
  {program} inspect guest-examples/target/wasm32-wasip2/release/pipeline.wasm

Change guest-examples/pipeline/src/lib.rs, and run `cargo xtask demo` again. To use an MQTT
broker instead of the built-in one, change `name` in capabilities.toml to \"pubsub.mqtt\"
and give each binding a `url`, such as \"tcp://localhost:1883\"."
    )
}

fn build_host() -> Result<()> {
    heading("Building the host (the first time takes minutes: Wasmtime is optimised)");
    // What the whole workspace asks of dependencies, so that less is built again
    // for the tests.
    run(&mut cargo(["build", "--workspace", "--bin", "wasi-pubsub"]))
}

fn watch(mut command: Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", text_of(&command)))?;
    let stdout = child.stdout.take().context("the host has no output")?;
    let mut host = Running(child);
    let lines = follow(stdout);
    let deadline = Instant::now() + DEADLINE;
    let mut received = 0;
    while received < EVENTS {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            bail!("{received} of {EVENTS} events arrived; see what the host says above");
        };
        println!("{line}");
        received += usize::from(is_received(&line));
    }
    host.stop()?;
    // What came after the last event: nothing, unless something is wrong.
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        println!("{line}");
    }
    let status = host.0.wait().context("cannot wait for the host")?;
    if !status.success() {
        bail!("the host ended with {status}");
    }
    Ok(())
}

/// Whether the receiver says that it has handled an event.
fn is_received(line: &str) -> bool {
    line.starts_with("receiver | received Event")
}

fn follow(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Ends with the host's output, or with who listens.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The host, which does not outlive the demonstration.
struct Running(Child);

impl Running {
    /// Asks it to drain and end.
    fn stop(&mut self) -> Result<()> {
        if !cfg!(unix) {
            return self.0.kill().context("cannot stop the host");
        }
        // The shell's own `kill`: not every system has it as a program.
        let command = format!("kill -TERM {}", self.0.id());
        let status = Command::new("sh").args(["-c", &command]).status();
        if !status.context("cannot start sh to stop the host")?.success() {
            bail!("the host has ended before it was stopped");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
