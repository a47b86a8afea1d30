//! What the files of the settings `tls_…` say. Each failure names the setting and the file, and what to do.

use crate::config::Config;
use crate::error::{Failure, Kind};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A day behind all that certificates are valid for: their years have four digits.
const END_OF_DAYS: Duration = Duration::from_secs(253_402_300_800);

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// Who the server is, and whose clients it takes.
pub(super) struct Identity {
    certified: Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
    /// Seconds since 1970.
    pub(super) expires_at: Option<u64>,
}

impl Files {
    /// Those of a configuration; `None` without TLS.
    ///
    /// # Errors
    /// [`Kind::InvalidField`] if a setting stands alone.
    pub(super) fn of(config: &Config) -> Result<Option<Files>, Failure> {
        let alone = |set: &str, missing: &str, why: &str| {
            let failure = Failure::new(Kind::InvalidField, format!("{set} is set, and {missing} is not"));
            Err(failure.suggest(format!("{why}: set {missing} to a PEM file")))
        };
        match (&config.tls_certificate, &config.tls_key, &config.tls_client_ca) {
            (Some(certificate), Some(key), client_ca) => {
                Ok(Some(Files { certificate: certificate.clone(), key: key.clone(), client_ca: client_ca.clone() }))
            }
            (Some(_), None, _) => alone("tls_certificate", "tls_key", "a certificate is used with its key"),
            (None, Some(_), _) => alone("tls_key", "tls_certificate", "a key is used with its certificate"),
            (None, None, Some(_)) => {
                alone("tls_client_ca", "tls_certificate", "certificates of clients are asked for over TLS")
            }
            (None, None, None) => Ok(None),
        }
    }

    /// All of them.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).cloned().collect()
    }

    /// Reads and checks them.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if one cannot be read, [`Kind::InvalidField`] if it is not what it should be.
    pub(super) fn read(&self) -> Result<Identity, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let of_certificate = |why: &str| wrong("tls_certificate", &self.certificate, why);
        let chain = certificates("tls_certificate", &self.certificate)?;
        let expires_at = check_dates(&chain[0], &provider).map_err(|why| of_certificate(&why))?;
        let certified = CertifiedKey::from_der(chain, self.read_key()?, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let why = format!("it is not the key of the certificate in {}", self.certificate.display());
                wrong("tls_key", &self.key, &why).suggest("replace both files together, the key first")
            }
            Error::InvalidCertificate(_) => of_certificate("the first certificate in it cannot be read"),
            error => wrong("tls_key", &self.key, &format!("a key of this kind is not taken: {error}")),
        })?;
        let clients = self.client_ca.as_deref().map(|path| verifier(path, &provider)).transpose()?;
        Ok(Identity { certified: Arc::new(certified), clients, provider, expires_at })
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, Failure> {
        let bytes = read("tls_key", &self.key)?;
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        if bytes.windows(encrypted.len()).any(|window| window == encrypted) {
            return Err(wrong("tls_key", &self.key, "the key is locked with a password")
                .suggest("write it without: openssl pkey -in locked.pem -out key.pem, readable for the server alone"));
        }
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong("tls_key", &self.key, "there is no private key in it")
                .suggest("a PEM file has one between -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----"),
            error => wrong("tls_key", &self.key, &format!("it is no PEM: {error}")),
        })
    }
}

impl Identity {
    /// How connections are served that speak one of these protocols.
    ///
    /// # Errors
    /// [`Failure`] if the library has no safe version of TLS.
    pub(super) fn config(&self, protocols: Vec<Vec<u8>>) -> Result<Arc<ServerConfig>, Failure> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(Failure::internal)?;
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let resolver = SingleCertAndKey::from(Arc::clone(&self.certified));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocols;
        Ok(Arc::new(config))
    }
}

/// Who asks for a certificate of every client, by one of a file's authorities.
fn verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", path)? {
        roots.add(certificate).map_err(|error| wrong("tls_client_ca", path, &error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| wrong("tls_client_ca", path, &error.to_string()))
}

/// The certificates of a file, at least one.
fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = read(setting, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| wrong(setting, path, &format!("it is no PEM: {error}")))?;
    if all.is_empty() {
        return Err(wrong(setting, path, "there is no certificate in it")
            .suggest("a PEM file has them between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"));
    }
    Ok(all)
}

/// Until when a certificate is valid, in seconds since 1970, if that is told.
///
/// # Errors
/// That it is not valid now.
fn check_dates(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Result<Option<u64>, String> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|_| "the first certificate in it cannot be read".to_owned())?;
    // Who signed it is for clients to check. That nobody is trusted here is found behind the dates.
    let looked = |at: UnixTime| {
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], at, algorithms).err()
    };
    match looked(UnixTime::now()) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            return Err(format!("the certificate expired at {}", time(not_after)));
        }
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            return Err(format!("the certificate is not valid before {}", time(not_before)));
        }
        _ => {}
    }
    match looked(UnixTime::since_unix_epoch(END_OF_DAYS)) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok(Some(not_after.as_secs()))
        }
        _ => Ok(None),
    }
}

fn time(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::new(Kind::LocalFile, format!("{setting}: {}: {error}", path.display())))
}

fn wrong(setting: &str, path: &Path, why: &str) -> Failure {
    Failure::new(Kind::InvalidField, format!("{setting}: {}: {why}", path.display()))
}
