//! Access to object stores as a catalog document or a job declares it, and which of them a server reads.
//!
//! Whoever may change the catalog could read whatever the server's own credentials reach. So only stores are read that the
//! server was told of when it was started (`source_stores`), and its own credentials go to no address but its own.

use crate::config::Config;
use crate::sources::Place;
use crate::sources::secret::{SecretPlace, TextOrSecret};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use serde::{Deserialize, Serialize};

/// The schemes of URLs, and what answers to them.
pub(super) const SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// The longest name of a region, in bytes.
const REGION_BYTES_MAX: usize = 40;

/// How an S3-compatible store is reached. What is left out is taken from the server's environment (`AWS_REGION`,
/// `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …) or the role of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreDeclaration {
    /// The region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "eu-central-1")]
    pub region: Option<String>,
    /// Where the store answers, if it is not Amazon's; goes with keys or `anonymous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://minio.example:9000")]
    pub endpoint: Option<String>,
    /// The id of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<TextOrSecret>,
    /// Where the secret of the key stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretPlace>,
    /// Where the token of temporary keys stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretPlace>,
    /// Requests carry no credentials: the bucket is public.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// The endpoint may be `http://`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
}

impl ObjectStoreDeclaration {
    /// Whether it can be; reads no secret. `config` says which secrets may be read; none: any.
    ///
    /// # Errors
    /// What is wrong, by the path below the declaration.
    pub(crate) fn check(&self, config: Option<&Config>) -> Result<(), Place> {
        let wrong = |field: &str, why: String| Err(Place::new(format!("/{field}"), why));
        let has_keys = self.access_key_id.is_some();
        if has_keys != self.secret_access_key.is_some() {
            let field = if has_keys { "secret_access_key" } else { "access_key_id" };
            return wrong(field, "`access_key_id` and `secret_access_key` go together".to_owned());
        }
        if self.session_token.is_some() && !has_keys {
            return wrong("session_token", "it goes with `access_key_id` and `secret_access_key`".to_owned());
        }
        if self.anonymous && has_keys {
            return wrong("anonymous", "without credentials there are no keys; leave one of them out".to_owned());
        }
        self.check_region()?;
        self.check_endpoint(has_keys)?;
        let Some(config) = config else { return Ok(()) };
        if let Some(Err(why)) = self.access_key_id.as_ref().map(|key| key.check(config)) {
            return wrong("access_key_id", why);
        }
        for (field, place) in [("secret_access_key", &self.secret_access_key), ("session_token", &self.session_token)] {
            if let Some(Err(why)) = place.as_ref().map(|place| place.check(config)) {
                return wrong(field, why);
            }
        }
        Ok(())
    }

