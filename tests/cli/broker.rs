//! `broker`: the store of a built-in broker, whole outputs; and what else works
//! with a store that no host has.

use crate::support::{Scene, drain};
use crate::{call, done, failed};
use testkit::Stream::{Err, Out};

/// A handler that is subscribed to orders, which are remembered.
const CONFIG: &str = r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
topic = "orders/+"
delivery = "push"
retention = "7d"
[[component]]
path = "$GUESTS/receiver.wasm"
"#;

/// A store with a subscription and three events that wait for it.
async fn scene() -> Scene {
    let scene = Scene::disk();
    scene.write(CONFIG);
    drain(&mut scene.run_ready().await).await;
    for number in ["1", "2", "3"] {
        let order = format!("order {number}");
        scene.publish(&["orders/new", "--id", number, "--type", "order", "-m", &order], "").await;
    }
    scene
}

/// Every time is the same one.
fn timeless(text: &str) -> String {
    let is_time = |text: &str| text.len() == 20 && text.as_bytes()[10] == b'T';
    let mut timeless = text.to_owned();
    for (at, _) in text.match_indices("20") {
        if text.get(at..at + 20).is_some_and(is_time) && text.as_bytes()[at + 19] == b'Z' {
            timeless.replace_range(at..at + 20, "2026-01-31T08:00:00Z");
        }
    }
    timeless
}

async fn prints(scene: &Scene, arguments: &[&str], expected: &str) {
    let printed = done(scene, &[&["broker"], arguments].concat()).await;
    assert_eq!(timeless(&printed), expected.trim_start(), "{arguments:?}");
}

async fn refuses(scene: &Scene, arguments: &[&str], expected: &str) {
    let text = failed(scene, &[&["broker"], arguments].concat(), 2).await;
    let text = text.replace(scene.folder().to_str().unwrap(), "FOLDER");
    assert_eq!(text, format!("error: {expected}\n"), "{arguments:?}");
}

#[tokio::test]
async fn what_is_there_is_listed() {
    let scene = scene().await;
    let topics = "
TOPIC       EVENTS  BYTES  FIRST  LAST  FROM                  TO
orders/new  3       99     1      3     2026-01-31T08:00:00Z  2026-01-31T08:00:00Z
";
    prints(&scene, &["topics"], topics).await;
    let topics = "\
{\"bytes\":99,\"events\":3,\"first\":{\"number\":1,\"time\":\"2026-01-31T08:00:00Z\"},\
\"last\":{\"number\":3,\"time\":\"2026-01-31T08:00:00Z\"},\"topic\":\"orders/new\"}\n";
    prints(&scene, &["topics", "--json"], topics).await;
    let subscriptions = "
SUBSCRIPTION       TOPICS    NEXT  WAITING  OPEN  LAST USED
receiver/orders/+  orders/+  1     3        0     2026-01-31T08:00:00Z
";
    prints(&scene, &["subscriptions"], subscriptions).await;
    let subscriptions = "\
{\"created\":\"2026-01-31T08:00:00Z\",\"filter\":null,\"group\":null,\"next\":1,\"open\":0,\"qos\":1,\
\"subscription\":\"receiver/orders/+\",\"topics\":\"orders/+\",\"used\":\"2026-01-31T08:00:00Z\",\
\"waiting\":3}\n";
    prints(&scene, &["subscriptions", "--json"], subscriptions).await;
    prints(&scene, &["check"], &format!("{}: ok\n", scene.store().display())).await;
    let nothing = call(&scene, &["broker", "snapshot", "list"]).await;
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""));
    assert!(nothing.err.contains("there are no snapshots"), "{}", nothing.err);
}

#[tokio::test]
async fn events_are_peeked_at_without_any_effect() {
    let scene = scene().await;
    let all = "
1 2026-01-31T08:00:00Z orders/new order 1
2 2026-01-31T08:00:00Z orders/new order 2
3 2026-01-31T08:00:00Z orders/new order 3
";
    for arguments in [&["peek", "orders/+"][..], &["peek", "#", "--from", "2020-01-01T00:00:00Z"]] {
        prints(&scene, arguments, all).await;
    }
    prints(&scene, &["peek", "#", "-n", "1", "--from", "2"], &line(all, 2)).await;
    for none in [&["peek", "invoices/+"][..], &["peek", "#", "--from", "2999-01-01T00:00:00Z"]] {
        prints(&scene, none, "").await;
    }
    let event = "\
{\"topic\":\"orders/new\",\"specversion\":\"1.0\",\"id\":\"3\",\"source\":\"/wasi-pubsub/publish\",\
\"type\":\"order\",\"data\":\"order 3\",\"number\":3,\"published\":\"2026-01-31T08:00:00Z\"}\n";
    prints(&scene, &["peek", "#", "--from", "3", "--json"], event).await;
    // What was printed can be published again.
    let peeked = done(&scene, &["broker", "peek", "#", "--json"]).await;
    scene.publish(&["--json"], &peeked).await;
    prints(&scene, &["peek", "#", "--from", "6"], &line(all, 3).replacen('3', "6", 1)).await;
    let wrong = call(&scene, &["broker", "peek", "#", "--from", "new"]).await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("expected `earliest`, a time"), "{}", wrong.err);
}

