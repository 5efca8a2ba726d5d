//! The host as a process, for tests from end to end.

use crate::process::{self, Lines, Stream};
use crate::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

/// The path of the program `wasi-pubsub`: what `WASI_PUBSUB_BIN` names, or else
/// it is built, with the profile that this test was built with.
///
/// # Panics
/// When it is not there, or cannot be built.
#[must_use]
pub fn host_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> =
        LazyLock::new(|| match std::env::var_os("WASI_PUBSUB_BIN") {
            Some(path) => {
                let path = PathBuf::from(path);
                assert!(
                    path.is_file(),
                    "WASI_PUBSUB_BIN names {}, which is no file",
                    path.display()
                );
                path
            }
            None => build(),
        });
    &BINARY
}

/// The features of the whole workspace are those of a test run of it, so that
/// nothing is built a second time.
fn build() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command
        .args([
            "build",
            "--workspace",
            "--bin",
            "wasi-pubsub",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // Cargo has told the test about its own package. Some build scripts look at that,
    // and would have their crates built anew, again and again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| text.starts_with(own)) {
            command.env_remove(&name);
        }
    }
    let output = command.output().expect("cargo can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo cannot build the host:\n{errors}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| {
            let is_host = message["target"]["name"] == "wasi-pubsub";
            message["executable"].as_str().filter(|_| is_host).map(PathBuf::from)
        })
        .expect("cargo names the program that it has built")
}

/// How to start the host.
#[derive(Debug)]
pub struct HostCommand {
    command: Command,
    text: String,
}

impl HostCommand {
    /// The host with these arguments, in a folder. No variable of the test's
    /// environment that configures the host or its logs reaches it.
    #[must_use]
    pub fn new<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(host_binary());
        let mut text = "wasi-pubsub".to_owned();
        for argument in arguments {
            text.push(' ');
            text.push_str(&argument.as_ref().to_string_lossy());
            command.arg(argument);
        }
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let configures = ["WASI_PUBSUB_", "OTEL_"].iter().any(|p| name_text.starts_with(p));
            if configures || name_text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command.current_dir(folder);
        Self { command, text }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Has it started by another program, which ends by executing what its last
    /// arguments say.
    #[must_use]
    pub fn started_by(self, program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command, text: self.text }
    }

    /// Starts it, with this text as its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_with_input(mut self, input: &str) -> Host {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|e| panic!("cannot start `{}`: {e}", self.text));
        let lines = Lines::default();
        lines.follow(Stream::Out, child.stdout.take().expect("its output is piped"));
        lines.follow(Stream::Err, child.stderr.take().expect("its errors are piped"));
        let mut stdin = child.stdin.take().expect("its input is piped");
        let input = input.to_owned();
        // In a thread: who doesn't read would hold the test up. A failure to
        // write means that it has ended, which the test sees by its exit code.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        Host { child, lines, text: self.text }
    }

    /// Starts it, with empty standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(self) -> Host {
        self.start_with_input("")
    }
}

/// A running host. It is killed when dropped.
#[derive(Debug)]
pub struct Host {
    child: Child,
    lines: Lines,
    text: String,
}

impl Host {
    /// What it has written so far.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of that stream contains a text.
    ///
    /// # Panics
    /// After [`DEADLINE`], or once it has ended, with all that it has written.
    pub async fn wait_for(&mut self, stream: Stream, text: &str) {
        self.wait_for_count(stream, text, 1).await;
    }

    /// Waits until that many lines of that stream contain a text.
    ///
    /// # Panics
    /// After [`DEADLINE`], or once it has ended, with all that it has written.
    pub async fn wait_for_count(&mut self, stream: Stream, text: &str, count: usize) {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            // Asked before the lines are counted: what is complete stays as it is.
            let complete = self.lines.complete();
            let found = self.lines.count(stream, text);
            if found >= count {
                return;
            }
            assert!(
                !complete && tokio::time::Instant::now() < end,
                "`{}` wrote `{text}` {found} times, not {count}, {}:\n{}",
                self.text,
                if complete {
                    "before it ended".to_owned()
                } else {
                    format!("within {DEADLINE:?}")
                },
                self.lines.dump()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks it to end, with SIGTERM.
    pub fn terminate(&self) {
        process::signal(&self.child, Signal::TERM);
    }

    /// Asks it to end, with SIGINT.
    pub fn interrupt(&self) {
        process::signal(&self.child, Signal::INT);
    }

    /// Asks it to reload, with SIGHUP.
    pub fn hang_up(&self) {
        process::signal(&self.child, Signal::HUP);
    }

    /// Ends it at once, with SIGKILL.
    pub fn kill(&mut self) {
        process::kill(&mut self.child);
    }

    /// Waits until it has ended; its exit code, `None` where a signal ended it.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn exit_code(&mut self) -> Option<i32> {
        let code = process::ended(&mut self.child, &self.text, DEADLINE).await.code();
        eventually(DEADLINE, "its last lines were read", || self.lines.complete()).await;
        code
    }

    /// Waits until it has ended by itself, and demands an exit code.
    ///
    /// # Panics
    /// After [`DEADLINE`], or with another code, with all that it has written.
    pub async fn expect_exit(&mut self, code: i32) {
        let found = self.exit_code().await;
        assert_eq!(found, Some(code), "exit code of `{}`:\n{}", self.text, self.lines.dump());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        process::kill(&mut self.child);
        if std::thread::panicking() {
            eprintln!("`{}` wrote:\n{}", self.text, self.lines.dump());
        }
    }
}
