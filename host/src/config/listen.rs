//! Reading `listen` and what belongs to it: the built-in broker on the network.

mod address;
mod model;

pub use address::{DoorAddress, DoorError};
pub use model::{
    AccessRule, Certificate, ListenConfig, ListenFormat, ListenLimits, ListenPlaces, ListenSettings,
};

use super::Problem;
use super::backend::{BackendSection, Key};
use super::section::Section;
use super::source::{Located, Place};
use crate::broker::TopicFilter;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The keys beside `listen` that say how, for hints.
pub const LISTEN_KEYS: &[Key] = &[
    Key { name: "listen", help: "where MQTT clients reach the broker" },
    Key { name: "anonymous", help: "whether clients without a user name are let in" },
    Key { name: "password_file", help: "the users, with the hashes of their passwords" },
    Key { name: "cert_file", help: "the listener's certificate, in PEM" },
    Key { name: "key_file", help: "the private key of `cert_file`, in PEM" },
    Key { name: "client_ca_file", help: "who must have signed the certificates of clients" },
    Key { name: "user_from_certificate", help: "whether a certificate's common name is the user" },
    Key { name: "origins", help: "whose pages may connect over WebSocket" },
    Key { name: "format", help: "\"cloudevents\", \"structured\" or \"raw\"" },
    Key { name: "reason_strings", help: "whether clients are told in words why" },
    Key { name: "access", help: "what clients may publish and subscribe to" },
    Key { name: "listen_limits", help: "the bounds of what clients may take up" },
];

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// What stands for a session that never ends.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Reads all that is said of listening; `None` where nothing is, or it is wrong.
pub(super) fn read(
    section: &mut Section<'_>,
    backend: Option<&dyn BackendSection>,
) -> Option<ListenConfig> {
    let backend = backend?;
    if !backend.features().listener {
        if let Some(place) = section.place_of("listen") {
            section.strings("listen");
            section.report(&place, Problem::NoListener { backend: backend.name() });
        }
        return None;
    }
    let place = section.place_of("listen");
    let doors = doors(section);
    let anonymous = section.flag("anonymous");
    let by_certificate = section.flag("user_from_certificate");
    let rest = rest(section);
    let Some(place) = place else {
        for key in LISTEN_KEYS {
            if let Some(place) = section.place_of(key.name) {
                let reason = "without it no client can come";
                section.report(&place, Problem::Requires { other: "`listen`", reason });
            }
        }
        return None;
    };
    let (doors, rest) = (doors?, rest?);
    check_tls(section, &doors);
    check_anonymous(section, &doors, anonymous.as_ref());
    if let Some(place) = section.place_of("user_from_certificate")
        && !section.has("client_ca_file")
    {
        let (other, reason) = ("`client_ca_file`", "no client is asked for a certificate");
        section.report(&place, Problem::Requires { other, reason });
    }
    let value = |key| section.place_of_value(key).unwrap_or_else(|| place.clone());
    let places = ListenPlaces {
        doors: doors.iter().map(|door| door.place.clone()).collect(),
        passwords: value("password_file"),
        certificate: value("cert_file"),
        key: value("key_file"),
        client_ca: value("client_ca_file"),
        listen: place.clone(),
    };
    let settings = ListenSettings {
        doors: doors.into_iter().map(|door| door.value).collect(),
        anonymous: anonymous.map(|anonymous| anonymous.value),
        user_from_certificate: by_certificate.is_some_and(|flag| flag.value),
        ..rest
    };
    Some(ListenConfig { settings, places })
}

type Doors = Vec<Located<DoorAddress>>;

fn doors(section: &mut Section<'_>) -> Option<Doors> {
    let texts = section.strings("listen")?;
    if texts.value.is_empty() {
        section.invalid(&texts.place, "it names no address: leave it out, or name one");
    }
    let mut doors: Doors = Vec::new();
    for text in texts.value {
        let address = match DoorAddress::parse(&text.value) {
            Ok(address) => address,
            Err(DoorError::Credentials) => {
                section.hide(&text.place);
                section.invalid(&text.place, DoorError::Credentials.to_string());
                continue;
            }
            Err(error) => {
                section.invalid(&text.place, error.to_string());
                continue;
            }
        };
        if doors.iter().any(|door| door.value.meets(&address)) {
            section.invalid(&text.place, "another address of this list has the same port");
            continue;
        }
        doors.push(Located { value: address, place: text.place });
    }
    (!doors.is_empty()).then_some(doors)
}

