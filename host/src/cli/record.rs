//! `run --record`: what was delivered, and what became of it, line by line.
//!
//! Handling never waits for the file: deliveries go through a bounded queue to
//! a thread that writes. What finds no room there, or on the disk, is counted.

use super::delivered::{Delivered, Deliveries};
use super::failure::Failure;
use crate::runtime::Observer;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The most deliveries that wait to be written, and their size in bytes.
const QUEUE_MAX: usize = 4_096;
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much is written at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How long the end waits until everything is written.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// A recording under way.
pub(super) struct Recording {
    path: PathBuf,
    queue: Arc<Queue>,
    writer: JoinHandle<()>,
}

/// What waits to be written.
struct Queue {
    sender: SyncSender<Message>,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

enum Message {
    Delivered(Box<Delivered>),
    End,
}

impl Recording {
    /// Opens the file, to which lines are added.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        let failure = |error| Failure::input(format!("--record {}: {error}", path.display()));
        let file = open(path).map_err(failure)?;
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(Queue { sender, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) });
        let (writing, shown) = (Arc::clone(&queue), path.display().to_string());
        let writer = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write(file, &shown, &receiver, &writing))
            .map_err(failure)?;
        Ok(Self { path: path.to_owned(), queue, writer })
    }

    /// Who is to be told of deliveries.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        let queue = Arc::clone(&self.queue);
        Arc::new(Deliveries(Arc::new(move |delivered| queue.add(delivered))))
    }

    /// Writes what is left, and says what could not be written.
    pub(super) async fn finish(self) {
        let (queue, writer) = (Arc::clone(&self.queue), self.writer);
        let end = tokio::task::spawn_blocking(move || {
            // Waits for room, as the end may not be lost.
            let _ended = queue.sender.send(Message::End);
            let _panicked = writer.join();
        });
        let path = self.path.display();
        if tokio::time::timeout(FINISH_TIME_MAX, end).await.is_err() {
            tracing::warn!(
                "{path} is not written to the end: that took longer than {FINISH_TIME_MAX:?}"
            );
        }
        let lost = self.queue.lost.load(Relaxed);
        if lost > 0 {
            tracing::warn!("{lost} deliveries are not recorded in {path}");
        }
    }
}

impl Queue {
    /// Never waits.
    fn add(&self, delivered: Delivered) {
        let size = size(&delivered);
        let has_room = self.bytes.fetch_add(size, Relaxed) + size <= QUEUE_BYTES_MAX;
        if has_room && self.sender.try_send(Message::Delivered(Box::new(delivered))).is_ok() {
            return;
        }
        self.bytes.fetch_sub(size, Relaxed);
        if self.lost.fetch_add(1, Relaxed) == 0 {
            tracing::warn!("recording cannot keep up: some deliveries are not recorded");
        }
    }
}

/// What a delivery takes in memory, about, in bytes.
fn size(delivered: &Delivered) -> usize {
    let published = delivered.outcome.published.iter();
    let published: usize = published.map(|p| p.event.size() + size_of_val(p)).sum();
    size_of_val(delivered) + delivered.event.size() + published
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    // Events may hold secrets: nobody else reads them.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    // What a process that was killed has left unfinished is a line of its own.
    // A pipe has no end to look at.
    let mut last = [b'\n'];
    let has_end = file.metadata()?.is_file() && file.seek(SeekFrom::End(-1)).is_ok();
    if has_end && file.read_exact(&mut last).is_ok() && last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// The thread that writes.
fn write(mut file: File, path: &str, receiver: &Receiver<Message>, queue: &Queue) {
    let mut is_failing = false;
    let mut ended = false;
    while !ended {
        let Ok(first) = receiver.recv() else { return };
        let (mut batch, mut count) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(message) = next {
            let Message::Delivered(delivered) = message else {
                ended = true;
                break;
            };
            queue.bytes.fetch_sub(size(&delivered), Relaxed);
            batch.extend(delivered.line());
            batch.push(b'\n');
            count += 1;
            next = if batch.len() < BATCH_BYTES { receiver.try_recv().ok() } else { None };
        }
        match append(&mut file, &batch) {
            Ok(()) => is_failing = false,
            Err(error) => {
                queue.lost.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!("cannot record to {path}: {error}; handling goes on");
                }
            }
        }
    }
}

/// Writes whole lines, or none.
fn append(file: &mut File, lines: &[u8]) -> std::io::Result<()> {
    let before = file.metadata().map(|data| data.len());
    let written = file.write_all(lines);
    if let (Err(_), Ok(before)) = (&written, before) {
        // Nothing else can be done about half a line.
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Event, Topic};
    use crate::cli::delivered::Outcome;
    use crate::cli::lines;

    fn delivered(id: u32, bytes: usize) -> Delivered {
        let event = Event {
            id: id.to_string(),
            source: "s".into(),
            kind: "k".into(),
            data: vec![b'x'; bytes].into(),
            ..Event::default()
        };
        Delivered {
            topic: Topic::new("t").unwrap(),
            event: event.into(),
            attempt: 1,
            outcome: Outcome {
                component: "c".into(),
                verdict: "ack".into(),
                after_ms: None,
                reason: None,
                published: Vec::new(),
                published_more: 0,
                took_ms: 0.1,
            },
        }
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = std::fs::read(path).unwrap();
        let lines = lines::read_all("in", &text[..]).unwrap();
        lines.into_iter().map(|(_, line)| line.event.id).collect()
    }

    #[tokio::test]
    async fn lines_are_added_and_are_all_there_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        for run in 0..2 {
            let recording = Recording::begin(&path).unwrap();
            for id in 0..1_000 {
                recording.queue.add(delivered(run * 1_000 + id, 10));
            }
            assert_eq!(recording.queue.lost.load(Relaxed), 0);
            recording.finish().await;
        }
        assert_eq!(ids(&path), (0..2_000).map(|id| id.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_queue_that_is_full_counts_and_does_not_wait() {
        for (bytes, room) in [(0, QUEUE_MAX), (QUEUE_BYTES_MAX / 4, 3)] {
            let (sender, receiver) = sync_channel(QUEUE_MAX);
            let queue = Queue { sender, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) };
            for id in 0..=room {
                queue.add(delivered(id as u32, bytes));
            }
            assert_eq!(queue.lost.load(Relaxed), 1);
            // What was lost takes no room.
            drop(receiver.recv().unwrap());
            queue.bytes.fetch_sub(bytes, Relaxed);
            queue.add(delivered(0, 0));
            assert_eq!(queue.lost.load(Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_counted() {
        let recording = Recording::begin(Path::new("/dev/full")).unwrap();
        for id in 0..10 {
            recording.queue.add(delivered(id, 10));
        }
        let queue = Arc::clone(&recording.queue);
        recording.finish().await;
        assert_eq!(queue.lost.load(Relaxed), 10);
    }

    #[test]
    fn what_a_killed_process_left_is_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "{}\n{\"top").unwrap();
        open(&path).unwrap().write_all(b"{}\n").unwrap();
        open(&path).unwrap().write_all(b"{}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{\"top\n{}\n{}\n");
    }
}
