//! A TCP link between a client and a broker, which a test can break.

use crate::wait::{DEADLINE, eventually};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Chunks that are on their way in one direction, at most.
const CHUNKS_MAX: usize = 256;
/// One chunk, in bytes, at most.
const CHUNK_BYTES: usize = 16 * 1024;

/// A link to a broker. It is broken for good when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Link {
    upstream: Mutex<SocketAddr>,
    latency: Duration,
    /// One higher with each cut: connections of an earlier number are dead.
    cut: watch::Sender<u64>,
    held: watch::Sender<bool>,
    refusing: AtomicBool,
    open: AtomicUsize,
    accepted: AtomicUsize,
    cuts: AtomicUsize,
}

impl Proxy {
    /// A link that passes bytes on at once.
    ///
    /// # Panics
    /// When no port can be listened on.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::with_latency(upstream, Duration::ZERO).await
    }

    /// A link on which each byte takes this long, in either direction, as on a
    /// real one: what is on its way when it is cut is lost.
    ///
    /// # Panics
    /// When no port can be listened on.
    pub async fn with_latency(upstream: SocketAddr, latency: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port for the proxy");
        let address = listener.local_addr().expect("the address of a listener");
        let link = Arc::new(Link {
            upstream: Mutex::new(upstream),
            latency,
            cut: watch::Sender::new(0),
            held: watch::Sender::new(false),
            refusing: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, link.clone()));
        Self { address, link, accepting }
    }

    /// The port to connect to, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts all connections now. Says whether there was one.
    pub fn cut(&self) -> bool {
        self.link.cut()
    }

    /// Cuts all connections at an interval, until the result is dropped.
    /// `unacknowledged` says, at each cut, whether events are unacknowledged:
    /// [`Cutter::cuts_that_hurt`] counts those cuts.
    pub fn cut_every(
        &self,
        interval: Duration,
        unacknowledged: impl Fn() -> bool + Send + 'static,
    ) -> Cutter {
        let hurt = Arc::new(AtomicUsize::new(0));
        let (link, count) = (self.link.clone(), hurt.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let unacknowledged = unacknowledged();
                if link.cut() && unacknowledged {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Cutter { task, hurt }
    }

    /// How many cuts met a connection.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.link.cuts.load(Ordering::SeqCst)
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.link.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.link.open.load(Ordering::SeqCst)
    }

    /// Waits until a connection is open.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn connected(&self) {
        eventually(DEADLINE, "a client is connected through the proxy", || self.open() > 0).await;
    }

    /// Once this returns no byte passes, in any direction, and nobody is told: a
    /// black hole. Connections stay open, and further ones are taken.
    pub fn hold(&self) {
        self.link.held.send_replace(true);
    }

    /// Ends [`hold`](Self::hold). What was held passes.
    pub fn release(&self) {
        self.link.held.send_replace(false);
    }

    /// Whether connections are closed as soon as they are made.
    pub fn refuse(&self, refuse: bool) {
        self.link.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Leads connections from now on to another broker. Those that are open
    /// stay where they are.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *self.link.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.link.cut();
    }
}

/// Cuts a link at an interval until dropped.
#[derive(Debug)]
pub struct Cutter {
    task: JoinHandle<()>,
    hurt: Arc<AtomicUsize>,
}

impl Cutter {
    /// How many cuts met a connection while events were unacknowledged.
    #[must_use]
    pub fn cuts_that_hurt(&self) -> usize {
        self.hurt.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    fn cut(&self) -> bool {
        let met = self.open.load(Ordering::SeqCst) > 0;
        self.cut.send_modify(|number| *number += 1);
        if met {
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        met
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    while let Ok((client, _)) = listener.accept().await {
        link.accepted.fetch_add(1, Ordering::SeqCst);
        if !link.refusing.load(Ordering::SeqCst) {
            tokio::spawn(serve(client, link.clone(), link.cut.subscribe()));
        }
    }
}

async fn serve(client: TcpStream, link: Arc<Link>, mut cut: watch::Receiver<u64>) {
    let upstream = *link.upstream.lock().unwrap_or_else(PoisonError::into_inner);
    // A broker that is down: the client sees its connection closed.
    let Ok(broker) = TcpStream::connect(upstream).await else { return };
    if client.set_nodelay(true).and(broker.set_nodelay(true)).is_err() {
        return;
    }
    link.open.fetch_add(1, Ordering::SeqCst);
    let (client_read, client_write) = client.into_split();
    let (broker_read, broker_write) = broker.into_split();
    tokio::select! {
        _ended = pipe(&link, client_read, broker_write) => {}
        _ended = pipe(&link, broker_read, client_write) => {}
        _changed = cut.changed() => {}
    }
    link.open.fetch_sub(1, Ordering::SeqCst);
}

/// Moves bytes until one side closes.
async fn pipe(link: &Link, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await?;
            chunk.truncate(length);
            let due = Instant::now() + link.latency;
            if length == 0 || sender.send((due, chunk)).await.is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let mut held = link.held.subscribe();
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                if held.wait_for(|held| !held).await.is_err() {
                    return to.shutdown().await;
                }
                to.writable().await?;
                // Under the lock that `hold` takes: once it has returned,
                // nothing is being written.
                let is_held = held.borrow();
                let written = if *is_held { Ok(0) } else { to.try_write(rest) };
                drop(is_held);
                match written {
                    Ok(length) => rest = &rest[length..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}
