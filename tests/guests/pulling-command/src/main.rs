//! A command that pulls as its arguments say, for tests.
//!
//! Each argument is one step, carried out in order; at the end it is ok. The
//! environment variable `STEPS` adds steps, separated by `;`, after those.
//!
//! `receive SUBSCRIPTION COUNT`, `stream SUBSCRIPTION COUNT`, `ready
//! SUBSCRIPTION` (what has arrived, without waiting), `sleep MS`, `fail TEXT`,
//! `panic`. `pull SUBSCRIPTION MAX MS` takes deliveries and holds them; `ack`,
//! `ack-all`, `nack MS`, `reject TEXT`, `extend MS` and `drop` act on all that are
//! held, and each but `extend` lets go of them. `try STEP` prints a step's error
//! and goes on.

use pubsub::pull::{Delivery, ack_all, pull};
use pubsub::{Event, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let more = std::env::var("STEPS").unwrap_or_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut held = Vec::new();
    for step in args.iter().map(String::as_str).chain(more.split(';')) {
        run(step.trim(), &mut held)?;
    }
    Ok(())
}

fn run(step: &str, held: &mut Vec<Delivery>) -> Result<()> {
    let (verb, text) = step.split_once(' ').unwrap_or((step, ""));
    match verb {
        "" => {}
        "fail" => return Err(text.into()),
        "panic" => panic!("told to panic"),
        "sleep" => std::thread::sleep(millis(text)?),
        "try" => {
            if let Err(error) = run(text, held) {
                println!("error: {error}");
            }
        }
        "receive" | "stream" | "ready" => take(verb, text)?,
        "pull" => {
            let mut words = text.splitn(3, ' ');
            let name = words.next().unwrap_or_default();
            let max = words.next().map_or(Ok(1), str::parse)?;
            let wait = words.next().map_or(Ok(Duration::from_secs(5)), millis)?;
            let pulled = pull(name, max, wait)?;
            println!("pulled {}", pulled.len());
            pulled.iter().try_for_each(|delivery| show("delivery", delivery.event()))?;
            held.extend(pulled);
        }
        _ => settle(verb, text, held)?,
    }
    Ok(())
}

fn take(verb: &str, text: &str) -> Result<()> {
    let (name, count) = text.split_once(' ').unwrap_or((text, "1"));
    let count: usize = count.parse()?;
    match verb {
        "receive" => (0..count).try_for_each(|_| show("received", &pubsub::receive(name)?)),
        "stream" => {
            pubsub::stream(name)?.take(count).try_for_each(|event| show("streamed", &event?))
        }
        _ => pubsub::stream(name)?
            .try_batch(u32::MAX)?
            .iter()
            .try_for_each(|event| show("ready", event)),
    }
}

fn settle(verb: &str, text: &str, held: &mut Vec<Delivery>) -> Result<()> {
    match verb {
        "extend" => {
            let deadline = millis(text)?;
            held.iter().try_for_each(|delivery| delivery.extend(deadline))
        }
        "ack" => held.drain(..).try_for_each(|delivery| delivery.ack()),
        "ack-all" => ack_all(held.drain(..)).into_iter().collect(),
        "nack" => {
            let delay = millis(text)?;
            held.drain(..).try_for_each(|delivery| delivery.nack(delay))
        }
        "reject" => held.drain(..).try_for_each(|delivery| delivery.reject(text)),
        "drop" => {
            held.clear();
            Ok(())
        }
        _ => Err(format!("no such step: {verb}").into()),
    }
}

fn show(what: &str, event: &Event) -> Result<()> {
    println!("{what} {} attempt {}", event.text()?, event.attempt);
    Ok(())
}

fn millis(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}
