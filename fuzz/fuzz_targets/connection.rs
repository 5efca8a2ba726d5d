//! A whole connection of MQTT, with a broker behind it.
#![no_main]

#[path = "../src/ground.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod ground;

use ground::Ground;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static GROUND: Ground = Ground::new();
}

fuzz_target!(|data: &[u8]| GROUND.with(|ground| ground.connection(data)));
