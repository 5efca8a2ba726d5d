//! The tools of the tests do what their descriptions say.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut copy = stream.try_clone().unwrap();
                let _ended = std::io::copy(&mut copy, &mut stream);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text);
}

fn is_cut(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_passes_bytes_until_it_is_cut_and_then_connects_anew() {
    let proxy = Proxy::start(echo()).await;
    assert!(!proxy.cut(), "there was nothing to cut");
    let mut first = connect(&proxy);
    exchange(&mut first, &vec![7; 300_000]);
    assert!(proxy.cut());
    assert!(is_cut(&mut first));
    exchange(&mut connect(&proxy), b"again");
    assert_eq!((proxy.cuts(), proxy.accepted()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_link_passes_nothing_and_loses_nothing() {
    let proxy = Proxy::start(echo()).await;
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"before");
    proxy.hold();
    stream.write_all(b"held").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.read(&mut [0; 8]).unwrap_err();
    proxy.release();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_delays_both_directions() {
    let proxy = Proxy::with_latency(echo(), Duration::from_millis(20)).await;
    let mut stream = connect(&proxy);
    let start = Instant::now();
    exchange(&mut stream, b"there and back");
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutter_counts_the_cuts_that_hurt() {
    let proxy = Proxy::start(echo()).await;
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"one");
    let cutter = proxy.cut_every(Duration::from_millis(5), || true);
    assert!(is_cut(&mut stream));
    eventually(DEADLINE, "the cut is counted", || cutter.cuts_that_hurt() == 1).await;
    drop(cutter);

    let idle = proxy.cut_every(Duration::from_millis(5), || false);
    assert!(is_cut(&mut connect(&proxy)));
    assert_eq!(idle.cuts_that_hurt(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_refuses_and_changes_its_upstream() {
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], free_port()))).await;
    assert!(is_cut(&mut connect(&proxy)), "its upstream is down");
    proxy.set_upstream(echo());
    exchange(&mut connect(&proxy), b"up");
    proxy.refuse(true);
    assert!(is_cut(&mut connect(&proxy)));
    proxy.refuse(false);
    exchange(&mut connect(&proxy), b"up again");
}

#[tokio::test]
async fn mosquitto_comes_back_on_its_port_after_a_kill_and_writes_its_file_when_asked() {
    let mut broker = Mosquitto::builder().persistence().start().await;
    let port = broker.port();
    broker.idle().await;
    broker.save().await;
    broker.kill();
    TcpStream::connect(broker.address()).unwrap_err();
    broker.restart().await;
    assert_eq!(broker.port(), port);
    TcpStream::connect(broker.address()).unwrap();
    broker.stop().await;
    TcpStream::connect(broker.address()).unwrap_err();
}

#[tokio::test]
async fn mosquitto_listens_where_it_is_asked_to() {
    let broker = Mosquitto::builder()
        .client_certificates()
        .websocket()
        .unix_socket()
        .password("user", "secret")
        .max_packet_bytes(1000)
        .start()
        .await;
    std::os::unix::net::UnixStream::connect(broker.socket_path()).unwrap();
    for url in [broker.url(), broker.tls_url(), broker.websocket_url()] {
        let address = url.split("//").nth(1).unwrap();
        TcpStream::connect(address).unwrap_or_else(|e| panic!("{url}: {e}"));
    }
    for file in [&broker.certificates().ca, &broker.certificates().client_key] {
        assert!(std::fs::read_to_string(file).unwrap().starts_with("-----BEGIN"));
    }
}

#[tokio::test]
#[should_panic(expected = "in vain until pigs fly")]
async fn what_does_not_happen_is_said_by_name() {
    eventually(Duration::from_millis(20), "pigs fly", || false).await;
}

#[test]
fn a_capture_has_only_what_came_after_it() {
    let _first = capture_logs();
    tracing::info!("before-{}", line!());
    let logs = capture_logs();
    tracing::warn!(port = 4711, "a line of this test only");
    assert_eq!(logs.count(&["WARN", "a line of this test only", "port=4711"]), 1);
    assert_eq!(logs.count(&["before-"]), 0);
}
