//! The generated bindings, and nothing else.
//!
//! Both versions share the types of 0.2: the two texts define the same records
//! and variants, and wasmtime compares types by structure.

#![allow(unreachable_pub, reason = "what `bindgen!` generates is public")]

/// `wasi:pubsub-data@0.2.0-draft`: synchronous functions.
pub mod v0_2 {
    wasmtime::component::bindgen!({
        path: "../wit/0.2",
        world: "puller",
        imports: { default: async | trappable },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:pubsub-data/basic.event-stream": crate::capability::v0_2::EventStream,
            "wasi:pubsub-data/pull.delivery": crate::capability::delivery::Delivery,
        },
    });
}

/// `wasi:pubsub-data@0.3.0-draft`: asynchronous functions and native streams.
pub mod v0_3 {
    wasmtime::component::bindgen!({
        path: "../wit/0.3",
        world: "puller",
        imports: {
            // Synchronous in WIT, and needs the store to make a stream.
            "wasi:pubsub-data/basic@0.3.0-draft.stream": store | trappable,
            default: trappable,
        },
        with: {
            "wasi:pubsub-data/types": super::v0_2::wasi::pubsub_data::types,
            "wasi:pubsub-data/pull.delivery": crate::capability::delivery::Delivery,
        },
    });
}

pub use v0_2::wasi::pubsub_data::types::{Error, Event};