/// Certificates belong to TLS, and TLS needs one.
fn check_tls(section: &Section<'_>, doors: &Doors) {
    let tls = doors.iter().find(|door| door.value.is_tls);
    if let Some(door) = tls
        && !section.has("cert_file")
    {
        let (other, reason) = ("`cert_file` and `key_file`", "TLS shows clients a certificate");
        section.report(&door.place, Problem::Requires { other, reason });
    }
    if tls.is_some() {
        return;
    }
    for key in ["cert_file", "key_file", "client_ca_file"] {
        if let Some(place) = section.place_of(key) {
            let (other, reason) = ("an address with mqtts:// or wss://", "it is for TLS");
            section.report(&place, Problem::Requires { other, reason });
        }
    }
}

/// Whoever comes from another machine has to say who it is, unless that is not
/// wanted.
fn check_anonymous(section: &Section<'_>, doors: &Doors, anonymous: Option<&Located<bool>>) {
    if anonymous.is_some_and(|anonymous| anonymous.value) {
        return;
    }
    for door in doors {
        let address = &door.value;
        let by_certificate = address.is_tls && section.has("client_ca_file");
        let is_known = section.has("password_file") || by_certificate;
        if is_known || address.is_loopback() && anonymous.is_none() {
            continue;
        }
        let (other, reason) = match anonymous {
            None => (
                "`password_file`, `client_ca_file` with TLS, or anonymous = true",
                "clients of other machines reach it, and nothing says who they are",
            ),
            Some(_) => (
                "`password_file`, or `client_ca_file` with TLS",
                "with anonymous = false nobody could come in here",
            ),
        };
        section.report(&door.place, Problem::Requires { other, reason });
    }
}

/// What stands beside `listen` and `anonymous`. `None` where a file cannot be used,
/// or lacks another.
fn rest(section: &mut Section<'_>) -> Option<ListenSettings> {
    let keys = ["password_file", "cert_file", "key_file", "client_ca_file"];
    let files = keys.map(|key| section.file(key).map(|found| found.value));
    let mut usable = keys.iter().zip(&files).all(|(key, file)| file.is_some() || !section.has(key));
    let [passwords, chain, key, client_ca] = files;
    for (key, other, text) in
        [("cert_file", "key_file", "`key_file`"), ("key_file", "cert_file", "`cert_file`")]
    {
        if let (Some(place), false) = (section.place_of(key), section.has(other)) {
            let reason = "one is of no use without the other";
            section.report(&place, Problem::Requires { other: text, reason });
            usable = false;
        }
    }
    let origins = section.strings("origins").map_or_else(Vec::new, |found| {
        found.value.into_iter().filter_map(|text| origin(section, text)).collect()
    });
    let formats = [
        ("cloudevents", ListenFormat::CloudEvents),
        ("structured", ListenFormat::Structured),
        ("raw", ListenFormat::Raw),
    ];
    let format = section.choice("format", &formats).map_or_else(Default::default, |f| f.value);
    let reason_strings = section.flag("reason_strings").map(|flag| flag.value);
    let rules = section.tables("access", "[[capability.config.access]]");
    let access = rules.into_iter().map(rule).collect();
    let limits = limits(section);
    let certificate = chain.zip(key).map(|(chain, key)| Certificate { chain, key });
    let settings = ListenSettings {
        passwords,
        certificate,
        client_ca,
        origins,
        format,
        reason_strings,
        access,
        limits,
        ..ListenSettings::default()
    };
    usable.then_some(settings)
}

/// An origin as browsers write it, or `*`.
fn origin(section: &Section<'_>, text: Located<String>) -> Option<String> {
    let is_origin = text.value == "*"
        || url::Url::parse(&text.value)
            .is_ok_and(|url| url.origin().ascii_serialization() == text.value);
    if !is_origin {
        let reason = "expected an origin such as \"https://example.com\", or \"*\" for any";
        section.invalid(&text.place, reason);
    }
    is_origin.then_some(text.value)
}

