//! The chat of the examples: its component by MQTT, and its page in browsers.

use crate::listening::{Subscriber, client, on_each_storage, port, publish};
use crate::support::{Scene, drain, examples};
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Host, Stream, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// What the component allows, and keeps.
const TEXT_CHARS_MAX: usize = 500;
const LINES_MAX: usize = 50;
const ROOMS_MAX: usize = 100;

/// How long browsers may take: they start several times.
const BROWSERS_DEADLINE: Duration = Duration::from_secs(150);
/// Set where all that the browsers' test needs is there: it must not be left out.
const BROWSERS_REQUIRED: &str = "WASI_PUBSUB_TEST_BROWSERS";

/// How mosquitto_sub prints a message: topic, user properties, correlation data and
/// payload. A line that it says of itself has no `|`.
const FORMAT: [&str; 4] = ["-V", "5", "-F", "%t|%P|%D|%p"];

/// Runs the example, at ports that are free.
async fn start(scene: &Scene) -> Host {
    let folder = examples().join("chat");
    let text = std::fs::read_to_string(folder.join("capabilities.toml")).unwrap();
    let target = format!("path = \"{}/target/", examples().display());
    let text = text.replace("path = \"../target/", &target);
    scene.write(&text.replace(":8083", ":0").replace(":1883", ":0"));
    let page = folder.join("page");
    let mut host = scene.command(&["run", "--static", &page.to_string_lossy()]).start();
    host.wait_for(Stream::Err, "ready").await;
    host
}

/// Says something in the lobby with mosquitto_pub.
async fn say(port: u16, from: &str, text: &str, more: &[&str]) {
    let topic = ["-t", "chat/lobby/say", "-q", "1", "-V", "5", "-m", text];
    let from = ["-D", "publish", "user-property", "from", from];
    assert!(publish(port, &[&topic[..], &from, more].concat()).await, "{text}");
}

on_each_storage!(
    a_room_hears_what_may_be_said,
    answers_go_to_who_asks,
    who_joins_late_gets_the_history,
    the_room_that_was_quiet_longest_makes_way,
);

async fn a_room_hears_what_may_be_said(scene: Scene) {
    let mut host = start(&scene).await;
    let port = port(&host, "mqtt");
    let messages = [&["-t", "chat/lobby/messages", "-q", "1"], &FORMAT[..]].concat();
    let mut room = Subscriber::start(port, &messages).await;
    let longest = "é".repeat(TEXT_CHARS_MAX);
    say(port, "ann", "hello", &[]).await;
    say(port, "ann", &longest, &[]).await;
    say(port, "ben", &format!("{longest}é"), &[]).await;
    say(port, "ben", "  ", &[]).await;
    say(port, "ben", "two\nlines", &[]).await;
    say(port, "chat", "I am the chat", &[]).await;
    say(port, &"n".repeat(33), "long", &[]).await;
    say(port, "ben", "Darn! What the heck, darned 'DARN'.", &[]).await;
    // A client of MQTT 3.1.1 has no place for its name.
    let old = ["-t", "chat/lobby/say", "-m", "from long ago", "-V", "mqttv311", "-q", "1"];
    assert!(publish(port, &old).await);
    // What only the component may publish.
    publish(port, &["-t", "chat/lobby/messages", "-m", "forged", "-q", "1", "-V", "5"]).await;
    say(port, "ann", "that is all", &[]).await;
    let lines = room.up_to("|that is all").await;
    let heard: Vec<_> = lines.iter().filter_map(|line| parts(line)).collect();
    let expected = [
        ("ann", "hello"),
        ("ann", longest.as_str()),
        ("chat", "501 characters are too many: 500 are allowed"),
        ("chat", "there is nothing in that message"),
        ("chat", "a message is one line, without control characters"),
        ("chat", "the name `chat` is taken"),
        ("chat", "that name is longer than 32 characters"),
        ("ben", "****! What the ****, darned '****'."),
        ("somebody", "from long ago"),
        ("ann", "that is all"),
    ];
    assert_eq!(heard, expected);
    drain(&mut host).await;
}