    /// It becomes a part of host names, which must stay those of the store.
    fn check_region(&self) -> Result<(), Place> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match &self.region {
            Some(region) if !(1..=REGION_BYTES_MAX).contains(&region.len()) || !region.bytes().all(is_plain) => {
                let why =
                    format!("a region is 1 to {REGION_BYTES_MAX} of a-z, 0-9 and `-`; write one such as eu-central-1");
                Err(Place::new("/region", why))
            }
            _ => Ok(()),
        }
    }

    fn check_endpoint(&self, has_keys: bool) -> Result<(), Place> {
        const EXAMPLE: &str = "write one such as https://minio.example:9000";
        let wrong = |why: String| Err(Place::new("/endpoint", why));
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let url = match reqwest::Url::parse(endpoint) {
            Ok(url) => url,
            Err(error) => return wrong(format!("it is no address ({error}); {EXAMPLE}")),
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return wrong(format!("`{}:` is not spoken; {EXAMPLE}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return wrong(format!("it ends with its path, and keys do not stand in it; {EXAMPLE}"));
        }
        if url.scheme() == "http" && !self.allow_http {
            return wrong(
                "over http:// everybody on the way reads along; say `allow_http: true` if that is meant".to_owned(),
            );
        }
        if !has_keys && !self.anonymous {
            let why = "the server's own credentials go to no other address; give `access_key_id` and `secret_access_key`, \
                       or say `anonymous: true`";
            return wrong(why.to_owned());
        }
        Ok(())
    }

    /// Reads the secrets, and makes what is said here of the builder of a client.
    ///
    /// # Errors
    /// For people; never holds a secret.
    pub(super) fn builder(&self) -> Result<AmazonS3Builder, String> {
        let mut builder = match (&self.access_key_id, self.anonymous) {
            (None, false) => AmazonS3Builder::from_env(),
            // Keys of the environment do not go with those given here; where it is does.
            (None, true) | (Some(_), _) => {
                let of_place = |builder: AmazonS3Builder, (variable, key)| match std::env::var(variable) {
                    Ok(value) => builder.with_config(key, value),
                    Err(_) => builder,
                };
                let places = [
                    ("AWS_DEFAULT_REGION", AmazonS3ConfigKey::Region),
                    ("AWS_REGION", AmazonS3ConfigKey::Region),
                    ("AWS_ENDPOINT", AmazonS3ConfigKey::Endpoint),
                    ("AWS_ENDPOINT_URL", AmazonS3ConfigKey::Endpoint),
                    ("AWS_ENDPOINT_URL_S3", AmazonS3ConfigKey::Endpoint),
                ];
                places.into_iter().fold(AmazonS3Builder::new(), of_place)
            }
        };
        if let Some(key) = &self.access_key_id {
            builder = builder.with_access_key_id(key.read().map_err(|why| format!("access_key_id: {why}"))?);
        }
        if let Some(place) = &self.secret_access_key {
            builder = builder.with_secret_access_key(place.read().map_err(|why| format!("secret_access_key: {why}"))?);
        }
        if let Some(place) = &self.session_token {
            builder = builder.with_token(place.read().map_err(|why| format!("session_token: {why}"))?);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if self.anonymous {
            builder = builder.with_skip_signature(true);
        }
        // Whatever the environment says: a bucket in the host would not be sent to an endpoint at all, and so read past `source_stores`.
        Ok(builder.with_virtual_hosted_style_request(false))
    }
}

/// Reads the setting `source_stores`.
///
/// # Errors
/// What is expected.
pub fn read_stores(text: &str) -> Result<Vec<String>, String> {
    let stores = text.split(',').map(str::trim).filter(|store| !store.is_empty()).map(|store| {
        let store = store.trim_end_matches('/');
        let expected =
            || format!("`{store}`: expected a bucket, or what lies below a prefix of it: s3://bucket/prefix");
        let (scheme, rest) = store.split_once("://").ok_or_else(expected)?;
        let is_plain = !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['*', '?', '[', '\n', '\r']);
        if SCHEMES.contains(&scheme) && is_plain { Ok(store.to_owned()) } else { Err(expected()) }
    });
    stores.collect()
}

/// Whether objects lie in one of `stores`, part by part of the URL, so that no wildcard leads out.
///
/// # Errors
/// For people: why not, and what to do.
pub fn check_store(path: &str, stores: &[String]) -> Result<(), String> {
    check_scheme(path)?;
    let is_in =
        |store: &String| path.strip_prefix(store.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if stores.iter().any(is_in) {
        return Ok(());
    }
    Err(match stores {
        [] => format!(
            "`{path}`: this server reads no object stores; start it with `source_stores` (BELUGA_SOURCE_STORES) set to the \
             buckets or prefixes that it may read, such as s3://bucket/visits"
        ),
        stores => format!("`{path}`: this server reads objects in {} only (`source_stores`)", stores.join(", ")),
    })
}

/// Whether the URL is one of a store that is known here.
///
/// # Errors
/// For people.
pub(crate) fn check_scheme(path: &str) -> Result<(), String> {
    let scheme = path.split_once("://").map_or("", |(scheme, _)| scheme);
    if SCHEMES.contains(&scheme) {
        return Ok(());
    }
    Err(format!("`{path}`: `{scheme}:` is not spoken; write s3://bucket/…, gs://bucket/… or az://container/…"))
}

/// What is wrong with settings for S3 beside paths that are not of it.
pub(crate) fn check_paths(paths: &[String]) -> Result<(), String> {
    match paths.iter().find(|path| !path.starts_with("s3://")) {
        None => Ok(()),
        Some(path) => Err(format!(
            "it is for s3://, and `{path}` is not of it; gs:// and az:// are reached as the server's environment says"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_region(region: &str) -> ObjectStoreDeclaration {
        ObjectStoreDeclaration { region: Some(region.to_owned()), ..ObjectStoreDeclaration::default() }
    }

    #[test]
    fn a_region_cannot_be_another_host() {
        for region in ["eu-central-1", "us-gov-west-1", "auto", "x"] {
            assert!(of_region(region).check(None).is_ok(), "{region}");
        }
        let long = "a".repeat(REGION_BYTES_MAX + 1);
        for region in ["", "evil.example/", "evil.example:1#", "user@evil", "EU", "eu central", "ü", &long] {
            let place = of_region(region).check(None).expect_err(region);
            assert!(place.pointer == "/region" && place.why.contains("eu-central-1"), "{region}: {}", place.why);
        }
    }

    #[test]
    fn the_bucket_is_always_a_part_of_the_path() {
        let style = of_region("eu-central-1").builder().expect("a builder");
        let style = style.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest);
        assert_eq!(style.as_deref(), Some("false"));
        assert!(serde_json::from_str::<ObjectStoreDeclaration>(r#"{"bucket_in_host":true}"#).is_err());
    }
}
