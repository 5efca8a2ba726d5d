//! Bytes of a client, before and after its CONNECT.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| wasi_pubsub::listener::fuzz::packets(data));
