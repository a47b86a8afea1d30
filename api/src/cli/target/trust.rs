//! Whom a command trusts, and who it says it is, where a server speaks TLS.

use crate::error::{Failure, Kind};
use reqwest::{Certificate, Identity};
use std::error::Error;
use std::path::{Path, PathBuf};

/// Files of a command, as it is called.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(in crate::cli) struct TrustArguments {
    /// Trust servers with a certificate of these authorities (PEM), and not those that the system trusts
    #[arg(long, value_name = "FILE", env = "BELUGA_CA", global = true)]
    ca: Option<PathBuf>,
    /// Show this certificate to a server that asks for one (PEM)
    #[arg(long, value_name = "FILE", env = "BELUGA_CLIENT_CERTIFICATE", global = true)]
    client_certificate: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "BELUGA_CLIENT_KEY", global = true)]
    client_key: Option<PathBuf>,
}

/// What those files say.
#[derive(Clone)]
pub(super) struct Trust {
    authorities: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

impl TrustArguments {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Failure`], with the flag and the file.
    pub(super) fn read(&self) -> Result<Trust, Failure> {
        let authorities = self.ca.as_deref().map(|path| {
            let all = Certificate::from_pem_bundle(&read("--ca", path)?);
            let all = all.map_err(|error| wrong("--ca", path, &innermost(&error)))?;
            if all.is_empty() { Err(wrong("--ca", path, "there is no certificate in it (PEM)")) } else { Ok(all) }
        });
        let identity = match (&self.client_certificate, &self.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let both = [read("--client-key", key)?, read("--client-certificate", certificate)?].join(&b'\n');
                let read = Identity::from_pem(&both);
                Some(read.map_err(|error| wrong("--client-certificate", certificate, &innermost(&error)))?)
            }
            (there, _) => {
                let missing = if there.is_some() { "--client-key" } else { "--client-certificate" };
                let detail = format!("a certificate is shown with its key: {missing} is missing");
                return Err(Failure::new(Kind::InvalidField, detail));
            }
        };
        Ok(Trust { authorities: authorities.transpose()?, identity })
    }
}

impl Trust {
    /// For a client that waits.
    pub(super) fn blocking(&self, builder: reqwest::blocking::ClientBuilder) -> reqwest::blocking::ClientBuilder {
        let builder = match &self.authorities {
            Some(authorities) => builder.tls_certs_only(authorities.clone()),
            None => builder,
        };
        self.identity.iter().fold(builder, |builder, identity| builder.identity(identity.clone()))
    }

    /// For one that does not.
    pub(super) fn waiting_for_none(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let builder = match &self.authorities {
            Some(authorities) => builder.tls_certs_only(authorities.clone()),
            None => builder,
        };
        self.identity.iter().fold(builder, |builder, identity| builder.identity(identity.clone()))
    }
}

/// What is wrong with the TLS of a connection, and what to do, if that is why it failed.
pub(super) fn of_tls(error: &(dyn Error + 'static)) -> Option<(String, &'static str)> {
    use rustls::{AlertDescription, CertificateError};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            let (why, advice) = match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
                    "its certificate is of an authority that is not trusted here".to_owned(),
                    "name the file with its authority: --ca FILE, or BELUGA_CA",
                ),
                rustls::Error::InvalidCertificate(why) => (
                    format!("its certificate is not taken: {why}"),
                    "ask it by a name that is in its certificate, or have that renewed",
                ),
                rustls::Error::InvalidMessage(_) => {
                    ("it does not speak TLS".to_owned(), "ask http://, or give the server a certificate")
                }
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => (
                    "it asks for a certificate of the client".to_owned(),
                    "show one: --client-certificate FILE --client-key FILE",
                ),
                rustls::Error::AlertReceived(alert) => (
                    format!("it refused the connection ({alert:?})"),
                    "if it asks for certificates: --client-certificate FILE --client-key FILE, of its authority",
                ),
                error => (error.to_string(), "see what the server's certificate is"),
            };
            return Some((why, advice));
        }
        next = behind(error);
    }
    None
}

/// What an error was made of; an I/O error does not tell it as its source.
fn behind<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref().map(|inside| inside as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(Kind::LocalFile, format!("{flag} {}: {error}", path.display())))
}

fn wrong(flag: &str, path: &Path, why: &str) -> Failure {
    Failure::new(Kind::InvalidField, format!("{flag} {}: {why}", path.display()))
}
