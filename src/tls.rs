//! The one TLS client configuration: rustls with ring, the system's roots, or none of it where configuration says so.
//!
//! Must not: fall back from encrypted to plain, or skip verification unless told so in words.

pub mod reach;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Encrypted, certificate and name verified.
    #[default]
    Require,
    /// Plain; loopback only.
    Disable,
    /// Encrypted but unverified; said in words at every start.
    Insecure,
}

impl TlsMode {
    /// The word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Disable => "disable",
            Self::Insecure => "insecure",
        }
    }
}

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA file can't be used.
    #[error("cannot read certificates from {path}: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Our own certificate or its key can't be used.
    #[error("cannot use the client certificate: {0}")]
    Identity(String),
    /// The system has no roots.
    #[error("no usable root certificates on this system; install ca-certificates or set ca_file")]
    NoRoots,
    /// rustls refused.
    #[error("TLS setup failed: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A certificate of ours and its key, for servers that want to see one.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// Reads both from PEM: our certificate first, then those that signed it.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let unfit = |what: &str| Error::Identity(what.to_owned());
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unfit("client_cert is not PEM"))?;
        if chain.is_empty() {
            return Err(unfit("client_cert holds no certificate"));
        }
        // What the parser says could repeat a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| unfit("client_key holds no PEM private key"))?;
        Ok(Self { chain, key })
    }
}

/// [`client_config_as`] without a certificate of ours.
pub fn client_config(mode: TlsMode, ca_file: Option<&std::path::Path>) -> Result<Arc<rustls::ClientConfig>, Error> {
    client_config_as(mode, ca_file, None)
}

/// Builds the client configuration. `ca_file` replaces the system's roots. Roots that can't be parsed are skipped: one
/// bad file in `/etc/ssl/certs` must not stop a gateway.
pub fn client_config_as(
    mode: TlsMode,
    ca_file: Option<&std::path::Path>,
    identity: Option<ClientIdentity>,
) -> Result<Arc<rustls::ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if mode == TlsMode::Insecure {
        let verifier = Arc::new(AcceptAny(provider));
        return finished(builder.dangerous().with_custom_certificate_verifier(verifier), identity);
    }
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let failed = |reason: String| Error::Ca { path: path.to_owned(), reason };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| failed(e.to_string()))?;
                roots.add(certificate).map_err(|e| failed(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("it holds no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() && mode == TlsMode::Require {
                return Err(Error::NoRoots);
            }
        }
    }
    finished(builder.with_root_certificates(roots), identity)
}

type Unfinished = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn finished(builder: Unfinished, identity: Option<ClientIdentity>) -> Result<Arc<rustls::ClientConfig>, Error> {
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|_| Error::Identity("client_key does not belong to client_cert".to_owned()))?,
    };
    Ok(Arc::new(config))
}

/// Verifies signatures, but neither chain nor name: for `tls = "insecure"` only.
#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
