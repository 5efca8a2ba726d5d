//! What of WASI a component is granted.

use super::output::{GuestStream, Output};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use wasmtime::{Result, error::Context as _};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx};

/// A folder of the host that a component may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// The folder on the host.
    pub host: PathBuf,
    /// The path at which the guest sees it.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub write: bool,
}

/// What of WASI a component is granted, besides standard output and error,
/// clocks and randomness. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasiGrants {
    /// The environment variables that it sees.
    pub env: Vec<(String, String)>,
    /// The arguments that it sees, without the name of the program.
    pub args: Vec<String>,
    /// The folders that it may use.
    pub dirs: Vec<DirectoryGrant>,
    /// Whom it may connect to; `None`: nobody.
    pub network: Option<NetworkGrant>,
}

/// The network as a component may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkGrant {
    /// Everybody; names are looked up for it, and it may listen.
    Any,
    /// Connections to these addresses; `None` for every port.
    Only(Vec<(IpAddr, Option<u16>)>),
}

impl NetworkGrant {
    fn check(&self, address: SocketAddr, used_for: SocketAddrUse) -> bool {
        let Self::Only(allowed) = self else { return true };
        match used_for {
            // The system binds a socket before it connects; nobody may listen.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified(),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                allowed.iter().any(|(ip, port)| {
                    *ip == address.ip().to_canonical()
                        && port.is_none_or(|port| port == address.port())
                })
            }
        }
    }
}

impl WasiGrants {
    /// The context of a new instance.
    pub(super) fn context(&self, component: &str, output: &Output) -> Result<WasiCtx> {
        let mut builder = WasiCtx::builder();
        builder.stdout(output.stream(component, GuestStream::Stdout));
        builder.stderr(output.stream(component, GuestStream::Stderr));
        builder.envs(&self.env);
        builder.arg(component);
        builder.args(&self.args);
        builder.allow_tcp(self.network.is_some()).allow_udp(self.network.is_some());
        if let Some(network) = self.network.clone() {
            builder.allow_ip_name_lookup(network == NetworkGrant::Any);
            builder.socket_addr_check(move |address, used_for| {
                let allowed = network.check(address, used_for);
                Box::pin(async move { allowed })
            });
        }
        for dir in &self.dirs {
            let perms = if dir.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            builder
                .preopened_dir(&dir.host, &dir.guest, perms)
                .with_context(|| format!("the folder {} cannot be opened", dir.host.display()))?;
        }
        Ok(builder.build())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_network_allows_what_it_lists() {
        let (four, six) = ("10.0.0.5".parse().unwrap(), "::1".parse().unwrap());
        let network = NetworkGrant::Only(vec![(four, Some(5432)), (six, None)]);
        for (text, allowed) in [
            ("10.0.0.5:5432", true),
            ("10.0.0.5:80", false),
            ("10.0.0.6:5432", false),
            ("[::1]:80", true),
            ("[::ffff:10.0.0.5]:5432", true),
        ] {
            let address = text.parse().unwrap();
            assert_eq!(network.check(address, SocketAddrUse::TcpConnect), allowed, "{text}");
            assert!(NetworkGrant::Any.check(address, SocketAddrUse::TcpConnect));
            assert!(!network.check(address, SocketAddrUse::TcpListen), "nobody may listen");
        }
    }
}
