//! The built-in broker on the network: MQTT clients and components meet.

use crate::support::{Scene, drain};
use std::process::Stdio;
use std::time::Duration;
use testkit::Stream::{Err, Out};
use testkit::{Certificates, Host, Lines, Stream, free_port, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// What stands before the components of each configuration.
const HEAD: &str = "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n";

fn receiver(keys: &str) -> String {
    format!(
        "{HEAD}[[capability.config]]\n{keys}\n\
         [[component]]\nname = \"receiver\"\npath = \"$GUESTS/receiver.wasm\"\n"
    )
}

/// The port that the host says it listens at, by scheme.
pub(crate) fn port(host: &Host, scheme: &str) -> u16 {
    let lines = host.lines().of(Err);
    let at = format!("listening at {scheme}://");
    let found = lines.iter().find_map(|line| line.split_once(&at));
    let (_, address) = found.unwrap_or_else(|| panic!("{}", host.lines().dump()));
    let port: String =
        address.split_once(':').unwrap().1.chars().take_while(char::is_ascii_digit).collect();
    port.parse().unwrap()
}

pub(crate) fn client(program: &str, port: u16, arguments: &[&str]) -> Command {
    // Into a pipe it would write when much has gathered.
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", program])
        .args(["-h", "localhost", "-p", &port.to_string()])
        .args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Publishes with mosquitto_pub, and returns whether that went well.
pub(crate) async fn publish(port: u16, arguments: &[&str]) -> bool {
    let output = client("mosquitto_pub", port, arguments).output();
    within("mosquitto_pub", output).await.unwrap().status.success()
}

/// A mosquitto_sub that is subscribed.
pub(crate) struct Subscriber {
    child: Child,
    lines: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Subscriber {
    pub(crate) async fn start(port: u16, arguments: &[&str]) -> Self {
        use tokio::io::AsyncBufReadExt;
        let mut command = client("mosquitto_sub", port, &[&["-d", "-v"], arguments].concat());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let mut this = Self { child, lines: tokio::io::BufReader::new(out).lines() };
        this.until("Subscribed").await;
        this
    }

    pub(crate) async fn until(&mut self, text: &str) -> String {
        self.up_to(text).await.pop().unwrap_or_default()
    }

    /// All lines up to one that contains the text.
    pub(crate) async fn up_to(&mut self, text: &str) -> Vec<String> {
        let found = async {
            let mut lines = Vec::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let is_last = line.contains(text);
                lines.push(line);
                if is_last {
                    return lines;
                }
            }
            panic!("mosquitto_sub has ended before `{text}`");
        };
        within(text, found).await
    }

    /// What has come up to its end.
    async fn rest(mut self) -> Vec<String> {
        let id = self.child.id().unwrap();
        within("kill", Command::new("kill").arg(id.to_string()).status()).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = within("the rest", self.lines.next_line()).await.unwrap() {
            lines.push(line);
        }
        lines
    }
}

/// Makes a test of each function with each storage of the built-in broker.
macro_rules! on_each_storage {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test(crate::support::Scene::memory()).await;
            })*
        }
        mod disk {
            $(#[tokio::test] async fn $test() {
                super::$test(crate::support::Scene::disk()).await;
            })*
        }
    };
}
pub(crate) use on_each_storage;

on_each_storage!(
    clients_and_components_get_each_others_events,
    commands_reach_the_host_without_further_flags,
    a_queue_is_shared_by_clients_and_components,
    who_takes_nothing_holds_up_nobody,
    what_a_client_has_under_way_keeps_its_order,
);

async fn clients_and_components_get_each_others_events(scene: Scene) {
    scene.write(&format!(
        "{HEAD}[[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\"]\ntopic = \"orders/+\"\n\
         delivery = \"push\"\n\
         [[component]]\nname = \"pipeline\"\npath = \"$GUESTS/pipeline.wasm\"\n"
    ));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    let mut subscriber = Subscriber::start(port, &["-t", "invoices/#", "-V", "5"]).await;
    for (qos, version) in [("0", "5"), ("1", "mqttv311"), ("2", "5")] {
        let data = format!("order {qos}");
        assert!(publish(port, &["-t", "orders/a", "-m", &data, "-q", qos, "-V", version]).await);
        host.wait_for(Out, &format!("writing the invoice for {data}")).await;
        subscriber.until(&format!("invoices/new invoice for {data}")).await;
    }
    drain(&mut host).await;
}