fn rule(mut section: Section<'_>) -> AccessRule {
    let names = |section: &mut Section<'_>, key| {
        let found = section.strings(key)?;
        Some(found.value.into_iter().map(|text| text.value).collect())
    };
    let rule = AccessRule {
        users: names(&mut section, "users"),
        client_ids: names(&mut section, "client_ids"),
        publish: filters(&mut section, "publish"),
        subscribe: filters(&mut section, "subscribe"),
        deny_publish: filters(&mut section, "deny_publish"),
        deny_subscribe: filters(&mut section, "deny_subscribe"),
    };
    let says = ["publish", "subscribe", "deny_publish", "deny_subscribe"];
    if !says.iter().any(|key| section.has(key)) {
        let other = "`publish`, `subscribe`, `deny_publish` or `deny_subscribe`";
        let reason = "a rule says what it grants or denies";
        section.report(section.place(), Problem::Requires { other, reason });
    }
    section.finish(&|_| None);
    rule
}

/// Filters in which `{user}` and `{client_id}` may stand for a level.
fn filters(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let Some(texts) = section.strings(key) else { return Vec::new() };
    let filled = |text: &str| text.replace("{user}", "x").replace("{client_id}", "x");
    let texts = texts.value.into_iter().filter(|text| {
        let place: Place = text.place.clone();
        let checked = Located { value: filled(&text.value), place };
        section.checked_topic(checked, TopicFilter::new).is_some()
    });
    texts.map(|text| text.value).collect()
}

fn limits(section: &mut Section<'_>) -> ListenLimits {
    const INDEX: RangeInclusive<u64> = 1..=65_535;
    const NUMBER: RangeInclusive<u64> = 1..=10_000_000;
    const BYTES: RangeInclusive<u64> = 1024..=64 << 30;
    let Some(mut table) = section.table("listen_limits") else { return ListenLimits::default() };
    let number = |table: &mut Section<'_>, key, range| {
        table.integer(key, range).and_then(|found| usize::try_from(found.value).ok())
    };
    let bytes = |table: &mut Section<'_>, key, range| table.size(key, range).map(|b| b.value);
    let time =
        |table: &mut Section<'_>, key, max| table.duration(key, SECOND..=max).map(|t| t.value);
    let limits = ListenLimits {
        connections: number(&mut table, "connections", 1..=1_000_000),
        connections_per_address: number(&mut table, "connections_per_address", 1..=1_000_000),
        connect_bytes: bytes(&mut table, "connect_bytes", 256..=16 << 20),
        connect_time: time(&mut table, "connect_time", DAY),
        packet_size: bytes(&mut table, "packet_size", 1024..=268_435_460),
        send_buffer: bytes(&mut table, "send_buffer", BYTES),
        send_time: time(&mut table, "send_time", DAY),
        publish_rate: number(&mut table, "publish_rate", NUMBER),
        byte_rate: bytes(&mut table, "byte_rate", BYTES),
        publish_time: time(&mut table, "publish_time", DAY),
        receive: number(&mut table, "receive", INDEX),
        receive_bytes: bytes(&mut table, "receive_bytes", BYTES),
        in_flight: number(&mut table, "in_flight", INDEX),
        in_flight_bytes: bytes(&mut table, "in_flight_bytes", BYTES),
        queued: number(&mut table, "queued", NUMBER),
        queued_bytes: bytes(&mut table, "queued_bytes", BYTES),
        topic_aliases: number(&mut table, "topic_aliases", 0..=65_535),
        topic_levels: number(&mut table, "topic_levels", 1..=32_768),
        keep_alive: time(&mut table, "keep_alive", Duration::from_secs(65_535)),
        subscriptions: number(&mut table, "subscriptions", NUMBER),
        sessions: number(&mut table, "sessions", NUMBER),
        session_expiry: time(&mut table, "session_expiry", FOREVER),
        retained: number(&mut table, "retained", NUMBER),
        retained_bytes: bytes(&mut table, "retained_bytes", BYTES),
    };
    table.finish(&|_| None);
    limits
}
