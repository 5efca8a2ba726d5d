//! A command that does what its arguments say, for tests.
//!
//! Each argument is one step, carried out in order; at the end it is ok. The
//! environment variable `STEPS` adds steps, separated by `;`, after those.
//!
//! Ends: `fail TEXT`, `panic`, `abort`, `exit CODE`, `spin`, `grow`. Work: `print
//! TEXT`, `sleep MS`, `publish TOPIC COUNT TEXT`.

use pubsub::{Event, Result};
use std::hint::black_box;
use std::time::Duration;

fn main() -> Result<()> {
    let more = std::env::var("STEPS").unwrap_or_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    for step in args.iter().map(String::as_str).chain(more.split(';')) {
        let (verb, text) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        run(verb, text)?;
    }
    Ok(())
}

fn run(verb: &str, text: &str) -> Result<()> {
    match verb {
        "" => {}
        "fail" => return Err(text.into()),
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
        "print" => println!("{text}"),
        "sleep" => std::thread::sleep(Duration::from_millis(text.parse()?)),
        "publish" => {
            let mut words = text.splitn(3, ' ');
            let topic = words.next().unwrap_or_default();
            let count: usize = words.next().map_or(Ok(1), str::parse)?;
            let data = words.next().unwrap_or("published");
            for _ in 0..count {
                pubsub::publish(topic, Event::new("test", data))?;
            }
        }
        _ => return Err(format!("no such step: {verb}").into()),
    }
    Ok(())
}
