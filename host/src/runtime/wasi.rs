//! What of WASI a component is granted.

use super::output::{GuestStream, Output};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
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
#[derive(Clone, Debug, Default)]
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
#[derive(Clone)]
pub struct NetworkGrant {
    /// Whether a connection to an address is allowed.
    pub allows: Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>,
    /// Whether names are looked up, and ports may be listened on.
    pub unrestricted: bool,
}

impl fmt::Debug for NetworkGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkGrant")
            .field("unrestricted", &self.unrestricted)
            .finish_non_exhaustive()
    }
}

impl NetworkGrant {
    fn check(&self, address: SocketAddr, used_for: SocketAddrUse) -> bool {
        match used_for {
            _ if self.unrestricted => true,
            // The system binds a socket before it connects; nobody may listen.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified(),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                (self.allows)(address)
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
            builder.allow_ip_name_lookup(network.unrestricted);
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