/// Who spoke, and what, of a line of mosquitto_sub.
fn parts(line: &str) -> Option<(&str, &str)> {
    let mut parts = line.split('|').skip(1);
    let (_, from) = parts.next()?.split_once(" from:")?;
    Some((from.split_once(" at:").map_or(from, |(from, _)| from), parts.nth(1)?))
}

async fn answers_go_to_who_asks(scene: Scene) {
    let mut host = start(&scene).await;
    let port = port(&host, "mqtt");
    let own = ["-i", "me", "-t", "chat/lobby/to/me", "-t", "chat/lobby/messages", "-q", "1"];
    let mut me = Subscriber::start(port, &[&own[..], &FORMAT].concat()).await;
    let to = |topic| ["-D", "publish", "response-topic", topic];
    let data = ["-D", "publish", "correlation-data", "question 1"];
    let to_me = to("chat/lobby/to/me");
    say(port, "ben", "/who", &to_me).await;
    say(port, "ben", "hello", &to_me).await;
    say(port, "ann", "hi", &[]).await;
    say(port, "ben", "/who", &[&to_me[..], &data].concat()).await;
    say(port, "ben", "/help", &to_me).await;
    say(port, "ben", "/shout loud", &to_me).await;
    // Where the answer to something in the lobby does not belong.
    for topic in ["chat/attic/to/me", "chat/lobby/to/me/too", "chat/lobby/say", "elsewhere"] {
        say(port, "ben", "/who", &to(topic)).await;
    }
    say(port, "ben", "bye", &to_me).await;
    let lines = me.up_to("|bye").await;
    let answers: Vec<_> = lines
        .iter()
        .filter(|line| line.contains('|'))
        .filter_map(|line| Some((line.split('|').next()?, line.split('|').nth(2)?, parts(line)?)))
        .collect();
    const HELP: &str =
        "/help shows this, /who shows who spoke lately; all else is said to the room";
    let (own, room) = ("chat/lobby/to/me", "chat/lobby/messages");
    let unknown = format!("there is no /shout: {HELP}");
    let both = (room, "", ("chat", "spoke lately: ann, ben"));
    let expected = [
        (own, "", ("chat", "nobody has spoken yet")),
        (room, "", ("ben", "hello")),
        (room, "", ("ann", "hi")),
        (own, "question 1", ("chat", "spoke lately: ann, ben")),
        (own, "", ("chat", HELP)),
        (own, "", ("chat", unknown.as_str())),
        both,
        both,
        both,
        both,
        (room, "", ("ben", "bye")),
    ];
    assert_eq!(answers, expected);
    // Answers to others are not for everybody.
    let mut spy = client("mosquitto_sub", port, &["-t", "chat/lobby/to/+", "-i", "spy", "-V", "5"]);
    let refused = within("mosquitto_sub", spy.output()).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("All subscription requests were denied"), "{said}");
    drain(&mut host).await;
}

async fn who_joins_late_gets_the_history(scene: Scene) {
    const SAID: usize = LINES_MAX + 10;
    let mut host = start(&scene).await;
    let port = port(&host, "mqtt");
    let mut early = Subscriber::start(port, &["-t", "chat/lobby/history", "-V", "5"]).await;
    let lines: String = (1..=SAID).map(|number| format!("line {number}\n")).collect();
    let file = scene.folder().join("said");
    std::fs::write(&file, lines).unwrap();
    let mut command = client("mosquitto_pub", port, &["-t", "chat/lobby/say", "-l", "-q", "1"]);
    command.stdin(std::fs::File::open(file).unwrap());
    assert!(within("mosquitto_pub", command.status()).await.unwrap().success());
    early.until(&format!("\tline {SAID}")).await;
    let retained = ["-t", "chat/lobby/history", "--retained-only", "-C", "1", "-V", "5"];
    let late = within("the history", client("mosquitto_sub", port, &retained).output()).await;
    let history = String::from_utf8(late.unwrap().stdout).unwrap();
    let lines: Vec<Vec<_>> =
        history.trim_end().lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), LINES_MAX, "{history}");
    let times: Vec<u64> = lines.iter().map(|line| line[0].parse().unwrap()).collect();
    assert!(times.is_sorted_by(|before, after| before < after), "{times:?}");
    for (line, number) in lines.iter().zip(SAID - LINES_MAX + 1..) {
        assert_eq!(line[1..], ["somebody", &format!("line {number}")]);
    }
    drain(&mut host).await;
}

