//! The asynchronous handler that does what its event says, for tests.
//!
//! The attribute `do`, or without it the payload, is a list of steps separated
//! by `;`, carried out in order until one gives a verdict; at the end it is ok.
//!
//! Verdicts: `ok`, `error TEXT`, `retry MS`, `reject TEXT`, and `until N`, which
//! is ok from the Nth attempt on. Faults: `panic`, `abort`, `spin`, `grow`
//! (memory without end), `hang` (waits for ever). Work: `print TEXT`, `mutter
//! TEXT` (no end of line), `sleep MS`, `block MS` (holds up the instance),
//! `publish TOPIC COUNT TEXT`, `publish-blocking TOPIC` (the call of 0.2),
//! `late MS TOPIC` (publishes after the verdict), `count` (prints how many events
//! this instance has had), `peak` (prints how many it has had at once).

use pubsub::{Error, Event, Result, p3};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static RUNNING: Cell<u64> = const { Cell::new(0) };
    static PEAK: Cell<u64> = const { Cell::new(0) };
}

/// Counts a call as running, for as long as it lives.
struct Running;

impl Running {
    fn enter() -> Self {
        CALLS.set(CALLS.get() + 1);
        RUNNING.set(RUNNING.get() + 1);
        PEAK.set(PEAK.get().max(RUNNING.get()));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
    }
}

#[pubsub::on_message]
async fn on_message(message: Event) -> Result<()> {
    let _running = Running::enter();
    let script = message.attribute("do").map_or_else(|| message.text(), Ok)?;
    for step in script.split(';').map(str::trim) {
        if let Some(verdict) = run(step, &message).await {
            return verdict;
        }
    }
    Ok(())
}

async fn run(step: &str, message: &Event) -> Option<Result<()>> {
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
    fault(verb).await;
    work(verb, text).await.err().map(Err)
}

async fn fault(verb: &str) {
    match verb {
        "panic" => panic!("told to panic"),
        "abort" => std::process::abort(),
        "hang" => p3::sleep(Duration::MAX).await,
        "spin" => loop {
            black_box(());
        },
        "grow" => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        _ => {}
    }
}

async fn work(verb: &str, text: &str) -> Result<()> {
    match verb {
        "print" => println!("{text}"),
        "mutter" => print!("{text}"),
        "sleep" => p3::sleep(millis(text)?).await,
        "block" => std::thread::sleep(millis(text)?),
        "publish" => publish(text).await?,
        "publish-blocking" => pubsub::publish(text, Event::new("test", "published"))?,
        "late" => late(text)?,
        "count" => println!("call {}", CALLS.get()),
        "peak" => println!("peak {}", PEAK.get()),
        _ => return Err(format!("no such step: {verb}").into()),
    }
    Ok(())
}

async fn publish(text: &str) -> Result<()> {
    let mut words = text.splitn(3, ' ');
    let topic = words.next().unwrap_or_default();
    let count = words.next().map_or(Ok(1), number)?;
    let data = words.next().unwrap_or("published");
    for _ in 0..count {
        p3::publish(topic, Event::new("test", data)).await?;
    }
    Ok(())
}

fn late(text: &str) -> Result<()> {
    let (delay, topic) = text.split_once(' ').ok_or("late MS TOPIC")?;
    let (delay, topic) = (millis(delay)?, topic.to_owned());
    p3::spawn(async move {
        p3::sleep(delay).await;
        println!("late {:?}", p3::publish(topic, Event::new("test", "late")).await);
    });
    Ok(())
}

fn millis(text: &str) -> Result<Duration> {
    number(text).map(Duration::from_millis)
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|cause| Error::other(format!("{text:?} is no number: {cause}")))
}
