//! The TLS configuration of a broker's settings.

use super::super::settings::{Identity, MqttSettings, SettingsError};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// Reads the files that the settings name, once, so that what is wrong with
/// them is known before anything is connected.
///
/// # Errors
/// A file cannot be read, or holds no certificate or key that can be used.
pub(in super::super) fn configuration(
    settings: &MqttSettings,
) -> Result<Option<Arc<ClientConfig>>, SettingsError> {
    if !settings.endpoint.is_tls() {
        return Ok(None);
    }
    let mut config = match &settings.ca {
        Some(path) => trusting(path)?,
        None => trusting_the_system()?,
    };
    if let Some(identity) = &settings.identity {
        config.client_auth_cert_resolver = own(identity)?;
    }
    Ok(Some(Arc::new(config)))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("url", Path::new("TLS"), error))
}

fn trusting(path: &Path) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots.add(certificate).map_err(|error| failed("ca_file", path, error))?;
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

fn trusting_the_system() -> Result<ClientConfig, SettingsError> {
    let system = Path::new("the system's certificates");
    match rumqttc::TlsConfiguration::try_default_rustls() {
        Ok(rumqttc::TlsConfiguration::Rustls(config)) => Ok((*config).clone()),
        Ok(_) => Err(failed("ca_file", system, "there are none; name a file")),
        Err(error) => Err(failed("ca_file", system, error)),
    }
}

fn own(identity: &Identity) -> Result<Arc<dyn ResolvesClientCert>, SettingsError> {
    let path = &identity.certificate;
    let chain = certificates("cert_file", path)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)
        .map_err(|error| failed("key_file", &identity.key, error))?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        failed("key_file", &identity.key, format!("with {}: {error}", path.display()))
    })?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(key, path, error))?.collect();
    let found = found.map_err(|error| failed(key, path, error))?;
    if found.is_empty() {
        return Err(failed(key, path, "it holds no certificate in PEM"));
    }
    Ok(found)
}

fn failed(key: &'static str, path: &Path, reason: impl std::fmt::Display) -> SettingsError {
    SettingsError::File { key, path: path.display().to_string(), reason: reason.to_string() }
}
