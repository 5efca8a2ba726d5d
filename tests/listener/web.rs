//! MQTT over WebSocket, and HTTP on the same port: handshakes and frames by hand.

use crate::packets::{Connect, PINGREQ, PINGRESP, Publish, subscribe};
use crate::world::{Bystander, Raw, World, soon};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use wasi_pubsub::listener::{Door, Settings, Web};

const SECOND: Duration = Duration::from_secs(1);

/// The lines of a handshake that is right, with the key of RFC 6455, section 1.3.
const HANDSHAKE: [&str; 7] = [
    "GET /mqtt HTTP/1.1",
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: mqtt",
];

/// A listener that speaks WebSocket, and serves files.
struct WebWorld {
    world: World,
    door: Arc<Door>,
    folder: tempfile::TempDir,
}

impl WebWorld {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let web = Web {
            path: "/mqtt".to_owned(),
            files: Some(folder.path().to_owned()),
            origins: vec!["https://friend.example".to_owned()],
        };
        let door = Door { anonymous: true, web: Some(Arc::new(web)), ..Door::default() };
        Self { world: World::with(change), door: Arc::new(door), folder }
    }

    fn knock(&self, bytes: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(bytes);
        self.world.listener.admit(theirs, None, self.door.clone());
        ours
    }

    /// A WebSocket.
    async fn socket(&self, bytes: usize) -> Socket {
        let mut stream = self.knock(bytes);
        stream.write_all(lines(&HANDSHAKE).as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Socket(stream)
    }

    /// A client over a WebSocket that is accepted.
    async fn client(&self, bytes: usize, connect: &Connect) -> Socket {
        let mut socket = self.socket(bytes).await;
        socket.send(&connect.bytes()).await;
        let (kind, connack) = socket.frame().await.unwrap();
        assert_eq!((kind, connack[0], connack[3]), (0x82, 0x20, 0));
        socket
    }

    /// What is answered to a request, all of it.
    async fn answer(&self, request: &str) -> String {
        let mut stream = self.knock(1 << 20);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon("the end", stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn lines(lines: &[&str]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// The head of a response.
async fn head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the head", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A frame of a client: masked, as it has to be.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

struct Socket(DuplexStream);

impl Socket {
    /// Sends a binary message.
    async fn send(&mut self, payload: &[u8]) {
        self.raw(&frame(0x82, payload)).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        // A server that has closed does not mind.
        let _ = soon("room", self.0.write_all(bytes)).await;
    }

    /// The next frame: its first byte and its payload; `None` at the end.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        soon("a frame", async {
            let first = self.0.read_u8().await.ok()?;
            let length = match self.0.read_u8().await.ok()? {
                126 => u64::from(self.0.read_u16().await.ok()?),
                127 => self.0.read_u64().await.ok()?,
                length => length.into(),
            };
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        })
        .await
    }

    /// Whatever comes up to the end.
    async fn rest(mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(frame) = self.frame().await {
            all.push(frame);
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_6_0_0_4_the_server_names_the_sub_protocol() {
    let web = WebWorld::new();
    for asked in ["mqtt", "chat, mqtt", "mqttv3.1"] {
        let line = format!("Sec-WebSocket-Protocol: {asked}");
        let mut stream = web.knock(4096);
        let request = [&HANDSHAKE[..6], &[&line]].concat();
        stream.write_all(lines(&request).as_bytes()).await.unwrap();
        let head = head(&mut stream).await.to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let named = asked.rsplit(' ').next().unwrap();
        assert!(head.contains(&format!("sec-websocket-protocol: {named}\r\n")), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_6_0_0_3_handshakes_that_are_wrong_are_refused() {
    let web = WebWorld::new();
    let mut bystander = Bystander::new(&web.world).await;
    let with = |index: usize, line: &'static str| {
        let mut all = HANDSHAKE.to_vec();
        all[index] = line;
        all.push("Connection: close");
        lines(&all)
    };
    let without = |index: usize| with(index, "X-Nothing: here");
    for (request, status) in [
        (without(4), "400"),
        (without(5), "400"),
        (without(6), "400"),
        (with(5, "Sec-WebSocket-Version: 12"), "400"),
        (with(6, "Sec-WebSocket-Protocol: chat"), "400"),
        (with(0, "POST /mqtt HTTP/1.1"), "400"),
        (with(0, "GET /other HTTP/1.1"), "404"),
        (with(1, "Origin: https://evil.example"), "403"),
        (without(2), "404"),
        (without(3), "400"),
        (with(1, "Content-Length: 10"), "400"),
        (with(1, "Transfer-Encoding: chunked"), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = web.answer(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
    }
    let own = with(1, "Host: friend.example")
        .replace("Connection: close", "Origin: https://friend.example");
    let mut stream = web.knock(4096);
    stream.write_all(own.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
    drop(stream);
    bystander.is_served().await;
    web.world.until_alone(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_header_has_so_much_time_and_a_large_one_so_much_room() {
    let web = WebWorld::new();
    let mut bystander = Bystander::new(&web.world).await;
    for begun in ["", "GET /mq", "GET /mqtt HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let start = Instant::now();
        let mut stream = web.knock(4096);
        let mut rest = Vec::new();
        stream.write_all(begun.as_bytes()).await.unwrap();
        soon("the end", stream.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10, "{begun}");
    }
    // A byte now and then buys no time.
    let start = Instant::now();
    let (mut from, mut to) = tokio::io::split(web.knock(4096));
    tokio::spawn(async move {
        while to.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SECOND).await;
        }
    });
    let mut rest = Vec::new();
    soon("the end", from.read_to_end(&mut rest)).await.unwrap();
    assert!(start.elapsed().as_secs() <= 11, "{:?}", start.elapsed());
    let large = format!("GET / HTTP/1.1\r\nX-Large: {}\r\n\r\n", "x".repeat(100_000));
    let answer = web.answer(&large).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // After the handshake there is as much time for CONNECT.
    let start = Instant::now();
    assert!(web.socket(4096).await.rest().await.len() <= 1);
    assert_eq!(start.elapsed().as_secs(), 10);
    bystander.is_served().await;
    web.world.until_alone(1).await;
}

/// And `[MQTT-6.0.0-2]`: where frames end says nothing.
#[tokio::test(start_paused = true)]
async fn mqtt_6_0_0_2_packets_and_frames_need_not_fit() {
    let web = WebWorld::new();
    let mut socket = web.socket(4096).await;
    let bytes =
        [&Connect::v5("a").bytes()[..], &PINGREQ, &subscribe(1, &[("t", 0)]), &PINGREQ].concat();
    for (number, byte) in bytes.iter().enumerate() {
        match number % 3 {
            // A message of its own, one in fragments, and one with a ping between.
            0 => socket.send(&[*byte]).await,
            1 => {
                socket.raw(&frame(0x02, &[])).await;
                socket.raw(&frame(0x00, &[*byte])).await;
                socket.raw(&frame(0x80, &[])).await;
            }
            _ => {
                socket.raw(&frame(0x02, &[*byte])).await;
                socket.raw(&frame(0x89, b"ping")).await;
                socket.raw(&frame(0x80, &[])).await;
            }
        }
    }
    let mut got = Vec::new();
    while !got.ends_with(&[PINGRESP, 0, 0x90, 4, 0, 1, 0, 0, PINGRESP, 0]) {
        let (kind, payload) = socket.frame().await.unwrap();
        match kind {
            0x82 => got.extend_from_slice(&payload),
            0x8a => assert_eq!(payload, b"ping"),
            kind => panic!("{kind:x}"),
        }
    }
    assert_eq!(got[0], 0x20);
}

#[tokio::test(start_paused = true)]
async fn mqtt_6_0_0_1_frames_that_are_wrong_end_the_connection() {
    let web = WebWorld::with(|settings| settings.limits.packet_bytes_max = 2000);
    let mut bystander = Bystander::new(&web.world).await;
    let wrong: [(&str, Vec<u8>); 9] = [
        ("text", frame(0x81, &PINGREQ)),
        ("no mask", [&[0x82, 2][..], &PINGREQ].concat()),
        ("a large control frame", frame(0x89, &[0; 126])),
        ("a control frame in fragments", frame(0x09, b"x")),
        ("an unknown opcode", frame(0x83, b"x")),
        ("reserved bits", frame(0xc2, &PINGREQ)),
        ("a continuation of nothing", frame(0x80, &PINGREQ)),
        ("2^63 bytes", [&[0x82, 0xff, 0x80][..], &[0; 7], &[1, 2, 3, 4]].concat()),
        ("more than the largest packet", frame(0x82, &[0xc0; 2001])),
    ];
    for (what, bytes) in &wrong {
        let mut socket = web.client(1 << 16, &Connect::v5("a")).await;
        socket.raw(bytes).await;
        socket.send(&PINGREQ).await;
        let answered = socket.rest().await;
        assert!(!answered.contains(&(0x82, vec![PINGRESP, 0])), "{what}: {answered:x?}");
        bystander.is_served().await;
        web.world.until_alone(1).await;
    }
    // Many fragments of one message are as bounded as one.
    let mut socket = web.client(1 << 16, &Connect::v5("a")).await;
    socket.raw(&frame(0x02, &[0xc0; 500])).await;
    for _ in 0..1000 {
        socket.raw(&frame(0x00, &[0xc0; 500])).await;
    }
    socket.rest().await;
    bystander.is_served().await;
    web.world.until_alone(1).await;
}

/// A request announces a body, and nothing of it comes.
#[tokio::test(start_paused = true)]
async fn a_body_is_not_waited_for() {
    let web = WebWorld::new();
    let mut handshake = HANDSHAKE.to_vec();
    handshake.push("Content-Length: 1000000");
    for request in [
        lines(&handshake),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".to_owned(),
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ] {
        let start = Instant::now();
        let answer = web.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{request}\n{answer}");
        assert!(start.elapsed().as_secs() <= 10, "{request}: {:?}", start.elapsed());
    }
    web.world.until_alone(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_is_answered() {
    let web = WebWorld::new();
    let mut socket = web.client(4096, &Connect::v5("a")).await;
    socket.raw(&frame(0x88, &1000_u16.to_be_bytes())).await;
    let answered = socket.rest().await;
    assert!(matches!(&answered[..], [(0x88, _)]), "{answered:x?}");
    web.world.until_alone(0).await;
}

/// What the library for frames has taken goes out, though nothing follows it.
#[tokio::test(start_paused = true)]
async fn the_last_bytes_for_a_slow_reader_are_not_held_back() {
    let web = WebWorld::new();
    for bytes in [64, 1000, 40_000] {
        let mut slow = web.client(bytes, &Connect::v5("slow")).await;
        slow.send(&subscribe(1, &[("news", 0)])).await;
        assert_eq!(slow.frame().await.unwrap().1[0], 0x90);
        let mut publisher = web.world.client(&Connect::v5("publisher")).await;
        let news = Publish::v5("news", vec![b'x'; 100_000], 1, 1);
        assert_eq!(publisher.deliver(news).await, 0);
        // It takes nothing until all is written that can be.
        tokio::time::sleep(30 * SECOND).await;
        let mut got = 0;
        while got < 100_000 {
            got += slow.frame().await.unwrap().1.len();
        }
        drop(slow);
        publisher.goodbye().await;
        web.world.until_alone(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_over_web_socket_is_ended() {
    let web = WebWorld::new();
    let mut bystander = Bystander::new(&web.world).await;
    let mut deaf = web.client(1024, &Connect::v5("deaf")).await;
    deaf.send(&subscribe(1, &[("news", 0)])).await;
    deaf.frame().await;
    let mut publisher = web.world.client(&Connect::v5("publisher")).await;
    let start = Instant::now();
    let news = Publish::v5("news", vec![b'x'; 20_000], 1, 1);
    assert_eq!(publisher.deliver(news).await, 0);
    bystander.is_served().await;
    web.world.until("it is gone", |figures| figures.clients == 2).await;
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn files_are_served_piece_by_piece_and_not_for_ever() {
    let web = WebWorld::new();
    let mut bystander = Bystander::new(&web.world).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    std::fs::write(web.folder.path().join("large"), &large).unwrap();
    std::fs::write(web.folder.path().join("empty.txt"), "").unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = web.knock(10_000);
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.contains("content-length: 3000000\r\n"));
    let mut got = Vec::new();
    soon("the file", stream.read_to_end(&mut got)).await.unwrap();
    assert!(got == large);
    let answer = web.answer(&get("/empty.txt")).await;
    assert!(answer.contains("content-length: 0\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = web.answer(&get("/large").replace("GET", "HEAD")).await;
    assert!(answer.contains("content-length: 3000000\r\n") && answer.len() < 500, "{answer}");
    for path in ["/../large", "/%2e%2e/x", "/..%2fx", "/.hidden", "/large/", "//etc/passwd", "/%00"]
    {
        let answer = web.answer(&get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    // Who does not take it has no place for ever.
    let mut deaf = web.knock(10_000);
    deaf.write_all(get("/large").as_bytes()).await.unwrap();
    head(&mut deaf).await;
    let start = Instant::now();
    bystander.is_served().await;
    web.world.until_alone(1).await;
    assert_eq!(start.elapsed().as_secs(), 60);
    drop(deaf);
}

/// And what leads out of the folder is not there.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn links_do_not_lead_out_of_the_folder() {
    let web = WebWorld::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let link = |name: &str, to: &std::path::Path| {
        std::os::unix::fs::symlink(to, web.folder.path().join(name)).unwrap();
    };
    link("out", outside.path());
    link("file", &outside.path().join("secret"));
    link("device", std::path::Path::new("/dev/zero"));
    for path in ["/out/secret", "/file", "/out", "/device"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = web.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_connections_pages_are_busy_and_clients_are_told() {
    let web = WebWorld::with(|settings| settings.limits.connections_max = 1);
    let _first: Raw = web.world.client(&Connect::v5("first")).await;
    let answer = web.answer("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let mut socket = web.socket(4096).await;
    socket.send(&Connect::v5("late").bytes()).await;
    assert_eq!(socket.frame().await.unwrap(), (0x82, vec![0x20, 3, 0, 0x97, 0]));
}