async fn commands_reach_the_host_without_further_flags(scene: Scene) {
    scene.write(&receiver(
        "listen = [\"mqtt://127.0.0.1:0\"]\nanonymous = false\npassword_file = \"users\"\n\
         topic = \"a\"\ndelivery = \"push\"",
    ));
    scene.command(&["passwd", "users", "ann"]).start_with_input("secret\n").expect_exit(0).await;
    let mut host = scene.run_ready().await;
    let mut subscriber = scene.command(&["subscribe", "#", "--count", "2"]).start();
    subscriber.wait_for(Err, "subscribed").await;
    scene.publish(&["a", "-m", "to all", "--type", "greeting"], "").await;
    host.wait_for(Out, "type: \"greeting\", data: \"to all\"").await;
    let port = port(&host, "mqtt");
    assert!(!publish(port, &["-t", "b", "-m", "x"]).await);
    assert!(!publish(port, &["-t", "b", "-m", "x", "-u", "ann", "-P", "wrong"]).await);
    assert!(publish(port, &["-t", "b", "-m", "from ann", "-u", "ann", "-P", "secret"]).await);
    subscriber.expect_exit(0).await;
    assert_eq!(subscriber.lines().of(Out), ["a to all", "b from ann"]);
    drain(&mut host).await;
}

async fn a_queue_is_shared_by_clients_and_components(scene: Scene) {
    const EVENTS: usize = 400;
    const PUBLISHERS: usize = 8;
    scene.write(&receiver(
        "listen = [\"mqtt://127.0.0.1:0\"]\nqueue = \"jobs/#\"\ngroup = \"workers\"\n\
         max_in_flight = 1\ndelivery = \"push\"",
    ));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    let shared = ["-t", "$share/workers/jobs/#", "-q", "1"];
    let mut subscriber = Subscriber::start(port, &shared).await;
    // Many at once, so that the component with its one event at a time is behind.
    let mut publishers = Vec::new();
    for first in (0..EVENTS).step_by(EVENTS / PUBLISHERS) {
        let numbers = first..first + EVENTS / PUBLISHERS;
        let lines: String = numbers.map(|number| format!("job {number};\n")).collect();
        let jobs = scene.folder().join(format!("jobs {first}"));
        std::fs::write(&jobs, lines).unwrap();
        let mut command = client("mosquitto_pub", port, &["-t", "jobs/a", "-l", "-q", "1"]);
        command.stdin(std::fs::File::open(jobs).unwrap());
        publishers.push(command.spawn().unwrap());
    }
    for mut publisher in publishers {
        assert!(within("mosquitto_pub", publisher.wait()).await.unwrap().success());
    }
    let own = |lines: &Lines| lines.count(Out, "received");
    let is_job = |line: &String| line.starts_with("jobs/a");
    let mut of_client = Vec::new();
    within("all jobs", async {
        while of_client.len() + own(host.lines()) < EVENTS {
            // Meanwhile the component may have got the last one.
            let line =
                tokio::time::timeout(Duration::from_millis(20), subscriber.lines.next_line());
            let Ok(line) = line.await else { continue };
            of_client.extend(line.unwrap().filter(is_job));
        }
    })
    .await;
    drain(&mut host).await;
    of_client.extend(subscriber.rest().await.into_iter().filter(is_job));
    assert_eq!(of_client.len() + own(host.lines()), EVENTS, "{}", host.lines().dump());
    assert!(!of_client.is_empty() && own(host.lines()) > 0);
    for number in 0..EVENTS {
        let job = format!("job {number};");
        let times = host.lines().count(Out, &job)
            + of_client.iter().filter(|line| line.contains(&job)).count();
        assert_eq!(times, 1, "{job}");
    }
}

