//! TLS: what a listener shows, and which clients' certificates it wants.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// The parts of a TLS listener, as the text of PEM files.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The server's certificate, and those between it and a root.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
    /// Where clients have to show a certificate: who must have signed it.
    pub client_ca: Option<&'a [u8]>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text of a file is not what it should be.
    #[error("{what}: {text}")]
    Pem {
        /// Which file.
        what: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// The parts do not fit together.
    #[error("TLS: {0}")]
    Unfit(String),
}

/// Makes the configuration of a listener.
///
/// # Errors
/// A file has no certificate or key, or they do not belong together.
pub fn server_config(pem: Pem<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates("the certificate", pem.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key)
        .map_err(|error| TlsError::Pem { what: "the key", text: error.to_string() })?;
    let unfit = |error: &dyn std::fmt::Display| TlsError::Unfit(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?;
    let builder = match pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the clients' CA", ca)? {
                roots.add(certificate).map_err(|error| unfit(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| unfit(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| unfit(&error))?;
    Ok(Arc::new(config))
}

fn certificates(what: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| TlsError::Pem { what, text: error.to_string() })?;
    match found.is_empty() {
        true => Err(TlsError::Pem { what, text: "there is no certificate in it".to_owned() }),
        false => Ok(found),
    }
}
