//! Who we are to the brokers, and how the connection is protected.
//!
//! Secrets are never settings: a setting says where one stands, in the environment or in a file, and it is read when the source
//! is opened. So nothing that holds settings can print one.

use super::super::SourceError;
use std::fs;
use std::path::PathBuf;

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In this variable of the environment.
    Environment(String),
    /// In this file; line ends at its end do not count.
    File(PathBuf),
}

/// Protection of the connection, and our name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS; none for plain connections.
    pub tls: Option<Tls>,
    /// A name and a password; none to be anonymous or known by certificate.
    pub sasl: Option<Sasl>,
}

/// TLS. Needs the feature `kafka-tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities to trust (PEM); none for the system's.
    pub authority_file: Option<PathBuf>,
    /// Our own certificate (PEM), where brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// The password of that file.
    pub key_password: Option<Secret>,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How they are told.
    pub mechanism: SaslMechanism,
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How a name and a password are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// In the clear: only sensible inside TLS.
    Plain,
    /// Salted challenge and response. Needs the feature `kafka-tls`.
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
}

impl Secret {
    /// Reads it. `setting` is what refers to it.
    ///
    /// # Errors
    /// [`SourceError::Invalid`], which names the place.
    pub(super) fn read(&self, setting: &str) -> Result<String, SourceError> {
        let invalid = |what: String| SourceError::Invalid { setting: setting.to_owned(), what };
        let text = match self {
            Secret::Environment(name) => {
                // The other case, that it is not Unicode, would print the value.
                std::env::var(name)
                    .map_err(|_| invalid(format!("environment variable {name} is not set, or no Unicode")))?
            }
            Secret::File(path) => fs::read_to_string(path)
                .map_err(|error| invalid(format!("read {}: {error}", path.display())))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        };
        if text.is_empty() {
            return Err(invalid("the secret is empty".to_owned()));
        }
        Ok(text)
    }
}

impl Security {
    /// Whether this build has what they need.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        if self.tls.is_some() {
            needs_tls("security.tls")?;
        }
        match &self.sasl {
            Some(sasl) if sasl.mechanism != SaslMechanism::Plain => needs_tls("security.sasl.mechanism"),
            _ => Ok(()),
        }
    }

    /// The library's settings for it.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] if a secret cannot be read.
    pub(super) fn properties(&self) -> Result<Vec<(&'static str, String)>, SourceError> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let mut properties = vec![("security.protocol", protocol.to_owned())];
        if let Some(tls) = &self.tls {
            properties.extend(tls.properties()?);
        }
        if let Some(sasl) = &self.sasl {
            properties.push(("sasl.mechanism", sasl.mechanism.name().to_owned()));
            properties.push(("sasl.username", sasl.user.clone()));
            properties.push(("sasl.password", sasl.password.read("security.sasl.password")?));
        }
        Ok(properties)
    }
}

fn needs_tls(setting: &str) -> Result<(), SourceError> {
    if cfg!(feature = "kafka-tls") {
        return Ok(());
    }
    let what = "this build has no TLS and no SCRAM; build with the feature `kafka-tls`".to_owned();
    Err(SourceError::Invalid { setting: setting.to_owned(), what })
}

impl Tls {
    fn properties(&self) -> Result<Vec<(&'static str, String)>, SourceError> {
        let files = [
            ("ssl.ca.location", "security.tls.authority_file", &self.authority_file),
            ("ssl.certificate.location", "security.tls.certificate_file", &self.certificate_file),
            ("ssl.key.location", "security.tls.key_file", &self.key_file),
        ];
        let mut properties = Vec::new();
        for (property, setting, path) in files {
            let Some(path) = path else { continue };
            let text = path.to_str().ok_or_else(|| SourceError::Invalid {
                setting: setting.to_owned(),
                what: format!("{} is not Unicode", path.display()),
            })?;
            properties.push((property, text.to_owned()));
        }
        if self.authority_file.is_none() {
            // OpenSSL that was built along knows no folder of the system.
            properties.push(("ssl.ca.location", "probe".to_owned()));
        }
        if let Some(password) = &self.key_password {
            properties.push(("ssl.key.password", password.read("security.tls.key_password")?));
        }
        Ok(properties)
    }
}

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}
