//! Handles orders, and publishes an invoice for each to `invoices/new`.

use pubsub::{Event, Result};

#[pubsub::on_message]
fn on_message(order: Event) -> Result<()> {
    let text = order.text()?;
    println!("writing the invoice for {text}");
    let invoice = Event::new("com.example.invoice", format!("invoice for {text}"))
        .with_content_type("text/plain")
        .with_attribute("order", &order.id);
    pubsub::publish("invoices/new", invoice)
}
