//! A client of HTTP that shows what it gets.

use std::time::Duration;
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answered, up to the end of the connection.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    /// The value of a header, in lower case.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let head = self.head.to_lowercase();
        head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends a text as it is, and reads the answer to its end.
pub(super) async fn send(address: &str, text: &str) -> Reply {
    let reply = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // Who is refused early may not read all of it.
        let _ = stream.write_all(text.as_bytes()).await;
        read(&mut stream).await
    };
    let reply = within("an answer", reply).await;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {reply}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head}"));
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// What a server sends until it closes the connection.
pub(super) async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset is over as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) async fn request(address: &str, method: &str, path: &str, headers: &str) -> Reply {
    send(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")).await
}

pub(super) async fn get(address: &str, path: &str) -> Reply {
    request(address, "GET", path, "").await
}

/// Asks again and again, until the answer is as wanted.
pub(super) async fn get_until(
    address: &str,
    path: &str,
    what: &str,
    wanted: impl Fn(&Reply) -> bool,
) -> Reply {
    let mut last = None;
    let end = tokio::time::Instant::now() + testkit::DEADLINE;
    while tokio::time::Instant::now() < end {
        let reply = get(address, path).await;
        if wanted(&reply) {
            return reply;
        }
        last = Some(reply);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what} at {path}: {last:#?}");
}
