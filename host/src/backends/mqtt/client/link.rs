//! The socket under the protocol, with two things of our own: writes are
//! gathered, and reading can be held up while writing goes on.

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What is gathered at most before it is written, in bytes.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// How long the broker may take to close a connection that said farewell.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(1);

/// What a session controls of its socket, for all its connections.
#[derive(Default)]
pub(in super::super) struct LinkControl {
    held: AtomicBool,
    reader: AtomicWaker,
    /// Writes go out at once: something may end without another read.
    direct: AtomicBool,
    /// Something gathered is not written yet.
    gathered: AtomicBool,
    /// The socket of a connection that has said farewell.
    leaving: Mutex<Option<Socket>>,
}

impl LinkControl {
    /// Stops reading, so that the broker has to wait; or goes on with it.
    pub(in super::super) fn hold(&self, held: bool) {
        if self.held.swap(held, Relaxed) && !held {
            self.reader.wake();
        }
    }

    /// Whether reading is stopped.
    pub(in super::super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// Whether writes go out at once instead of being gathered.
    pub(in super::super) fn write_directly(&self, direct: bool) {
        self.direct.store(direct, Relaxed);
    }

    /// Waits until the broker has closed the connection that has said farewell.
    ///
    /// A socket that is closed while something is unread resets the connection,
    /// and the broker may lose what it has not read yet: acknowledgements, and
    /// the farewell itself.
    pub(in super::super) async fn leave(&self) {
        let Some(mut socket) = self.leaving.lock().take() else { return };
        let read = async {
            let mut unread = [0; 4096];
            socket.shutdown().await?;
            while socket.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LEAVE_TIME_MAX, read).await;
    }

    /// Whether all that was written has gone to the operating system.
    pub(in super::super) fn is_written(&self) -> bool {
        !self.gathered.load(Relaxed)
    }
}

/// A socket whose writes are gathered until the protocol waits for the broker.
///
/// The client library flushes after every acknowledgement. It always ends up
/// reading, though, and by then all that it had to say has been said: that is
/// the moment to write it, with one system call.
pub(super) struct Link<S: Leaving> {
    /// Gone only while the link is dropped.
    socket: Option<S>,
    gathered: BytesMut,
    control: Arc<LinkControl>,
}

impl<S: Leaving> Link<S> {
    pub(super) fn new(socket: S, control: Arc<LinkControl>) -> Self {
        control.gathered.store(false, Relaxed);
        Self { socket: Some(socket), gathered: BytesMut::new(), control }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut S>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_write_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let Some(socket) = &mut self.socket else { break };
            let written = ready!(Pin::new(socket).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        self.control.gathered.store(false, Relaxed);
        self.socket()?.poll_flush(cx)
    }
}

impl<S: Leaving + AsyncRead> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_write_gathered(cx) {
            return Poll::Ready(Err(error));
        }
        if self.control.is_held() {
            self.control.reader.register(cx.waker());
            if self.control.is_held() {
                return Poll::Pending;
            }
        }
        self.socket()?.poll_read(cx, buffer)
    }
}

impl<S: Leaving> AsyncWrite for Link<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= GATHERED_BYTES_MAX {
            ready!(self.poll_write_gathered(cx))?;
        }
        if self.gathered.is_empty() && bytes.len() >= GATHERED_BYTES_MAX {
            return self.socket()?.poll_write(cx, bytes);
        }
        let taken = bytes.len().min(GATHERED_BYTES_MAX);
        self.gathered.extend_from_slice(&bytes[..taken]);
        self.control.gathered.store(true, Relaxed);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.direct.load(Relaxed) {
            return self.poll_write_gathered(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_gathered(cx))?;
        self.socket()?.poll_shutdown(cx)
    }
}

/// A connection given up for an error says why to the broker just before it
/// goes; that word would be lost with what is gathered.
impl<S: Leaving> Drop for Link<S> {
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take() else { return };
        if !self.gathered.is_empty() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut socket).poll_write(&mut cx, &self.gathered);
        }
        self.control.gathered.store(false, Relaxed);
        if self.control.direct.load(Relaxed) {
            socket.leave(&self.control);
        }
    }
}

/// A socket that may outlive its connection for a moment.
pub(super) trait Leaving: AsyncWrite + Unpin + Sized {
    /// Called instead of a drop where the connection has said farewell.
    fn leave(self, _: &LinkControl) {}
}

impl Leaving for Socket {
    fn leave(self, control: &LinkControl) {
        *control.leaving.lock() = Some(self);
    }
}

/// A stream socket of either kind.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Tcp($inner) => $call,
            Socket::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::duplex;

    #[tokio::test]
    async fn what_is_flushed_is_written_once_reading_begins() {
        let (near, mut far) = duplex(1024);
        let control = Arc::new(LinkControl::default());
        let mut link = Link::new(near, control.clone());
        link.write_all(b"one").await.unwrap();
        link.flush().await.unwrap();
        link.write_all(b"two").await.unwrap();
        link.flush().await.unwrap();
        let mut buffer = [0; 16];
        assert!(far.read(&mut buffer).now_or_never().is_none());
        assert!(!control.is_written());
        assert!(link.read_u8().now_or_never().is_none());
        assert!(control.is_written());
        assert_eq!(far.read(&mut buffer).await.unwrap(), 6);
        assert_eq!(&buffer[..6], b"onetwo");
    }

    #[tokio::test]
    async fn reading_is_held_while_writing_goes_on() {
        let (near, mut far) = duplex(1024);
        let control = Arc::new(LinkControl::default());
        let mut link = Link::new(near, control.clone());
        far.write_all(b"x").await.unwrap();
        control.hold(true);
        link.write_all(b"ack").await.unwrap();
        let reading = tokio::spawn(async move { (link.read_u8().await, link) });
        let mut buffer = [0; 3];
        far.read_exact(&mut buffer).await.unwrap();
        assert!(!reading.is_finished());
        control.hold(false);
        assert_eq!(reading.await.unwrap().0.unwrap(), b'x');
    }

    #[tokio::test]
    async fn directly_and_at_the_end_nothing_stays_behind() {
        let (near, mut far) = duplex(1024);
        let control = Arc::new(LinkControl::default());
        let mut link = Link::new(near, control.clone());
        link.write_all(b"a").await.unwrap();
        control.write_directly(true);
        link.flush().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        let mut link = Link::new(link.socket_for_test(), Arc::default());
        link.write_all(b"b").await.unwrap();
        drop(link);
        assert_eq!(far.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn a_full_socket_holds_up_the_writer_and_keeps_the_order() {
        let (near, mut far) = duplex(10);
        let control = Arc::new(LinkControl::default());
        let mut link = Link::new(near, control.clone());
        let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            link.write_all(&sent).await.unwrap();
            link.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert!(received == expected);
    }

    impl Leaving for tokio::io::DuplexStream {}

    impl Link<tokio::io::DuplexStream> {
        fn socket_for_test(mut self) -> tokio::io::DuplexStream {
            self.socket.take().unwrap()
        }
    }
}
