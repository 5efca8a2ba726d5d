//! The steps of one run, for the message about its failure.

use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// The last steps that a failure shows.
const STEPS_MAX: usize = 2000;

/// Writes steps down, where that is wanted: most runs need none.
pub(crate) struct Trace {
    steps: Option<Mutex<Steps>>,
}

struct Steps {
    start: Option<Instant>,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        let steps = || Mutex::new(Steps { start: None, lines: Vec::new() });
        Self { steps: wanted.then(steps) }
    }

    pub(crate) fn step(&self, text: impl FnOnce() -> String) {
        let Some(steps) = &self.steps else { return };
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = now - *steps.start.get_or_insert(now);
        steps.lines.push(format!("{:>12.6} {}", at.as_secs_f64(), text()));
    }

    /// The last steps, a line each.
    pub(crate) fn text(&self) -> String {
        let Some(steps) = &self.steps else { return String::new() };
        let steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = steps.lines.len().saturating_sub(STEPS_MAX);
        let mut text = String::new();
        if left_out > 0 {
            text.push_str(&format!("({left_out} earlier steps)\n"));
        }
        for line in &steps.lines[left_out..] {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