/// One client that never acknowledges, and one that is away: publishers go on, others
/// get everything, and what waits for the two keeps to its bound.
async fn who_takes_nothing_holds_up_nobody(scene: Scene) {
    const EVENTS: usize = 500;
    scene.write(&format!(
        "{HEAD}[[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\"]\n\
         listen_limits = {{ queued = 100, in_flight = 10 }}\n"
    ));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    let kept = ["-i", "away", "-c", "-q", "1", "-t", "flood", "-V", "5", "-x", "3600"];
    Subscriber::start(port, &kept).await.rest().await;
    let mut idle = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    idle.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x").await.unwrap();
    idle.write_all(b"\x82\x0b\x00\x09\x00\x00\x05flood\x01").await.unwrap();
    let mut others = Subscriber::start(port, &["-q", "1", "-t", "flood"]).await;

    // A part at a time, so that this one is never that far behind.
    let file = scene.folder().join("events");
    let is_event = |line: &String| line.starts_with("flood ");
    let mut found = 0;
    for part in (0..EVENTS).step_by(50) {
        let lines: String = (part..part + 50).map(|number| format!("event {number};\n")).collect();
        std::fs::write(&file, lines).unwrap();
        let mut command = client("mosquitto_pub", port, &["-t", "flood", "-l", "-q", "1"]);
        command.stdin(std::fs::File::open(&file).unwrap());
        assert!(within("mosquitto_pub", command.status()).await.unwrap().success());
        let lines = others.up_to(&format!("event {};", part + 49)).await;
        found += lines.iter().filter(|line| is_event(line)).count();
    }
    assert_eq!(found, EVENTS);

    // Quota exceeded.
    let mut rest = Vec::new();
    within("the end", idle.read_to_end(&mut rest)).await.unwrap();
    let last = rest.windows(3).rposition(|bytes| bytes[0] == 0xe0 && bytes[2] == 0x97);
    assert!(last.is_some_and(|at| at > rest.len() - 80), "{rest:x?}");

    let mut back = Subscriber::start(port, &kept).await;
    let found = back.up_to(&format!("event {};", EVENTS - 1)).await;
    let count = found.into_iter().filter(is_event).count();
    assert!((80..=100).contains(&count), "{count}");
    drain(&mut host).await;
}

/// Many of them are stored in one commit.
async fn what_a_client_has_under_way_keeps_its_order(scene: Scene) {
    const EVENTS: usize = 1500;
    scene.write(&format!("{HEAD}[[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\"]\n"));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    let file = scene.folder().join("events");
    let lines: String = (0..EVENTS).map(|number| format!("event {number:04};\n")).collect();
    std::fs::write(&file, lines).unwrap();
    for qos in ["1", "2"] {
        let mut subscriber = Subscriber::start(port, &["-q", qos, "-t", "order"]).await;
        let mut command = client("mosquitto_pub", port, &["-t", "order", "-l", "-q", qos]);
        command.stdin(std::fs::File::open(&file).unwrap());
        assert!(within("mosquitto_pub", command.status()).await.unwrap().success());
        let found = subscriber.up_to(&format!("event {:04};", EVENTS - 1)).await;
        let found: Vec<_> = found.iter().filter(|line| line.starts_with("order ")).collect();
        assert_eq!(found.len(), EVENTS);
        assert!(found.is_sorted(), "{found:?}");
    }
    drain(&mut host).await;
}

#[tokio::test]
async fn what_is_acknowledged_outlives_the_host() {
    let scene = Scene::disk();
    let listens = "listen = [\"mqtt://127.0.0.1:0\"]\nretention = \"all\"\n";
    scene.write(&format!("{HEAD}[[capability.config]]\n{listens}"));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    for (data, qos) in [("first;", "1"), ("second;", "2")] {
        assert!(publish(port, &["-t", "a", "-m", data, "-q", qos]).await);
    }
    host.kill();
    scene.write(&receiver("topic = \"a\"\ndelivery = \"push\"\nstart = \"earliest\""));
    let mut host = scene.run_ready().await;
    host.wait_for(Out, "data: \"first;\"").await;
    host.wait_for(Out, "data: \"second;\"").await;
    drain(&mut host).await;
}

