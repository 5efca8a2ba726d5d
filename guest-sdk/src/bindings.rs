//! What wit-bindgen makes of the interfaces; nothing else.
//!
//! Both versions use the one [`Event`](crate::Event) and [`Error`](crate::Error),
//! so that nothing is converted on the way. Of the imports a component gets
//! those that it calls; of the exports those that an attribute asks for.
#![allow(missing_docs, unsafe_code, unreachable_pub, rust_2018_idioms, clippy::all)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

/// The names under which the bindings look for the shared types.
pub mod types {
    pub use crate::{Error, Event};
}

/// `wasi:pubsub-data@0.2.0-draft`.
pub mod p2 {
    wit_bindgen::generate!({
        path: "../wit/0.2",
        inline: "
            package pubsub:guest;

            world p2 {
                import wasi:pubsub-data/basic@0.2.0-draft;
                import wasi:pubsub-data/pull@0.2.0-draft;
                export wasi:pubsub-data/on-message@0.2.0-draft;
            }
        ",
        world: "pubsub:guest/p2",
        with: { "wasi:pubsub-data/types@0.2.0-draft": crate::bindings::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_p2_handler",
        default_bindings_module: "::pubsub::__private::p2",
    });
}

/// `wasi:pubsub-data@0.3.0-draft`, and the clock of WASI 0.3.
pub mod p3 {
    wit_bindgen::generate!({
        path: ["../wit/0.3", "wit/p3.wit"],
        inline: "
            package pubsub:guest;

            world p3 {
                import wasi:pubsub-data/basic@0.3.0-draft;
                import wasi:pubsub-data/pull@0.3.0-draft;
                import wasi:clocks/monotonic-clock@0.3.0;
                export wasi:pubsub-data/on-message@0.3.0-draft;
            }
        ",
        world: "pubsub:guest/p3",
        with: { "wasi:pubsub-data/types@0.3.0-draft": crate::bindings::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_p3_handler",
        default_bindings_module: "::pubsub::__private::p3",
    });
}

/// `wasi:cli/run@0.3.0`, the entry of a command that is async.
pub mod command {
    wit_bindgen::generate!({
        path: "wit/p3.wit",
        inline: "
            package pubsub:guest;

            world p3-command {
                export wasi:cli/run@0.3.0;
            }
        ",
        world: "pubsub:guest/p3-command",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_p3_command",
        default_bindings_module: "::pubsub::__private::command",
    });
}
