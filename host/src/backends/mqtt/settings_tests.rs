#![allow(clippy::unwrap_used)]
use super::*;

fn tcp(host: &str, port: u16, tls: bool) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port, tls }
}

#[test]
fn every_transport_has_its_scheme_and_port() {
    for (url, endpoint) in [
        ("tcp://localhost:1883", tcp("localhost", 1883, false)),
        ("mqtt://localhost", tcp("localhost", 1883, false)),
        ("tcp://localhost/", tcp("localhost", 1883, false)),
        ("mqtts://broker.example", tcp("broker.example", 8883, true)),
        ("ssl://broker.example:9", tcp("broker.example", 9, true)),
        ("tcp://[::1]:1884", tcp("::1", 1884, false)),
        ("unix:///run/mqtt.sock", Endpoint::Unix("/run/mqtt.sock".into())),
        ("unix:///run/with%20space", Endpoint::Unix("/run/with space".into())),
    ] {
        assert_eq!(Endpoint::parse(url), Ok(endpoint), "{url}");
    }
    let web_socket = |url, port, tls, path: &str| {
        let path = path.to_owned();
        let expected = Endpoint::WebSocket { host: "h".into(), port, tls, path };
        assert_eq!(Endpoint::parse(url), Ok(expected), "{url}");
    };
    web_socket("ws://h", 80, false, "/");
    web_socket("ws://h:8080/mqtt?a=b", 8080, false, "/mqtt?a=b");
    web_socket("wss://h/mqtt", 443, true, "/mqtt");
}

#[test]
fn what_is_shown_can_be_read_again() {
    for url in ["mqtt://h:1", "mqtts://[::1]:8883", "ws://h:80/mqtt", "unix:///run/mqtt.sock"] {
        assert_eq!(Endpoint::parse(url).unwrap().to_string(), url);
    }
}

#[test]
fn what_is_no_brokers_url_is_refused_with_its_reason() {
    for url in [
        "",
        "localhost",
        "localhost:1883",
        "http://h",
        "tcp://",
        "tcp:///x",
        "tcp://h/path",
        "tcp://h?x=1",
        "tcp://h#x",
        "tcp://h:99999",
        "tcp://h:0",
        "unix://host/path",
        "unix:///",
        "ws://h#x",
    ] {
        let error = Endpoint::parse(url).unwrap_err();
        assert_eq!(error.key(), "url");
        assert!(error.to_string().contains("tcp://, mqtt://"), "{url}: {error}");
    }
}

#[test]
fn a_password_is_never_shown() {
    for url in ["tcp://u:geheim@h", "tcp://u:geheim@h:99999", "tcp://u@h"] {
        let error = MqttSettings::new(url).unwrap_err();
        assert_eq!(error, SettingsError::CredentialsInUrl);
        assert!(!error.to_string().contains("geheim"));
    }
    let mut settings = MqttSettings::new("tcp://h").unwrap();
    settings.password = Some("geheim".into());
    assert!(!format!("{settings:?}").contains("geheim"));
}

#[test]
fn what_no_key_shows_by_itself_is_checked() {
    let checked = |change: fn(&mut MqttSettings)| {
        let mut settings = MqttSettings::new("tcp://h").unwrap();
        change(&mut settings);
        settings.validate().map_err(|error| error.key())
    };
    assert_eq!(checked(|_| {}), Ok(()));
    assert_eq!(checked(|s| s.password = Some("x".into())), Err("password"));
    assert_eq!(checked(|s| s.client_id = Some(String::new())), Err("client_id"));
    assert_eq!(checked(|s| s.client_id = Some("a\0".into())), Err("client_id"));
    assert_eq!(checked(|s| s.keep_alive = Duration::from_secs(65_536)), Err("keep_alive"));
    assert_eq!(checked(|s| s.keep_alive = Duration::from_millis(500)), Err("keep_alive"));
    assert_eq!(checked(|s| s.keep_alive = Duration::ZERO), Ok(()));
    assert_eq!(checked(|s| s.session_expiry = Duration::MAX), Err("session_expiry"));
    assert_eq!(checked(|s| s.packet_bytes_max = 10), Err("max_packet_size"));
    assert_eq!(checked(|s| s.ca = Some("ca.pem".into())), Err("ca_file"));
}

#[test]
fn equal_settings_mean_one_broker() {
    let settings = |url| MqttSettings::new(url).unwrap();
    assert_eq!(settings("tcp://h:1883"), settings("mqtt://h"));
    assert_ne!(settings("tcp://h"), settings("mqtts://h:1883"));
}

#[test]
fn names_of_versions_and_formats() {
    assert_eq!(Version::parse("3.1.1"), Ok(Version::V3_1_1));
    assert_eq!(Version::parse("5"), Ok(Version::V5));
    let error = Version::parse("4").unwrap_err().to_string();
    assert_eq!(error, "`version`: `4` is not allowed: \"auto\", \"5\" or \"3.1.1\"");
    assert_eq!(Format::parse("raw"), Ok(Format::Raw));
    assert_eq!(Format::parse("json").unwrap_err().key(), "format");
}
