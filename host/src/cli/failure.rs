//! How a command ends when it does not end well.

use crate::config::Errors;
use std::process::ExitCode;

/// What went wrong, and with which exit code that ends.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: Message,
}

#[derive(Debug)]
enum Message {
    Text(String),
    Problems(Errors),
}

impl Failure {
    /// The input is wrong: arguments, configuration or a component.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self { code: 2, message: Message::Text(message.into()) }
    }

    /// It failed while running.
    pub(super) fn run(message: impl Into<String>) -> Self {
        Self { code: 1, message: Message::Text(message.into()) }
    }

    /// The configuration is wrong.
    pub(super) fn problems(problems: Errors) -> Self {
        Self { code: 2, message: Message::Problems(problems) }
    }

    /// What to tell the user.
    pub(super) fn render(&self, colour: bool) -> String {
        match &self.message {
            Message::Text(text) => format!("error: {text}"),
            Message::Problems(problems) => problems.render(colour).trim_end().to_owned(),
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::run(error.to_string())
    }
}
