//! How a command ends when it does not end well.

use std::fmt;
use std::process::ExitCode;

/// What went wrong, and with which exit code that ends.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
    /// The message says by itself that it is an error.
    bare: bool,
}

impl Failure {
    /// The input is wrong: arguments, configuration or a component.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), bare: false }
    }

    /// It failed while running.
    pub(super) fn run(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), bare: false }
    }

    /// The configuration is wrong: its problems, as they are shown.
    pub(super) fn problems(rendered: String) -> Self {
        Self { code: 2, message: rendered, bare: true }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare {
            f.write_str(self.message.trim_end())
        } else {
            write!(f, "error: {}", self.message)
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::run(error.to_string())
    }
}