fn line(text: &str, number: usize) -> String {
    format!("{}\n", text.lines().nth(number).unwrap())
}

#[tokio::test]
async fn subscriptions_go_on_where_they_are_told_to() {
    let scene = scene().await;
    let name = "receiver/orders/+";
    prints(&scene, &["snapshot", "create", "before", name], "created before\n").await;
    let snapshots = "
SNAPSHOT  TOPICS    NEXT  OPEN  CREATED
before    orders/+  1     0     2026-01-31T08:00:00Z
";
    prints(&scene, &["snapshot", "list"], snapshots).await;
    prints(&scene, &["seek", name, "new"], "receiver/orders/+ goes on at 4\n").await;
    waiting(&scene, "4     0        0").await;
    prints(&scene, &["seek", name, "3"], "receiver/orders/+ goes on at 3\n").await;
    let mut host = scene.run();
    host.wait_for(Out, "data: \"order 3\"").await;
    drain(&mut host).await;
    assert_eq!(host.lines().of(Out).len(), 1, "{}", host.lines().dump());
    waiting(&scene, "4     0        0").await;
    for (place, next) in [("2020-01-01T00:00:00Z", 1), ("new", 4), ("snapshot:before", 1)] {
        prints(&scene, &["seek", name, place], &format!("receiver/orders/+ goes on at {next}\n"))
            .await;
    }
    let mut host = scene.run();
    host.wait_for_count(Out, "data: \"order ", 3).await;
    drain(&mut host).await;
    prints(&scene, &["snapshot", "delete", "before"], "deleted before\n").await;
    prints(&scene, &["remove", name], "removed receiver/orders/+\n").await;
    for arguments in [&["remove", name][..], &["seek", name, "new"]] {
        let text = "there is no subscription `receiver/orders/+`: there are none";
        refuses(&scene, arguments, text).await;
    }
    let text = "there is no snapshot `before`: there are none";
    refuses(&scene, &["snapshot", "delete", "before"], text).await;
}

/// The columns of the only subscription.
async fn waiting(scene: &Scene, expected: &str) {
    let printed = done(scene, &["broker", "subscriptions"]).await;
    assert!(printed.lines().nth(1).unwrap().contains(expected), "{expected} in {printed}");
}

#[tokio::test]
async fn topics_are_purged_and_the_file_is_made_small() {
    let scene = scene().await;
    scene.publish(&["orders/old", "-m", &"x".repeat(100_000)], "").await;
    let text = "delete 3 events of `orders/new`? Without a terminal, say so with --yes";
    refuses(&scene, &["purge", "orders/new"], text).await;
    prints(&scene, &["purge", "orders/new", "--yes"], "deleted 3 events, 99 bytes\n").await;
    prints(&scene, &["purge", "orders/new"], "deleted 0 events, 0 bytes\n").await;
    let printed = done(&scene, &["broker", "topics"]).await;
    assert!(printed.contains("orders/old  1 ") && !printed.contains("orders/new"), "{printed}");
    prints(&scene, &["seek", "receiver/orders/+", "new"], "receiver/orders/+ goes on at 5\n").await;
    // It is remembered, and stays.
    let printed = done(&scene, &["broker", "compact"]).await;
    assert!(printed.starts_with("the file had "), "{printed}");
    assert!(done(&scene, &["broker", "topics"]).await.contains("orders/old"));
    scene.write(&CONFIG.replace("retention = \"7d\"\n", ""));
    let printed = done(&scene, &["broker", "compact"]).await;
    assert!(printed.starts_with("deleted 1 events that nobody needs, "), "{printed}");
    let sizes: Vec<u64> = printed.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [1, _, before, after] = sizes.as_slice() else { panic!("{printed}") };
    assert!(before > &(after + 90_000), "{printed}");
}

