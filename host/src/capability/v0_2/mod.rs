//! The host functions of `wasi:pubsub-data@0.2.0-draft`.

mod basic;
mod pull;
mod stream;

pub(in crate::capability) use stream::EventStream;