#[tokio::test]
async fn mqtt_4_13_clients_hear_that_the_server_ends() {
    let scene = Scene::memory();
    scene.write(&format!("{HEAD}[[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\"]\n"));
    let mut host = scene.run_ready().await;
    let mut client = TcpStream::connect(("127.0.0.1", port(&host, "mqtt"))).await.unwrap();
    client.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x").await.unwrap();
    let mut connack = [0; 4];
    within("CONNACK", client.read_exact(&mut connack)).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    drain(&mut host).await;
    let mut rest = Vec::new();
    within("the end", client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest[rest.len() - 3..], [0xe0, 1, 0x8b]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_of_the_configuration() {
    let scene = Scene::memory();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let listens = format!("listen = [\"mqtt://127.0.0.1:{port}\"]\n");
    scene.write(&format!("{HEAD}[[capability.config]]\n{listens}"));
    let mut host = scene.run();
    host.expect_exit(2).await;
    let said = host.lines().dump();
    assert!(said.contains("capabilities.toml:5:11: capability.config.listen"), "{said}");
    assert!(said.contains("cannot listen there: Address already in use"), "{said}");
}

#[tokio::test]
async fn tls_shows_a_certificate_and_asks_for_one() {
    let scene = Scene::memory();
    let c = Certificates::make(scene.folder());
    let show = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (show(&c.ca), show(&c.server_cert), show(&c.server_key));
    let plain = format!(
        "listen = [\"mqtts://127.0.0.1:0\", \"wss://127.0.0.1:0/mqtt\"]\n\
         cert_file = \"{cert}\"\nkey_file = \"{key}\"\n"
    );
    scene.write(&receiver(&format!("{plain}topic = \"a\"\ndelivery = \"push\"")));
    let mut host = scene.run_ready().await;
    let tls = port(&host, "mqtts");
    assert!(publish(tls, &["-t", "a", "-m", "by TLS", "--cafile", &ca, "-q", "1"]).await);
    host.wait_for(Out, "data: \"by TLS\"").await;
    assert!(!publish(tls, &["-t", "a", "-m", "x", "-q", "1"]).await);
    drain(&mut host).await;

    scene.write(&receiver(&format!(
        "{plain}client_ca_file = \"{ca}\"\nanonymous = false\ntopic = \"a\"\ndelivery = \"push\""
    )));
    let mut host = scene.run_ready().await;
    let tls = port(&host, "mqtts");
    let base = ["-t", "a", "-m", "with a certificate", "-q", "1", "--cafile", &ca];
    assert!(!publish(tls, &base).await);
    let (cert, key) = (show(&c.client_cert), show(&c.client_key));
    assert!(publish(tls, &[&base[..], &["--cert", &cert, "--key", &key]].concat()).await);
    host.wait_for(Out, "data: \"with a certificate\"").await;
    drain(&mut host).await;
}

#[tokio::test]
async fn a_certificate_says_which_user_a_client_is() {
    let scene = Scene::memory();
    let c = Certificates::make(scene.folder());
    let show = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (show(&c.ca), show(&c.server_cert), show(&c.server_key));
    scene.write(&receiver(&format!(
        "listen = [\"mqtts://127.0.0.1:0\"]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n\
         client_ca_file = \"{ca}\"\nuser_from_certificate = true\ntopic = \"#\"\n\
         delivery = \"push\"\naccess = [{{ users = [\"client\"], publish = [\"of/{{user}}\"] }}]"
    )));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtts");
    let (cert, key) = (show(&c.client_cert), show(&c.client_key));
    // A name that it says itself is none.
    let who = ["-u", "admin", "-P", "x", "--cafile", &ca, "--cert", &cert, "--key", &key];
    let base = ["-q", "1", "-V", "5"];
    for (topic, data) in [("of/admin", "denied"), ("of/client", "granted")] {
        publish(port, &[&["-t", topic, "-m", data], &base[..], &who[..]].concat()).await;
    }
    host.wait_for(Out, "data: \"granted\"").await;
    assert!(!host.lines().contain(Out, "denied"));
    drain(&mut host).await;
}

/// With the client of `pubsub.mqtt`, which has all transports.
#[tokio::test]
async fn mqtt_6_clients_come_by_web_socket() {
    let scene = Scene::memory();
    let c = Certificates::make(scene.folder());
    let show = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (show(&c.ca), show(&c.server_cert), show(&c.server_key));
    scene.write(&receiver(&format!(
        "listen = [\"ws://127.0.0.1:0/mqtt\", \"wss://127.0.0.1:0/mqtt\"]\n\
         cert_file = \"{cert}\"\nkey_file = \"{key}\"\ntopic = \"a\"\ndelivery = \"push\""
    )));
    let mut host = scene.run_ready().await;
    for (scheme, keys) in [("ws", String::new()), ("wss", format!("ca_file = \"{ca}\""))] {
        for version in ["5", "3.1.1"] {
            let port = port(&host, scheme);
            let client = Scene::memory();
            client.write(&format!(
                "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.mqtt\"\n\
                 [[capability.config]]\nurl = \"{scheme}://localhost:{port}/mqtt\"\n\
                 version = \"{version}\"\n{keys}\n"
            ));
            let data = format!("by {scheme}, version {version}");
            client.publish(&["a", "-m", &data, "--qos", "2"], "").await;
            host.wait_for(Out, &format!("data: \"{data}\"")).await;
        }
    }
    drain(&mut host).await;
}

#[tokio::test]
async fn rules_say_who_may_publish_and_subscribe() {
    let scene = Scene::memory();
    scene.write(&receiver(
        "listen = [\"mqtt://127.0.0.1:0\"]\ntopic = \"#\"\ndelivery = \"push\"\n\
         access = [{ publish = [\"dev/{client_id}/#\"], subscribe = [\"news/#\"] }]",
    ));
    let mut host = scene.run_ready().await;
    let port = port(&host, "mqtt");
    let version = ["-V", "5", "-q", "1", "-i", "d1"];
    let denied = ["-t", "dev/d2/x", "-m", "denied"];
    publish(port, &[&denied[..], &version[..]].concat()).await;
    let granted = ["-t", "dev/d1/x", "-m", "granted"];
    assert!(publish(port, &[&granted[..], &version[..]].concat()).await);
    host.wait_for(Out, "data: \"granted\"").await;
    assert!(!host.lines().contain(Out, "denied"));
    let mut command = client("mosquitto_sub", port, &["-t", "dev/#", "-V", "5", "-d"]);
    let output = within("mosquitto_sub", command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("135") || !output.status.success(), "{said}");
    drain(&mut host).await;
}

#[tokio::test]
async fn a_reload_keeps_clients_and_opens_and_closes_addresses() {
    let scene = Scene::memory();
    let (first, second) = (free_port(), free_port());
    let listens = |ports: &[u16]| {
        let all: Vec<_> = ports.iter().map(|p| format!("\"mqtt://127.0.0.1:{p}\"")).collect();
        receiver(&format!("listen = [{}]\ntopic = \"a\"\ndelivery = \"push\"", all.join(", ")))
    };
    scene.write(&listens(&[first]));
    let mut host = scene.run_ready().await;
    let mut subscriber = Subscriber::start(first, &["-t", "b", "-q", "1"]).await;
    scene.write(&listens(&[second, first]));
    host.hang_up();
    host.wait_for(Err, "reloaded").await;
    assert!(publish(second, &["-t", "b", "-m", "one", "-q", "1"]).await);
    subscriber.until("b one").await;
    scene.write(&listens(&[second]));
    host.hang_up();
    host.wait_for_count(Err, "reloaded", 2).await;
    assert!(!publish(first, &["-t", "b", "-m", "x"]).await);
    assert!(publish(second, &["-t", "b", "-m", "two", "-q", "1"]).await);
    subscriber.until("b two").await;
    drain(&mut host).await;
}

#[tokio::test]
async fn files_are_served_beside_the_web_socket() {
    let scene = Scene::memory();
    let web = scene.folder().join("web");
    std::fs::create_dir(&web).unwrap();
    std::fs::write(web.join("index.html"), "<h1>chat</h1>").unwrap();
    std::fs::write(scene.folder().join("secret"), "secret").unwrap();
    scene.write(&format!("{HEAD}[[capability.config]]\nlisten = [\"ws://127.0.0.1:0/mqtt\"]\n"));
    let mut host = scene.command(&["run", "--static", "web"]).start();
    host.wait_for(Stream::Err, "ready").await;
    let port = port(&host, "ws");
    let get = async |path: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(path, client.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let page = get("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("<h1>chat</h1>"), "{page}");
    assert!(page.contains("content-type: text/html"), "{page}");
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/none", "/mqtt"] {
        assert!(get(path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    drain(&mut host).await;
}
