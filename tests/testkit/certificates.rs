//! Certificates for one test: an authority, a server and a client.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

/// PEM files of an authority made for one test, and of what it has signed.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost` and 127.0.0.1.
    pub server_cert: PathBuf,
    /// The server's private key.
    pub server_key: PathBuf,
    /// A client's certificate; its common name is `client`.
    pub client_cert: PathBuf,
    /// The client's private key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them, in a folder that exists.
    ///
    /// # Panics
    /// When they cannot be made or written.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of one test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key for the authority");
        let authority =
            CertifiedIssuer::self_signed(params, key).expect("the authority's certificate");

        let (server_cert, server_key) =
            sign(folder, &authority, "server", ExtendedKeyUsagePurpose::ServerAuth);
        let (client_cert, client_key) =
            sign(folder, &authority, "client", ExtendedKeyUsagePurpose::ClientAuth);
        let ca = folder.join("ca.pem");
        fs::write(&ca, authority.pem()).expect("the authority's certificate is written");
        Self { ca, server_cert, server_key, client_cert, client_key }
    }
}

fn sign(
    folder: &Path,
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) -> (PathBuf, PathBuf) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names for a certificate");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a signed certificate");

    let (cert_file, key_file) =
        (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    fs::write(&cert_file, certificate.pem()).expect("a certificate is written");
    fs::write(&key_file, key.serialize_pem()).expect("a key is written");
    (cert_file, key_file)
}
