//! What guests write to standard output and error.

use bytes::Bytes;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The longest line that is kept together; what is longer is cut into lines.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How much a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Which of its two streams a guest wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

type Sink = dyn Fn(&str, GuestStream, &[u8]) + Send + Sync;

/// Takes the lines that guests write, with the component's name, the stream and
/// the line without its end. Called before the guest goes on, so that a line is
/// out before the verdict that follows it.
#[derive(Clone)]
pub struct Output(Arc<Sink>);

impl Output {
    /// Lines go to this function.
    pub fn new(sink: impl Fn(&str, GuestStream, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// A stream of a new instance.
    pub(super) fn stream(&self, component: &str, stream: GuestStream) -> LineStream {
        LineStream(Arc::new(Lines {
            sink: Arc::clone(&self.0),
            component: component.to_owned(),
            stream,
            partial: Mutex::default(),
        }))
    }
}

/// One stream of one instance.
#[derive(Clone)]
pub(super) struct LineStream(Arc<Lines>);

struct Lines {
    sink: Arc<Sink>,
    component: String,
    stream: GuestStream,
    /// What came after the last end of a line.
    partial: Mutex<Vec<u8>>,
}

impl Lines {
    fn write(&self, mut bytes: &[u8]) {
        let mut partial = self.partial.lock();
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            partial.extend_from_slice(&bytes[..end]);
            self.emit(&mut partial);
            bytes = &bytes[end + 1..];
        }
        partial.extend_from_slice(bytes);
        if partial.len() >= LINE_BYTES_MAX {
            self.emit(&mut partial);
        }
    }

    fn emit(&self, line: &mut Vec<u8>) {
        (self.sink)(&self.component, self.stream, line.strip_suffix(b"\r").unwrap_or(line));
        line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut partial = std::mem::take(&mut *self.partial.lock());
        if !partial.is_empty() {
            self.emit(&mut partial);
        }
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LineStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_the_last_one_at_the_end() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&seen);
        let output = Output::new(move |name, _, line| {
            lines.lock().push(format!("{name}|{}", String::from_utf8_lossy(line)));
        });
        let stream = output.stream("c", GuestStream::Stdout);
        stream.0.write(b"one\ntw");
        assert_eq!(*seen.lock(), ["c|one"]);
        stream.0.write(b"o\r\nthree");
        drop(stream);
        assert_eq!(*seen.lock(), ["c|one", "c|two", "c|three"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let seen = Arc::new(Mutex::new(0));
        let longest = Arc::clone(&seen);
        let output = Output::new(move |_, _, line| *longest.lock() = line.len());
        let stream = output.stream("c", GuestStream::Stdout);
        for _ in 0..3 {
            stream.0.write(&[b'x'; LINE_BYTES_MAX / 2]);
        }
        assert_eq!(*seen.lock(), LINE_BYTES_MAX);
    }
}
