//! What tests of wasi-pubsub stand on: a mosquitto of their own, a link that
//! can be cut, the host as a process, and waiting with a deadline.
//!
//! A helper that cannot do its work panics with a sentence that says what is
//! missing: a test never passes without having run.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a failure here is the failure of the test that called"
)]

mod certificates;
mod host;
mod logs;
mod mosquitto;
mod process;
mod proxy;
pub mod sqlite_disk;
mod wait;

pub use certificates::Certificates;
pub use host::{Host, HostCommand, host_binary};
pub use logs::{Logs, capture_logs};
pub use mosquitto::{Mosquitto, MosquittoBuilder, mosquitto_binary};
pub use process::{Lines, Stream};
pub use proxy::{Cutter, Proxy};
pub use wait::{DEADLINE, eventually, free_port, within};

#[cfg(test)]
mod tests;
