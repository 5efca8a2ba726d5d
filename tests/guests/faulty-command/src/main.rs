//! A command that does what its arguments say, for tests.
//!
//! Each argument is one step, carried out in order; at the end it is ok. The
//! environment variable `STEPS` adds steps, separated by `;`, after those.
//!
//! Ends: `fail TEXT`, `panic`, `abort`, `exit CODE`, `spin`, `grow`. Work: `print
//! TEXT`, `sleep MS`, `publish TOPIC COUNT TEXT`, `receive SUBSCRIPTION COUNT`,
//! `stream SUBSCRIPTION COUNT`, `ready SUBSCRIPTION` (what has arrived, unwaited).
//! `pull SUBSCRIPTION MAX MS` takes deliveries and holds them; `ack`, `ack-all`,
//! `nack MS`, `reject TEXT`, `extend MS` and `drop` act on all that are held,
//! and each but `extend` lets go of them.

use pubsub::pull::{Delivery, ack_all, pull};
use pubsub::{Event, Result};
use std::hint::black_box;
use std::time::Duration;

fn main() -> Result<()> {
    let more = std::env::var("STEPS").unwrap_or_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut held = Vec::new();
    for step in args.iter().map(String::as_str).chain(more.split(';')) {
        let (verb, text) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        run(verb, text, &mut held)?;
    }
    Ok(())
}

fn run(verb: &str, text: &str, held: &mut Vec<Delivery>) -> Result<()> {
    match verb {
        "" => Ok(()),
        "fail" => Err(text.into()),
        "panic" => panic!("told to panic"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(text.parse()?),
        "spin" => loop {
            black_box(());
        },
        "grow" => {
            let mut memory = Vec::new();
            loop {
                memory.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "print" => Ok(println!("{text}")),
        "sleep" => Ok(std::thread::sleep(millis(text)?)),
        "publish" | "receive" | "stream" | "ready" => move_events(verb, text),
        _ => settle(verb, text, held),
    }
}

fn move_events(verb: &str, text: &str) -> Result<()> {
    let mut words = text.splitn(3, ' ');
    let name = words.next().unwrap_or_default();
    let count: usize = words.next().map_or(Ok(1), str::parse)?;
    let data = words.next().unwrap_or("published");
    match verb {
        "publish" => (0..count).try_for_each(|_| pubsub::publish(name, Event::new("test", data))),
        "receive" => (0..count).try_for_each(|_| show("received", &pubsub::receive(name)?)),
        "stream" => pubsub::stream(name)?
            .take(count)
            .try_for_each(|event| show("streamed", &event?)),
        _ => pubsub::stream(name)?
            .try_batch(u32::MAX)?
            .iter()
            .try_for_each(|e| show("ready", e)),
    }
}

fn settle(verb: &str, text: &str, held: &mut Vec<Delivery>) -> Result<()> {
    match verb {
        "pull" => {
            let mut words = text.splitn(3, ' ');
            let name = words.next().unwrap_or_default();
            let max = words.next().map_or(Ok(1), str::parse)?;
            let wait = words.next().map_or(Ok(Duration::from_secs(5)), millis)?;
            let pulled = pull(name, max, wait)?;
            println!("pulled {}", pulled.len());
            pulled
                .iter()
                .try_for_each(|delivery| show("delivery", delivery.event()))?;
            held.extend(pulled);
            Ok(())
        }
        "extend" => {
            let deadline = millis(text)?;
            held.iter()
                .try_for_each(|delivery| delivery.extend(deadline))
        }
        "ack" => held.drain(..).try_for_each(|delivery| delivery.ack()),
        "ack-all" => ack_all(held.drain(..)).into_iter().collect(),
        "nack" => {
            let delay = millis(text)?;
            held.drain(..).try_for_each(|delivery| delivery.nack(delay))
        }
        "reject" => held
            .drain(..)
            .try_for_each(|delivery| delivery.reject(text)),
        "drop" => Ok(held.clear()),
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
