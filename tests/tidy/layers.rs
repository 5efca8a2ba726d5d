//! The rules for the host's sources: which layer may name which, which crate
//! belongs where, what nobody may call, and how long a file may be.

use crate::code::{code_only, is_name, line_of, without_tests, words};

/// The layers of the host, and what each may name. ARCHITECTURE.md has the
/// reasons.
const LAYERS: [(&str, &[&str]); 10] = [
    ("broker", &[]),
    ("capability", &["broker"]),
    ("config", &["broker"]),
    ("builtin", &["broker"]),
    ("mqtt", &["broker"]),
    ("backends", &["broker", "builtin", "config", "mqtt"]),
    ("listener", &["broker", "builtin", "mqtt"]),
    ("runtime", &["broker", "capability"]),
    ("telemetry", &["broker", "runtime"]),
    (
        "cli",
        &[
            "backends",
            "broker",
            "builtin",
            "capability",
            "config",
            "listener",
            "mqtt",
            "runtime",
            "telemetry",
        ],
    ),
];

/// Crates, and the only places that may name them.
const CRATES: [(&str, &[&str]); 17] = [
    ("wasmtime", &["capability/", "runtime/"]),
    ("wasmtime_wasi", &["capability/", "runtime/"]),
    ("bindgen", &["capability/bindings.rs"]),
    ("rumqttc", &["backends/mqtt/client"]),
    ("rumqttc_v4", &["backends/mqtt/client"]),
    ("rusqlite", &["backends/disk/"]),
    ("hyper", &["listener/", "telemetry/"]),
    ("hyper_util", &["listener/", "telemetry/"]),
    ("prometheus_client", &["telemetry/metrics/"]),
    ("opentelemetry", &["telemetry/traces/"]),
    ("opentelemetry_otlp", &["telemetry/traces/"]),
    ("opentelemetry_sdk", &["telemetry/traces/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("directories", &["cli/"]),
    ("tracing_subscriber", &["cli/"]),
];

/// What no source of the host calls.
const BANNED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
/// What only the command line and tests call: the terminal, the environment and
/// the process belong to them.
const COMMAND_LINE_ONLY: [&str; 6] =
    ["println!", "print!", "eprintln!", "eprint!", "std::env", "process::exit"];

/// The most lines of a file, unit tests apart.
const FILE_LINES_MAX: usize = 500;

/// What is wrong with a source file of the host, one line each. `path` is
/// relative to `host/src`, with `/`.
pub(crate) fn check(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut found = Vec::new();
    found.extend(check_layers(path, &code));
    found.extend(check_crates(path, &code));
    found.extend(check_calls(path, &code));
    let lines = without_tests(&code).lines().count();
    if lines > FILE_LINES_MAX && !is_test(path) {
        found.push(format!("{path}: {lines} lines, and {FILE_LINES_MAX} are the limit"));
    }
    found
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

fn check_layers(path: &str, code: &str) -> Vec<String> {
    let Some((layer, rest)) = path.split_once('/') else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{path}: `{layer}` is no layer that the rules know")];
    };
    let own_backend = rest.split_once('/').map(|(backend, _)| backend);
    let mut found = Vec::new();
    for (at, Named { module, item }) in named_modules(path, code) {
        let is_layer = LAYERS.iter().any(|(layer, _)| *layer == module);
        let problem = if is_layer && module != layer && !allowed.contains(&module.as_str()) {
            format!("`{layer}` may not name `{module}`")
        } else if module == "capability" && layer != "capability" && item == "bindings" {
            "generated types stay in `capability`".into()
        } else if layer == "backends"
            && module == "backends"
            && own_backend.is_some_and(|own| own != item)
        {
            format!("a backend may not name another one: `{item}`")
        } else {
            continue;
        };
        found.push(format!("{path}:{}: {problem}", line_of(code, at)));
    }
    if path == "capability/mod.rs" {
        for public in ["pub mod bindings", "pub use bindings", "pub use self::bindings"] {
            for at in words(code, public) {
                found.push(format!("{path}:{}: generated types stay inside", line_of(code, at)));
            }
        }
    }
    found
}

/// A path from the root of the crate: its first two segments; the second is
/// empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    module: String,
    item: String,
}

/// What a file names by a path from the root of the crate: `crate::a::b`,
/// `crate::{a::b, c}` and `super::super::a`, as far up as it goes.
fn named_modules(path: &str, code: &str) -> Vec<(usize, Named)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        if let Some(rest) = code[at..].strip_prefix("crate::") {
            found.extend(paths(rest).into_iter().map(|named| (at, named)));
        }
    }
    // How many steps up lead to the root; a module within the file needs one more.
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let climb = "super::".repeat(module.split('/').count());
    for (at, _) in code.match_indices(&climb) {
        let rest = code[at + climb.len()..].trim_start_matches("super::");
        let is_layer = |named: &Named| LAYERS.iter().any(|(layer, _)| *layer == named.module);
        found.extend(paths(rest).into_iter().filter(is_layer).map(|named| (at, named)));
    }
    found
}

