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
/// How many packets are taken apart before they are handled. The smallest have two
/// bytes, and take a hundred times as much in memory.
const INBOX_MAX: usize = 1024;
/// How many an idle connection keeps room for.
const INBOX_KEPT: usize = 64;

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
    /// The layers below may hold on to some of what is written.
    is_flushed: bool,
    /// What was read and is not taken apart yet.
    rest: Vec<u8>,
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
            is_flushed: true,
            rest: Vec::new(),
            is_shut: false,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether some wait to be written, here or in the layers below.
    pub(super) fn has_output(&self) -> bool {
        self.unwritten() > 0 || !self.is_flushed
    }

    /// Reads what is there, at most so many bytes and one turn of packets. Says how
    /// many bytes: `None` where the client has closed its side.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.take_apart(&rest);
            return Poll::Ready(Ok(Some(0)));
        }
        READ.with_borrow_mut(|buffer| {
            let size = buffer.len().min(bytes_max);
            let mut buffer = ReadBuf::new(&mut buffer[..size]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            self.bytes_read += bytes.len();
            self.take_apart(bytes);
            Poll::Ready(Ok(Some(bytes.len()).filter(|number| *number > 0)))
        })
    }

    fn take_apart(&mut self, bytes: &[u8]) {
        match self.machine.receive_some(bytes, INBOX_MAX, &mut self.inbox) {
            Ok(number) => self.rest.extend_from_slice(&bytes[number..]),
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Gives back the room of packets that are handled. For now and then: who sends
    /// many sends many again.
    pub(super) fn tidy(&mut self) {
        if self.inbox.is_empty() && self.inbox.capacity() > INBOX_KEPT {
            self.inbox.shrink_to(INBOX_KEPT);
        }
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
                    self.is_flushed = false;
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
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.is_flushed = flushed.is_ready();
        (flushed, progressed)
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
