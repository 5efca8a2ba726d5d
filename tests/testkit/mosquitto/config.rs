//! The configuration file of a mosquitto.

use super::Mosquitto;
use std::fmt::Write;

impl Mosquitto {
    pub(super) fn config(&self) -> String {
        let folder = self.folder.path().display();
        let b = &self.builder;
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
        line("per_listener_settings false".into());
        // Started as root it would become another user, who may not read here.
        line("user root".into());
        line("log_dest stderr\nlog_type all\nset_tcp_nodelay true".into());
        line(format!("allow_anonymous {}", b.password.is_none()));
        if b.password.is_some() {
            line(format!("password_file {folder}/passwords"));
        }
        line(format!("persistence {}", b.persistence));
        if b.persistence {
            line(format!("persistence_location {folder}/\nautosave_interval 0"));
        }
        // Its own limits on queues would drop events of a test.
        line("max_queued_messages 0\nmax_inflight_messages 100".into());
        if let Some(bytes) = b.max_packet_bytes {
            line(format!("max_packet_size {bytes}"));
        }
        b.lines.iter().cloned().for_each(&mut line);

        line(format!("listener {} 127.0.0.1", self.port));
        if b.websocket {
            line(format!("listener {} 127.0.0.1\nprotocol websockets", self.websocket_port));
        }
        if b.unix_socket {
            line(format!("listener 0 {}", self.socket_path().display()));
        }
        if let Some(c) = &self.certificates {
            line(format!("listener {} 127.0.0.1", self.tls_port));
            line(format!("cafile {}\ncertfile {}", c.ca.display(), c.server_cert.display()));
            line(format!("keyfile {}", c.server_key.display()));
            line(format!("require_certificate {}", b.client_certificates));
        }
        text
    }
}