/// The paths that a text begins with: one, or those in braces.
fn paths(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for path in alternatives(text) {
        let Some((module, rest)) = first_segment(path) else { continue };
        let items = alternatives(rest);
        let mut items: Vec<_> = items.into_iter().filter_map(first_segment).collect();
        if items.is_empty() {
            items.push(("", ""));
        }
        let named = |(item, _): (&str, &str)| Named { module: module.into(), item: item.into() };
        found.extend(items.into_iter().map(named));
    }
    found
}

/// What a path goes on with: the parts in braces, or the text itself.
fn alternatives(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let Some(inner) = text.strip_prefix('{') else { return vec![text] };
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                parts.push(inner[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    parts
}

/// The name that a path begins with, and what follows its `::`.
fn first_segment(path: &str) -> Option<(&str, &str)> {
    let end = path.find(|c| !is_name(c)).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    (!name.is_empty()).then(|| (name, rest.strip_prefix("::").unwrap_or("")))
}

fn check_crates(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, places) in CRATES {
        if places.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for at in words(code, name) {
            // A name of our own is followed by something else.
            let after = &code[at + name.len()..];
            let is_crate =
                after.starts_with("::") || after.starts_with('!') || after.starts_with(" as ");
            if is_crate || code[..at].trim_end().ends_with("use") {
                let line = line_of(code, at);
                found
                    .push(format!("{path}:{line}: `{name}` is for {} alone", places.join(" and ")));
            }
        }
    }
    found
}

fn check_calls(path: &str, code: &str) -> Vec<String> {
    let is_command_line = path.starts_with("cli/");
    let mut found = Vec::new();
    let mut ban = |names: &[&str], code: &str| {
        for name in names {
            for at in words(code, name.trim_end_matches('!')) {
                if code[at..].starts_with(name) {
                    found.push(format!(
                        "{path}:{}: `{name}` is not allowed here",
                        line_of(code, at)
                    ));
                }
            }
        }
    };
    ban(&BANNED, code);
    if !is_command_line && !is_test(path) {
        ban(&COMMAND_LINE_ONLY, without_tests(code));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that a file has one fault, at a line, that contains a text.
    fn refuses(path: &str, text: &str, line: usize, part: &str) {
        let found = check(path, text);
        let is_it =
            |fault: &String| fault.starts_with(&format!("{path}:{line}: ")) && fault.contains(part);
        assert!(matches!(found.as_slice(), [fault] if is_it(fault)), "{path}: {found:?}");
    }

    fn accepts(path: &str, text: &str) {
        assert_eq!(check(path, text), [""; 0], "{path}: {text}");
    }

    #[test]
    fn imports_go_down() {
        accepts("runtime/worker.rs", "use crate::broker::Lease;\nuse crate::capability::Role;");
        accepts("cli/run.rs", "use crate::{backends, config::load, runtime::Service};");
        accepts("backends/mqtt/mod.rs", "use crate::config::Section;\nuse super::x;");
        refuses(
            "broker/qos.rs",
            "\nuse crate::capability::Role;",
            2,
            "`broker` may not name `capability`",
        );
        refuses("capability/mod.rs", "fn f(x: crate::runtime::Host) {}", 1, "`runtime`");
        refuses(
            "runtime/engine.rs",
            "use crate::{broker::{Lease, Qos},\nbackends};",
            1,
            "`backends`",
        );
        refuses("config/load.rs", "use crate::{\n  broker::Qos, cli};", 1, "`cli`");
        refuses("backends/memory/mod.rs", "use crate::runtime::Host;", 1, "`runtime`");
        assert_eq!(
            check("extra/mod.rs", ""),
            ["extra/mod.rs: `extra` is no layer that the rules know"]
        );
    }

    #[test]
    fn a_path_that_climbs_is_seen() {
        accepts("runtime/worker.rs", "use super::broker;");
        refuses("broker/qos.rs", "use super::super::runtime::Host;", 1, "`runtime`");
        refuses("broker/delivery/mod.rs", "use super::super::runtime;", 1, "`runtime`");
        refuses("broker/mod.rs", "use super::cli;", 1, "`cli`");
        refuses("broker/qos.rs", "mod tests { use super::super::super::cli; }", 1, "`cli`");
    }

    #[test]
    fn what_is_no_code_names_nothing() {
        accepts(
            "broker/qos.rs",
            "//! See [`crate::cli`].\nconst A: &str = \"crate::cli, todo!()\";",
        );
    }

    #[test]
    fn backends_do_not_know_each_other() {
        accepts("backends/mqtt/source.rs", "use crate::backends::mqtt::Session;");
        accepts("backends/mod.rs", "use crate::backends::mqtt;");
        refuses("backends/mqtt/source.rs", "use crate::backends::memory::Queue;", 1, "`memory`");
        refuses(
            "backends/mqtt/source.rs",
            "use super::super::super::backends::memory;",
            1,
            "`memory`",
        );
    }

    #[test]
    fn generated_types_stay_where_they_are_made() {
        accepts("capability/convert.rs", "use super::bindings::Event;");
        accepts("runtime/command.rs", "use wasmtime_wasi::p2::bindings::Command;");
        refuses("runtime/command.rs", "use crate::capability::bindings::Event;", 1, "generated");
        refuses("runtime/command.rs", "use crate::capability::{Role, bindings};", 1, "generated");
        refuses("capability/mod.rs", "pub use bindings::Event;", 1, "generated");
        refuses("capability/basic.rs", "wasmtime::component::bindgen!({});", 1, "`bindgen`");
    }

    #[test]
    fn crates_have_their_place() {
        accepts("runtime/engine.rs", "use wasmtime::Engine;");
        accepts("backends/mqtt/client/v5.rs", "use rumqttc::Client;");
        accepts("config/load.rs", "/// As wasmtime::Engine.\nlet clap = 1;");
        for path in ["broker/qos.rs", "backends/mqtt/client.rs", "cli/run.rs", "config/load.rs"] {
            refuses(path, "use wasmtime::Engine;", 1, "`wasmtime`");
        }
        refuses("runtime/engine.rs", "fn f(a: rumqttc::Client) {}", 1, "`rumqttc`");
        refuses("backends/mqtt/source.rs", "use rumqttc_v4 as client;", 1, "`rumqttc_v4`");
        refuses("config/load.rs", "use clap;", 1, "`clap`");
    }

    #[test]
    fn some_calls_are_banned() {
        refuses("cli/run.rs", "fn f() { todo!() }", 1, "`todo!`");
        refuses("cli/run.rs", "\nfn f() { dbg!(1) }", 2, "`dbg!`");
        refuses("broker/qos.rs", "fn f() { std::println!(\"\") }", 1, "`println!`");
        refuses("config/load.rs", "fn f() { std::env::var(\"\") }", 1, "`std::env`");
        refuses("runtime/mod.rs", "fn f() { std::process::exit(1) }", 1, "`process::exit`");
        accepts("cli/run.rs", "fn f() { println!(); std::process::exit(1) }");
        accepts("broker/qos.rs", "fn f() {}\n#[cfg(test)]\nmod tests { fn f() { println!() } }");
        accepts("broker/delivery/tests.rs", "fn f() { println!() }");
        accepts("broker/qos.rs", "fn todo() { println() }");
    }

    #[test]
    fn files_are_short() {
        let lines = |count: usize| "//\n".repeat(count);
        accepts("broker/qos.rs", &lines(FILE_LINES_MAX));
        assert_eq!(check("broker/qos.rs", &lines(FILE_LINES_MAX + 1)).len(), 1);
        accepts("broker/tests.rs", &lines(FILE_LINES_MAX + 1));
        let tested =
            format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", lines(FILE_LINES_MAX));
        accepts("broker/qos.rs", &tested);
    }
}
