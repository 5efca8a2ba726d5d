//! The host functions of `wasi:pubsub-data@0.2.0-draft`.

mod basic;
mod pull;
mod stream;

#[allow(unreachable_pub, reason = "`bindgen!` exports it again")]
pub use stream::EventStream;
