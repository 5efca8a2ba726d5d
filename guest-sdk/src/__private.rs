//! What the attributes expand to. Not for use by hand.

pub use crate::bindings::{command, p2, p3};

use crate::Error;
use std::io::Write;

/// What a handler or an async `main` may return.
#[diagnostic::on_unimplemented(
    message = "this function must return `pubsub::Result<()>` or nothing",
    label = "returns `{Self}`",
    note = "an error of another type works too, if `pubsub::Error` implements `From` of it"
)]
pub trait IntoVerdict {
    /// As the interface wants it.
    fn into_verdict(self) -> Result<(), Error>;
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<E: Into<Error>> IntoVerdict for Result<(), E> {
    fn into_verdict(self) -> Result<(), Error> {
        self.map_err(Into::into)
    }
}

/// The verdict, once what the handler has printed is out.
pub fn verdict(returned: impl IntoVerdict) -> Result<(), Error> {
    flush();
    returned.into_verdict()
}

/// The exit status of an async `main`, its error written to standard error.
#[expect(clippy::result_unit_err, reason = "the type of `wasi:cli/run`")]
pub fn exit_status(returned: impl IntoVerdict) -> Result<(), ()> {
    let verdict = verdict(returned);
    verdict.map_err(|error| eprintln!("Error: {error}"))
}

fn flush() {
    // A closed output is no reason to fail the event.
    let _ = std::io::stdout().flush();
}