async fn the_room_that_was_quiet_longest_makes_way(scene: Scene) {
    let mut host = start(&scene).await;
    let port = port(&host, "mqtt");
    let mut quiet = Subscriber::start(port, &["-t", "chat/quiet/history", "-V", "5"]).await;
    speak_in(port, ["quiet".to_owned()]).await;
    quiet.until("chat/quiet/history 1").await;
    speak_in(port, (0..ROOMS_MAX).map(|number| format!("r{number}"))).await;
    quiet.until("chat/quiet/history (null)").await;
    let count = ROOMS_MAX.to_string();
    let all = ["-t", "chat/+/history", "--retained-only", "-C", &count, "-F", "%t"];
    let output = within("the rooms", client("mosquitto_sub", port, &all).output()).await.unwrap();
    let rooms = String::from_utf8(output.stdout).unwrap();
    assert_eq!(rooms.lines().count(), ROOMS_MAX, "{rooms}");
    assert!(!rooms.contains("quiet"), "{rooms}");
    drain(&mut host).await;
}

/// Says something in each of these rooms, over one connection of MQTT 3.1.1, at qos 0.
async fn speak_in(port: u16, rooms: impl IntoIterator<Item = String>) {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut packets = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me".to_vec();
    for room in rooms {
        let topic = format!("chat/{room}/say");
        let body = [&[0, u8::try_from(topic.len()).unwrap()], topic.as_bytes(), b"hello"].concat();
        packets.extend([0x30, u8::try_from(body.len()).unwrap()]);
        packets.extend(body);
    }
    // DISCONNECT: the broker has all before it once it closes the connection.
    packets.extend(b"\xe0\x00");
    client.write_all(&packets).await.unwrap();
    within("the end", client.read_to_end(&mut Vec::new())).await.unwrap();
}

/// Two browsers with the page, each a process of its own, and two that join late.
#[tokio::test]
async fn browsers_talk_to_each_other() {
    let folder = examples().join("chat");
    let chromium = match browsers(&folder) {
        Ok(chromium) => chromium,
        Err(missing) => {
            assert!(std::env::var_os(BROWSERS_REQUIRED).is_none(), "{missing}");
            eprintln!("SKIPPED, nothing was tested: {missing}");
            return;
        }
    };
    let scene = Scene::memory();
    let mut host = start(&scene).await;
    let page = format!("http://127.0.0.1:{}/", port(&host, "ws"));
    let mut script = Command::new("node");
    script.arg(folder.join("test/browsers.js")).arg(page).arg(chromium);
    script.arg(scene.folder().join("profiles")).env("HOME", scene.folder()).kill_on_drop(true);
    let output = tokio::time::timeout(BROWSERS_DEADLINE, script.output()).await;
    let output = output.expect("the browsers are done in time").expect("node can be started");
    let said = [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    assert_eq!(said[0].trim(), "all have talked");
    drain(&mut host).await;
}

/// The program of the browser, where all else is there too; or what is missing.
fn browsers(folder: &Path) -> Result<PathBuf, String> {
    find(&["node"]).ok_or("node is missing: see nodejs.org")?;
    for (file, folder) in [
        (folder.join("page/node_modules/mqtt/dist/mqtt.min.js"), "page"),
        (folder.join("test/node_modules/playwright-core/package.json"), "test"),
    ] {
        if !file.is_file() {
            let file = file.display();
            return Err(format!("{file} is missing: run `npm ci` in guest-examples/chat/{folder}"));
        }
    }
    let chromium = find(&["chromium", "chromium-browser", "google-chrome"]);
    chromium.ok_or_else(|| "Chromium is missing: install the package `chromium`".to_owned())
}

fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}
