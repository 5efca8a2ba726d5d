//! A handler without the SDK: plain wit-bindgen.

wit_bindgen::generate!({
    path: "../../wit/0.2",
    world: "subscriber",
    generate_all,
});

use exports::wasi::pubsub_data::on_message::{Error, Event, Guest};

struct Component;

impl Guest for Component {
    fn on_message(message: Event) -> Result<(), Error> {
        let text = String::from_utf8_lossy(&message.data);
        println!("received {} from {}: {text}", message.type_, message.source);
        Ok(())
    }
}

export!(Component);
