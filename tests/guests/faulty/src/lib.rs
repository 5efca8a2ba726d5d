//! A handler that does what its event says, for tests.
//!
//! The attribute `do`, or without it the payload, is a list of steps separated
//! by `;`, carried out in order until one gives a verdict; at the end it is ok.
//!
//! Verdicts: `ok`, `error TEXT`, `retry MS`, `reject TEXT`, and `until N`, which
//! is ok from the Nth attempt on. Faults: `panic`, `abort`, `exit CODE`, `spin`,
//! `grow` (memory without end). Work: `print TEXT`, `mutter TEXT` (no end of
//! line), `sleep MS`, `alloc MIB`, `publish TOPIC COUNT TEXT`, `count`
//! (prints how many events this instance has had).
//! Sandbox: `env NAME`, `args`, `read PATH`, `connect ADDRESS` print the outcome.

use pubsub::{Error, Event, Result};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });

#[pubsub::on_message]
fn on_message(message: Event) -> Result<()> {
    CALLS.set(CALLS.get() + 1);
    let script = message.attribute("do").map_or_else(|| message.text(), Ok)?;
    for step in script.split(';').map(str::trim) {
        if let Some(verdict) = run(step, &message) {
            return verdict;
        }
    }
    Ok(())
}

fn run(step: &str, message: &Event) -> Option<Result<()>> {
    let (verb, text) = step.split_once(' ').unwrap_or((step, ""));
    match verb {
        "" | "ok" => return (verb == "ok").then_some(Ok(())),
        "error" => return Some(Err(text.into())),
        "retry" => return Some(number(text).and_then(|ms| Err(Error::RetryAfter(ms)))),
        "reject" => return Some(Err(Error::rejected(text))),
        "until" => {
            let last = number(text).map(|attempts| u64::from(message.attempt) >= attempts);
            return last.map_or_else(|error| Some(Err(error)), |last| last.then_some(Ok(())));
        }
        _ => {}
    }
    fault(verb, text).or_else(|| work(verb, text).err().map(Err))
}

fn fault(verb: &str, text: &str) -> Option<Result<()>> {
    match verb {
        "panic" => panic!("told to panic"),
        "abort" => std::process::abort(),
        "exit" => match number(text) {
            Ok(code) => std::process::exit(code as i32),
            Err(error) => Some(Err(error)),
        },
        "spin" => loop {
            black_box(());
        },
        "grow" => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        _ => None,
    }
}

fn work(verb: &str, text: &str) -> Result<()> {
    match verb {
        "print" => println!("{text}"),
        "mutter" => print!("{text}"),
        "sleep" => std::thread::sleep(Duration::from_millis(number(text)?)),
        "alloc" => drop(black_box(vec![1_u8; number(text)? as usize * (1 << 20)])),
        "publish" => {
            let mut words = text.splitn(3, ' ');
            let topic = words.next().unwrap_or_default();
            let count = words.next().map_or(Ok(1), number)?;
            let data = words.next().unwrap_or("published");
            for _ in 0..count {
                pubsub::publish(topic, Event::new("test", data))?;
            }
        }
        "count" => println!("call {}", CALLS.get()),
        "env" => println!("env {:?}", std::env::var(text).ok()),
        "args" => println!("args {:?}", std::env::args().collect::<Vec<_>>()),
        "read" => println!("read {:?}", std::fs::read_to_string(text).map_err(|e| e.kind())),
        "connect" => {
            let outcome = std::net::TcpStream::connect(text).map(drop).map_err(|e| e.kind());
            println!("connect {outcome:?}");
        }
        _ => return Err(format!("no such step: {verb}").into()),
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|cause| Error::other(format!("{text:?} is no number: {cause}")))
}
