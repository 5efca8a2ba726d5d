//! The bytes of a connection: read in one piece, written in one piece.

use super::packets::Received;
use super::protocol::Machine;
use super::reason::Fault;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// What an idle connection keeps of its buffer, in bytes.
const BUFFER_BYTES_KEPT: usize = 16 * 1024;

thread_local! {
    /// Where a thread reads to: what arrives is looked at before another connection
    /// reads, so that idle connections need no buffer of their own.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What bytes travel over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// One connection as packets to read and bytes to write.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    pub(super) machine: Machine,
    /// What has arrived and was not handled.
    pub(super) inbox: VecDeque<Received>,
    /// What ends the connection, once the inbox is handled.
    pub(super) fault: Option<Fault>,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    written: usize,
    batch: Vec<Received>,
    is_shut: bool,
    pub(super) bytes_read: usize,
    pub(super) bytes_written: usize,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, machine: Machine) -> Self {
        Self {
            stream,
            machine,
            inbox: VecDeque::new(),
            fault: None,
            out: Vec::new(),
            written: 0,
            batch: Vec::new(),
            is_shut: false,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Reads what is there. `Ok(false)` where the client has closed its side.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            self.bytes_read += bytes.len();
            if let Err(fault) = self.machine.receive(bytes, &mut self.batch) {
                self.fault = Some(fault);
            }
            self.inbox.extend(self.batch.drain(..));
            Poll::Ready(Ok(!bytes.is_empty()))
        })
    }

    /// Reads a packet that came too early.
    pub(super) fn read_again(&mut self, packet: &[u8]) {
        match self.machine.read_again(packet) {
            Ok(received) => self.inbox.push_front(received),
            Err(fault) => {
                self.inbox.clear();
                self.fault = Some(fault);
            }
        }
    }

    /// Writes what is to be written. Ready when all of it is; says whether some was.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, bool) {
        let mut progressed = false;
        while self.written < self.out.len() {
            let bytes = &self.out[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => {
                    return (Poll::Ready(Err(io::ErrorKind::WriteZero.into())), progressed);
                }
                Poll::Ready(Ok(number)) => {
                    self.written += number;
                    self.bytes_written += number;
                    progressed = true;
                }
                Poll::Ready(Err(error)) => return (Poll::Ready(Err(error)), progressed),
                Poll::Pending => {
                    self.compact();
                    return (Poll::Pending, progressed);
                }
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > BUFFER_BYTES_KEPT {
            self.out.shrink_to(BUFFER_BYTES_KEPT);
        }
        (Pin::new(&mut self.stream).poll_flush(cx), progressed)
    }

    /// Forgets what is written, where that is most of it.
    fn compact(&mut self) {
        if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Writes what is left, closes our side, and waits for the client to close its
    /// own. What still comes is not looked at: closing before it is there would take
    /// our last bytes from the client.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.poll_write(cx).0)?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        READ.with_borrow_mut(|buffer| {
            loop {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }
}
