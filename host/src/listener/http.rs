//! What HTTP needs beside the library: contents of responses, and an end of patience.

use super::wire::Stream;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How much of a file is in memory for one response, in bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// What a response has.
pub(super) enum Content {
    /// A text, until it is taken.
    Text(&'static str),
    /// A file, read as the client takes it.
    File(FilePieces),
}

/// What is left of a file.
pub(super) struct FilePieces {
    file: File,
    left: u64,
    piece: Box<[u8]>,
}

impl Content {
    /// The first so many bytes of a file.
    pub(super) fn file(mut file: File, length: u64) -> Self {
        file.set_max_buf_size(PIECE_BYTES);
        Self::File(FilePieces { file, left: length, piece: vec![0; PIECE_BYTES].into() })
    }

    fn left(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(pieces) => pieces.left,
        }
    }
}

/// A response that is a text.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Content> {
    let mut response = Response::new(Content::Text(text));
    *response.status_mut() = status;
    response
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text("") => Poll::Ready(None),
            Self::Text(text) => {
                let bytes = Bytes::from_static(std::mem::take(text).as_bytes());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::File(pieces) => pieces.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl FilePieces {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.piece.len());
        let mut buffer = ReadBuf::new(&mut self.piece[..wanted]);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer))?;
        let read = Bytes::copy_from_slice(buffer.filled());
        if read.is_empty() {
            // It has become shorter; its length was said already.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        self.left -= read.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(read))))
    }
}

/// A stream that fails where nothing can be written for too long.
pub(super) struct Patient {
    stream: Box<dyn Stream>,
    time_max: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(stream: Box<dyn Stream>, time_max: Duration) -> Self {
        Self { stream, time_max, waiting: None }
    }

    /// Fails where it has waited for too long.
    fn wait<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let time_max = self.time_max;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(time_max)));
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wait(cx, shut)
    }
}
