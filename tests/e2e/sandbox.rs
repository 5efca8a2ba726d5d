//! What of WASI a component gets: nothing, and what its table grants.

use crate::support::{Jobs, Scene, drain};
use std::net::TcpListener;
use testkit::{Host, Stream::Out};

async fn run(component: &str, steps: &str, last: &str) -> Host {
    let scene = Scene::memory();
    std::fs::create_dir(scene.folder().join("shared")).unwrap();
    std::fs::write(scene.folder().join("shared/note"), "hello").unwrap();
    Jobs { component, events: &[steps], ..Jobs::default() }.write(&scene);
    let command = scene.command(&["run"]).env("SECRET", "of the host");
    let mut host = command.start();
    host.wait_for(Out, last).await;
    drain(&mut host).await;
    host
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn without_a_grant_a_component_sees_nothing_of_the_host() {
    let (listener, address) = listener();
    let steps =
        format!("env SECRET; env HOME; args; read /etc/hostname; read note; connect {address}");
    let host = run("", &steps, "handler | connect").await;
    let lines = host.lines().of(Out);
    let [secret, home, args, root, note, connect] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((secret.as_str(), home.as_str()), ("handler | env None", "handler | env None"));
    assert_eq!(args, r#"handler | args ["handler"]"#);
    for denied in [root, note, connect] {
        assert!(denied.contains("Err("), "{denied}");
    }
    assert!(listener.accept().is_err(), "nobody has connected");
}

#[tokio::test]
async fn what_is_granted_is_there_and_nothing_else() {
    let (listener, address) = listener();
    let (_other, denied) = self::listener();
    let component = format!(
        "env = {{ CURRENCY = \"EUR\" }}\nargs = [\"one\", \"two words\"]\nnetwork = [\"{address}\"]\n\
         dirs = [{{ host = \"shared\", guest = \"/data\" }}]"
    );
    let steps = format!(
        "env CURRENCY; env SECRET; args; read /data/note; read /data/../../etc/hostname; \
         connect {address}; connect {denied}"
    );
    let host = run(&component, &steps, "handler | connect Err").await;
    let lines = host.lines().of(Out);
    let [currency, secret, args, note, outside, granted, refused] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(currency, r#"handler | env Some("EUR")"#);
    assert_eq!(secret, "handler | env None");
    assert_eq!(args, r#"handler | args ["handler", "one", "two words"]"#);
    assert_eq!(note, r#"handler | read Ok("hello")"#);
    assert!(outside.contains("read Err("), "{outside}");
    assert_eq!(granted, "handler | connect Ok(())");
    assert!(refused.contains("connect Err("), "{refused}");
    assert!(listener.accept().is_ok(), "it has connected");
}

#[tokio::test]
async fn a_command_gets_its_environment() {
    let scene = Scene::memory();
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
[[component]]
name = "command"
path = "$GUESTS/faulty-command.wasm"
env = { STEPS = "print ${GREETING} there" }
"#,
    );
    let mut host = scene.command(&["run"]).env("GREETING", "hello").start();
    host.expect_exit(0).await;
    assert_eq!(host.lines().of(Out), ["command | hello there"]);
}