#[tokio::test]
async fn beside_a_host_the_store_can_only_be_looked_at() {
    let scene = scene().await;
    let mut host = scene.run();
    host.wait_for_count(Out, "data: \"order ", 3).await;
    for arguments in [&["topics"][..], &["subscriptions"], &["check"], &["peek", "#"]] {
        let arguments = [&["broker"], arguments].concat();
        assert!(!done(&scene, &arguments).await.is_empty(), "{arguments:?}");
    }
    let in_use = format!(
        "`FOLDER/store.db` is in use by process {} (one process at a time: end it, or name another path)",
        host.id()
    );
    let name = "receiver/orders/+";
    for arguments in [
        &["seek", name, "new"][..],
        &["remove", name],
        &["snapshot", "create", "a", name],
        &["purge", "#", "--yes"],
        &["compact"],
    ] {
        refuses(&scene, arguments, &in_use).await;
    }
    for arguments in [&["publish", "orders/new", "-m", "4"][..], &["subscribe", "#"]] {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: broker pubsub.disk: `"), "{text}");
        assert!(text.contains(&format!("is in use by process {}", host.id())), "{text}");
    }
    drain(&mut host).await;
}

#[tokio::test]
async fn it_says_which_brokers_have_no_store() {
    let scene = Scene::memory();
    let text = "there is no capabilities.toml here, which names the store\n  help: --config FILE, or \
                --path with the store's own file";
    refuses(&scene, &["topics"], text).await;
    let text =
        "there is no store at `nothing.db`\n  help: `wasi-pubsub run` makes it when it first runs";
    refuses(&scene, &["topics", "--path", "nothing.db"], text).await;
    refuses(&scene, &["compact", "--path", "."], "`.` is not a file").await;
    scene.write(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n",
    );
    let text = "the broker is pubsub.memory, which keeps nothing that another process could look \
                at\n  help: `wasi-pubsub broker` is for pubsub.disk";
    refuses(&scene, &["topics"], text).await;
    let binding = |name: &str, id: &str, keys: &str| {
        format!("[[capability]]\nname = \"{name}\"\nid = \"{id}\"\n[[capability.config]]\n{keys}\n")
    };
    let mqtt = binding("pubsub.mqtt", "plant", "url = \"tcp://localhost\"");
    scene.write(&format!("specversion = \"0.2\"\n{mqtt}"));
    let text = "the broker `plant` is pubsub.mqtt, whose server has tools of its own\n  help: \
                `wasi-pubsub broker` is for pubsub.disk";
    refuses(&scene, &["check"], text).await;
    let one = binding("pubsub.disk", "one", "path = \"one.db\"");
    let two = binding("pubsub.disk", "two", "path = \"two.db\"");
    scene.write(&format!("specversion = \"0.2\"\n{mqtt}{one}{two}"));
    let text = "several brokers have a store: say which one with --broker or --path\n  one: the \
                built-in broker in `one.db`\n  two: the built-in broker in `two.db`";
    refuses(&scene, &["topics"], text).await;
    let text = "there is no capability `three`: there is `plant`, `one`, `two`";
    refuses(&scene, &["topics", "--broker", "three"], text).await;
    let text =
        "there is no store at `two.db`\n  help: `wasi-pubsub run` makes it when it first runs";
    refuses(&scene, &["topics", "--broker", "two"], text).await;
    std::fs::write(scene.folder().join("two.db"), "no store").unwrap();
    let text = failed(&scene, &["broker", "topics", "--broker", "two"], 2).await;
    assert!(text.contains("the file is no SQLite database"), "{text}");
}

#[tokio::test]
async fn a_subscription_of_the_command_line_leaves_nothing() {
    let scene = scene().await;
    let mut host = scene.command(&["subscribe", "orders/+", "--timeout", "0.2"]).start();
    host.expect_exit(1).await;
    assert!(
        host.lines().contain(Err, "no event came"),
        "only what is new: {}",
        host.lines().dump()
    );
    let printed = done(&scene, &["broker", "subscriptions"]).await;
    assert_eq!(printed.lines().count(), 2, "{printed}");
}

/// A file that is not whole.
#[tokio::test]
async fn check_says_what_is_wrong() {
    let scene = scene().await;
    let mut bytes = std::fs::read(scene.store()).unwrap();
    let page = 4096;
    let end = bytes.len().min(6 * page);
    bytes[2 * page..end].fill(0xa5);
    std::fs::write(scene.store(), bytes).unwrap();
    let outcome = call(&scene, &["broker", "check"]).await;
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.err.contains("not whole") || outcome.err.contains("damaged"), "{outcome:?}");
}
