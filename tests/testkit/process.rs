//! A child process, its lines, and its end.

use crate::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The lines that a process has written so far, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    lines: Arc<Mutex<Vec<(Stream, String)>>>,
    open: Arc<AtomicUsize>,
}

impl Lines {
    /// Reads a stream to its end, in a thread of its own.
    pub(crate) fn follow(&self, stream: Stream, from: impl Read + Send + 'static) {
        let lines = self.clone();
        lines.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut bytes = Vec::new();
            while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
                let text = String::from_utf8_lossy(&bytes);
                lines.lock().push((stream, text.trim_end_matches(['\n', '\r']).to_owned()));
                bytes.clear();
            }
            lines.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Whether all streams were read to their ends.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// The lines of one stream.
    #[must_use]
    pub fn of(&self, stream: Stream) -> Vec<String> {
        self.lock().iter().filter(|(s, _)| *s == stream).map(|(_, line)| line.clone()).collect()
    }

    /// Whether a line of that stream contains a text.
    #[must_use]
    pub fn contain(&self, stream: Stream, text: &str) -> bool {
        self.count(stream, text) > 0
    }

    /// How many lines of that stream contain a text.
    #[must_use]
    pub fn count(&self, stream: Stream, text: &str) -> usize {
        self.lock().iter().filter(|(s, line)| *s == stream && line.contains(text)).count()
    }

    /// Everything, for a message about a failure.
    #[must_use]
    pub fn dump(&self) -> String {
        let lines = self.lock();
        let mut text = String::new();
        for (stream, line) in lines.iter() {
            let mark = if *stream == Stream::Out { "out" } else { "err" };
            text.push_str(&format!("  {mark}| {line}\n"));
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a signal to a child that was not waited for yet.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal process {pid:?}: {e}"));
}

/// Waits until a child has ended.
pub(crate) async fn ended(child: &mut Child, what: &str, deadline: Duration) -> ExitStatus {
    let mut status = None;
    eventually(deadline, &format!("{what} has ended"), || {
        status = child.try_wait().expect("the state of a child process");
        status.is_some()
    })
    .await;
    status.expect("eventually has seen it")
}

/// Ends a child at once, and waits for it.
pub(crate) fn kill(child: &mut Child) {
    // Both fail where it has ended already, which is what is wanted.
    let _ended = child.kill();
    let _ended = child.wait();
}
