//! Reading the `[[component]]` tables.

use super::Problem;
use super::binding::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_BYTES_MIN};
use super::load::name_of;
use super::model::{Component, ComponentSettings, Directory, Instance, Network, Wasi};
use super::section::Section;
use super::source::Located;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

const INSTANCES_MAX: u64 = 1_000;
const CONCURRENCY_MAX: u64 = 10_000;
const MEMORY_MIN: u64 = 64 << 10;
const MEMORY_MAX: u64 = 4 << 30;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read_all(sections: Vec<Section<'_>>) -> Vec<Component> {
    let mut lines: HashMap<String, usize> = HashMap::new();
    sections.into_iter().filter_map(|section| read(section, &mut lines)).collect()
}

fn read(mut section: Section<'_>, lines: &mut HashMap<String, usize>) -> Option<Component> {
    let has_name = section.has("name");
    let name = section.name("name");
    if !section.has("path") {
        section.missing("path", "the file of the component");
    }
    let path = section.path("path");
    let settings = read_settings(&mut section);
    let component = path.and_then(|path| {
        let (name, name_place) = match name {
            Some(name) => (name.value, name.place),
            None if has_name => return None,
            None => (name_of(&path.value), path.place.clone()),
        };
        let line = section.line(&name_place);
        if let Some(&line) = lines.get(&name) {
            let problem = Problem::DuplicateComponent { name, line: Some(line) };
            section.report(&name_place, problem);
            return None;
        }
        lines.insert(name.clone(), line);
        Some(Component { name, path: path.value, place: Some(path.place), settings })
    });
    section.finish(&|_| None);
    component
}

fn read_settings(section: &mut Section<'_>) -> ComponentSettings {
    let default = ComponentSettings::default();
    let words = [("reuse", Instance::Reuse), ("fresh", Instance::Fresh)];
    let number = |found: Option<Located<u64>>, default: usize| {
        found.and_then(|found| usize::try_from(found.value).ok()).unwrap_or(default)
    };
    ComponentSettings {
        instance: section.choice("instance", &words).map_or(default.instance, |i| i.value),
        instances: number(section.integer("instances", 1..=INSTANCES_MAX), default.instances),
        max_concurrency: number(
            section.integer("max_concurrency", 1..=CONCURRENCY_MAX),
            default.max_concurrency,
        ),
        max_in_flight_bytes: section
            .size("max_in_flight_bytes", IN_FLIGHT_BYTES_MIN..=IN_FLIGHT_BYTES_MAX)
            .map_or(default.max_in_flight_bytes, |size| size.value),
        memory_limit: section
            .size("memory_limit", MEMORY_MIN..=MEMORY_MAX)
            .map_or(default.memory_limit, |size| size.value),
        timeout: section
            .duration("timeout", TIMEOUT_MIN..=TIMEOUT_MAX)
            .map_or(default.timeout, |timeout| timeout.value),
        wasi: read_wasi(section),
    }
}

fn read_wasi(section: &mut Section<'_>) -> Wasi {
    let env = section.secret_map("env");
    let args = section
        .strings("args")
        .map_or_else(Vec::new, |args| args.value.into_iter().map(|arg| arg.value).collect());
    let dirs = section.tables("dirs", "[[component.dirs]]");
    let dirs = dirs.into_iter().filter_map(read_directory).collect();
    Wasi { env, args, dirs, network: read_network(section) }
}

fn read_directory(mut section: Section<'_>) -> Option<Directory> {
    if !section.has("host") {
        section.missing("host", "the directory on this machine");
    }
    if !section.has("guest") {
        section.missing("guest", "where the component sees the directory, such as \"/data\"");
    }
    let host = section.directory("host");
    let guest = section.string("guest");
    let write = section.flag("write").is_some_and(|write| write.value);
    section.finish(&|_| None);
    let (host, guest) = (host?.value, guest?.value);
    Some(Directory { host, guest, write })
}

/// `true`, `false`, or a list of addresses with ports.
fn read_network(section: &mut Section<'_>) -> Network {
    if section.peek_is_list("network") {
        let list = section.strings("network").map_or_else(Vec::new, |list| list.value);
        let mut allowed = Vec::new();
        for text in list {
            match address(&text.value) {
                Some(address) => allowed.push(address),
                None => section.invalid(
                    &text.place,
                    "expected an address with a port, such as \"10.0.0.5:5432\", \"[::1]:80\" or \"10.0.0.5:*\"",
                ),
            }
        }
        return Network::Only(allowed);
    }
    match section.flag("network") {
        Some(Located { value: true, .. }) => Network::Any,
        _ => Network::None,
    }
}

/// An address and a port, or `*` for all ports.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip = match ip.strip_prefix('[') {
        Some(ip) => IpAddr::V6(ip.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(ip.parse().ok()?),
    };
    let port = if port == "*" { None } else { Some(port.parse().ok()?) };
    Some((ip, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("10.0.0.5:5432"), Some(("10.0.0.5".parse().unwrap(), Some(5432))));
        assert_eq!(address("[::1]:*"), Some(("::1".parse().unwrap(), None)));
        for text in ["10.0.0.5", "db:5432", "::1:80", "[::1]", "10.0.0.5:99999", "10.0.0.5:"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
