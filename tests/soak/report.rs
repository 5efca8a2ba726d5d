//! What was lost, and what came twice.

use crate::faults::Count;
use crate::options::Options;
use crate::tally::{HANDLERS, Tally};
use std::process::ExitCode;

/// So many numbers of events are shown at most.
const SHOWN_MAX: usize = 20;

/// Prints the outcome, and judges it.
pub(crate) fn print(
    options: &Options,
    tally: &Tally,
    repeated: &[bool],
    count: &Count,
) -> ExitCode {
    println!("{}; {count}", tally.progress());
    let published_twice = repeated.iter().filter(|repeated| **repeated).count();
    println!("{published_twice} events were published more than once, as no word came");
    let mut is_good = true;
    for (handler, (_, qos)) in HANDLERS.into_iter().enumerate() {
        let (lost, twice) = tally.not_once(handler);
        println!("qos {qos}: {} lost{}", lost.len(), numbers(&lost));
        let by_publisher = twice.iter().filter(|number| repeated[**number]).count();
        println!(
            "qos {qos}: {} came more than once, {by_publisher} of them published more than once{}",
            twice.len(),
            numbers(&twice)
        );
        if !lost.is_empty() && count.broker_kills == 0 {
            println!("FAILED: events were lost at qos {qos}, and mosquitto was never killed");
            is_good = false;
        }
        if qos == 2 && !twice.is_empty() && count.host_kills + count.broker_kills == 0 {
            println!("FAILED: events came twice at qos 2, and nothing was killed");
            is_good = false;
        }
    }
    if is_good {
        return ExitCode::SUCCESS;
    }
    println!("the faults again: --seed {}", options.seed);
    ExitCode::FAILURE
}

fn numbers(numbers: &[usize]) -> String {
    if numbers.is_empty() {
        return String::new();
    }
    let shown: Vec<_> = numbers.iter().take(SHOWN_MAX).map(usize::to_string).collect();
    let more = if numbers.len() > SHOWN_MAX { ", …" } else { "" };
    format!(": {}{more}", shown.join(", "))
}
