//! Tokens that an issuer signed: who is let in by them, as whom, and who is not; at every port.

use crate::flight;
use crate::postgres;
use crate::process::wait_until;
use crate::support::{PEOPLE, TestServer, beluga, catalog, config, stderr, success};
use api::config::Config;
use api::server::Server;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::Code;

const ISSUER: &str = "https://id.example.com/";
const AUDIENCE: &str = "beluga";

/// Who signs, with a key of each kind: `rsa`, `p256`, `p384`, `ed`.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Issuer {
    fn new() -> Issuer {
        let random = SystemRandom::new();
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let rsa: Pkcs8V1Der<'static> = rsa.as_der().expect("DER");
        let curve = |algorithm: &'static EcdsaSigningAlgorithm| {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key")
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Issuer {
            rsa: RsaKeyPair::from_pkcs8(rsa.as_ref()).expect("a key"),
            p256: curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key"),
        }
    }

    fn modulus(&self) -> PublicKeyComponents<Vec<u8>> {
        PublicKeyComponents::from(self.rsa.public())
    }

    /// Its public keys; beside them two that are of no use here, and one for something else.
    fn jwks(&self) -> Value {
        let PublicKeyComponents { n, e } = self.modulus();
        let point = |pair: &EcdsaKeyPair, curve: &str, kid: &str| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": kid, "x": encoded(x), "y": encoded(y)})
        };
        json!({"keys": [
            {"kty": "oct", "kid": "secret", "k": encoded("a secret"), "alg": "HS256"},
            {"kty": "RSA", "kid": "locks", "use": "enc", "alg": "RSA-OAEP", "n": encoded(&n), "e": encoded(&e)},
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": encoded(&n), "e": encoded(&e)},
            {"kty": "RSA", "kid": "rs512", "alg": "RS512", "n": encoded(&n), "e": encoded(&e), "key_ops": ["verify"]},
            point(&self.p256, "P-256", "p256"),
            point(&self.p384, "P-384", "p384"),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encoded(self.ed.public_key())},
            {"kty": "OKP", "crv": "X25519", "kid": "other", "x": encoded([7; 32])},
        ]})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), signed.as_bytes());
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, bytes, &mut signature).expect("signed");
            signature
        };
        let curve = |pair: &EcdsaKeyPair| pair.sign(&random, bytes).expect("signed").as_ref().to_vec();
        let signature = match header["alg"].as_str().expect("a name") {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => curve(&self.p256),
            "ES384" => curve(&self.p384),
            "EdDSA" => self.ed.sign(bytes).as_ref().to_vec(),
            // With what everybody knows of the key.
            "HS256" => {
                let public = encoded(&self.modulus().n);
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes()), bytes).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// Signed with the key `rsa`.
    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}), claims)
    }
}

/// Claims that let in, and others in the place of some of them; null takes one away.
fn claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "query export openid",
        "iat": now(), "exp": now() + 600,
    });
    for (name, value) in more.as_object().expect("claims") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn written(folder: &Path, jwks: &Value) -> PathBuf {
    let path = folder.join("keys.json");
    std::fs::write(&path, jwks.to_string()).expect("written");
    path
}

fn trusting(config: &mut Config, keys: &Path) {
    config.jwt_issuer = Some(ISSUER.to_owned());
    config.jwt_audience = Some(AUDIENCE.to_owned());
    config.jwt_keys = Some(keys.to_str().expect("text").to_owned());
    config.postgres = Some("127.0.0.1:0".parse().expect("an address"));
}

/// A server with people that trusts an issuer.
fn server_of(issuer: &Issuer, folder: &Path) -> TestServer {
    let keys = written(folder, &issuer.jwks());
    let server = TestServer::with(|config| trusting(config, &keys));
    let admin = issuer.token(&claims(json!({"sub": "admin", "scope": "query export ingest admin"})));
    success(server.put("/v1/catalog").json(&catalog()).bearer_auth(&admin).send().expect("put"));
    success(server.post("/v1/tags?visible=true").body(PEOPLE).bearer_auth(&admin).send().expect("post"));
    server
}

/// How REST answers a count.
fn count(server: &TestServer, token: &str) -> (u16, String) {
    let asked = server.post("/v1/count").json(&json!({"where": "TRUE"})).bearer_auth(token).send().expect("ask");
    (asked.status().as_u16(), asked.text().expect("text"))
}

/// How Flight SQL does.
fn over_flight(server: &TestServer, token: &str) -> Result<Vec<String>, tonic::Status> {
    let mut client = flight::Client::of(server);
    client.sql.set_token(token.to_owned());
    client.ask("SELECT count(*) FROM users")
}

#[test]
fn every_algorithm_that_is_taken_lets_in_at_every_port() {
    let (issuer, folder) = (Issuer::new(), tempfile::tempdir().expect("temporary folder"));
    let server = server_of(&issuer, folder.path());
    let keys = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("RS512", "rs512"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
    ];
    for (alg, kid) in keys {
        for header in [json!({"alg": alg, "kid": kid}), json!({"alg": alg, "typ": "at+jwt"})] {
            let token = issuer.sign(&header, &claims(json!({"aud": ["other", AUDIENCE]})));
            assert_eq!(count(&server, &token).0, 200, "{header}: {}", count(&server, &token).1);
            assert_eq!(over_flight(&server, &token).expect("let in"), ["4"], "{header}");
        }
    }
    let token = issuer.token(&claims(json!({})));
    let client = postgres::Client::with(postgres::settings(&server).password(&token)).expect("let in");
    assert_eq!(client.text("SELECT count(*) FROM users"), "4");
    let named = "SELECT principal FROM system.queries WHERE door = 'postgres' AND state = 'running'";
    assert_eq!(client.text(named), "jwt:alice");
    // As a password, too.
    let asked = server.post("/v1/count").json(&json!({"where": "TRUE"})).basic_auth("anybody", Some(&token));
    assert_eq!(asked.send().expect("ask").status(), 200);
    let status = success(server.get("/v1/status").bearer_auth(&token).send().expect("get"));
    assert_eq!(status["principal"], json!({"token": "jwt:alice", "scopes": ["query", "export"], "tenant": null}));
    // Tokens of our own go on beside them.
    let admin = issuer.token(&claims(json!({"scope": "admin"})));
    let asked = server.post("/v1/tokens").json(&json!({"name": "own", "scopes": ["query"]})).bearer_auth(&admin);
    let own = success(asked.send().expect("post"))["token"].as_str().expect("text").to_owned();
    assert_eq!(count(&server, &own).0, 200);
}

#[test]
fn what_is_not_as_it_should_be_lets_nobody_in() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = server_of(&issuer, folder.path());
    let good = issuer.token(&claims(json!({})));
    assert_eq!(count(&server, &good).0, 200);
    let header = |more: Value| {
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        more.as_object().expect("fields").iter().for_each(|(name, value)| header[name] = value.clone());
        header
    };
    let signed = |more: Value| issuer.sign(&header(more), &claims(json!({})));
    let claimed = |more: Value| issuer.token(&claims(more));
    let tampered = {
        let parts: Vec<&str> = good.split('.').collect();
        format!("{}.{}.{}", parts[0], encoded(claims(json!({"sub": "mallory"})).to_string()), parts[2])
    };
    let (head, _) = good.rsplit_once('.').expect("a signature");
    let wrong = [
        ("expired", claimed(json!({"exp": now() - 60})), "expired"),
        ("without an end", claimed(json!({"exp": null})), "(exp)"),
        ("with a text as its end", claimed(json!({"exp": "tomorrow"})), "`exp`"),
        ("early", claimed(json!({"nbf": now() + 600})), "(nbf)"),
        ("with a text as its begin", claimed(json!({"nbf": "now"})), "`nbf`"),
        ("another issuer's", claimed(json!({"iss": "https://id.example.com"})), "(iss)"),
        ("without an issuer", claimed(json!({"iss": null})), "(iss)"),
        ("for others", claimed(json!({"aud": ["other", "beluga2"]})), "(aud)"),
        ("for nobody", claimed(json!({"aud": null})), "(aud)"),
        ("about nobody", claimed(json!({"sub": null})), "(sub)"),
        ("about a line end", claimed(json!({"sub": "a\nb"})), "(sub)"),
        ("about a long name", claimed(json!({"sub": "x".repeat(256)})), "(sub)"),
        ("of a tenant that is not there", claimed(json!({"tenant": "acme"})), "tenant"),
        ("of a number of a tenant", claimed(json!({"tenant": 7})), "`tenant`"),
        ("of no name of a tenant", claimed(json!({"tenant": ""})), "`tenant`"),
        ("signed by another", other.token(&claims(json!({}))), "signature"),
        ("changed", tampered, "signature"),
        ("cut", format!("{head}."), "signature"),
        ("of no algorithm", signed(json!({"alg": "none"})), "(alg)"),
        ("of no algorithm and no signature", signed(json!({"alg": "None"})), "(alg)"),
        ("of a secret that is public", signed(json!({"alg": "HS256"})), "(alg)"),
        ("of a secret of theirs", signed(json!({"alg": "HS256", "kid": "secret"})), "(alg)"),
        ("of another key's algorithm", signed(json!({"alg": "ES256"})), "(alg)"),
        ("of another algorithm than the key's", signed(json!({"kid": "rs512"})), "(alg)"),
        ("of a key for other things", signed(json!({"kid": "locks"})), "(kid)"),
        ("of an unknown key", signed(json!({"kid": "new"})), "(kid)"),
        (
            "with its own key",
            other.sign(&header(json!({"jwk": other.jwks()["keys"][2]})), &claims(json!({}))),
            "signature",
        ),
        ("of conditions", signed(json!({"crit": ["exp"]})), "(crit)"),
        ("of another type", signed(json!({"typ": "logout+jwt"})), "(typ)"),
        ("of one part", "x".to_owned(), "token"),
        ("of two parts", head.to_owned(), "token"),
        ("of four parts", format!("{good}.x"), "token"),
        ("of nothing", "..".to_owned(), "missing or mistyped"),
        ("with padding", format!("{good}="), "missing or mistyped"),
    ];
    for (what, token, why) in &wrong {
        let (status, text) = count(&server, token);
        assert_eq!(status, 401, "{what}: {text}");
        assert!(text.contains(why), "{what}: `{why}` is missing: {text}");
        let refused = over_flight(&server, token).expect_err(what);
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
        assert!(postgres::Client::with(postgres::settings(&server).password(token)).is_err(), "{what}");
    }
    // Where an issuer is trusted nobody is let in without a token, though none was made.
    let asked = server.post("/v1/count").json(&json!({"where": "TRUE"})).send().expect("ask");
    assert_eq!(asked.status(), 401);
    assert_eq!(count(&server, &good).0, 200, "others are not in the way");
}

#[test]
fn scopes_and_tenants_are_those_of_the_claims() {
    let (issuer, folder) = (Issuer::new(), tempfile::tempdir().expect("temporary folder"));
    let server = server_of(&issuer, folder.path());
    let call = |path: &str, token: &str| {
        let asked = server.post(path).json(&json!({"where": "TRUE"})).bearer_auth(token).send().expect("ask");
        (asked.status().as_u16(), asked.text().expect("text"))
    };
    let of = |more: Value| issuer.token(&claims(more));
    let query = of(json!({"scope": "query"}));
    assert_eq!((call("/v1/count", &query).0, call("/v1/members", &query).0), (200, 403));
    assert!(call("/v1/members", &query).1.contains("`jwt:alice` has not the scope `export`"));
    assert_eq!(over_flight(&server, &query).expect_err("no export").code(), Code::PermissionDenied);
    let listed = of(json!({"scope": null, "scp": ["query", "export", "Query.All"]}));
    assert_eq!((call("/v1/count", &listed).0, call("/v1/members", &listed).0), (200, 200));
    for none in [json!({"scope": "openid profile queryx QUERY"}), json!({"scope": null}), json!({"scope": 7})] {
        assert_eq!(call("/v1/count", &of(none.clone())).0, 403, "{none}");
    }
    // Of a tenant, who sees women.
    let admin = of(json!({"scope": "admin query"}));
    let acme = json!({"where": "gender = 'f'"});
    success(server.put("/v1/tenants/acme").json(&acme).bearer_auth(&admin).send().expect("put"));
    let seen = of(json!({"tenant": "acme", "scope": "query export admin"}));
    let counted: Value = serde_json::from_str(&count(&server, &seen).1).expect("JSON");
    assert_eq!(counted["count"], 2, "{counted}");
    assert_eq!(over_flight(&server, &seen).expect("let in"), ["2"]);
    assert_eq!(call("/v1/explain", &seen).0, 403, "that is the operator's");
    // For a purpose that none of them agreed to.
    let put = |path: &str, what: &Value| {
        success(server.put(path).json(what).bearer_auth(&admin).send().expect("put"));
    };
    put("/v1/purposes/ads", &json!({"where": "age > 1000"}));
    put("/v1/tenants/acme", &json!({"where": "gender = 'f'", "purpose": "ads"}));
    let counted: Value = serde_json::from_str(&count(&server, &seen).1).expect("JSON");
    assert_eq!(counted["count"], 0, "{counted}");
    put("/v1/tenants/acme", &acme);
    // The same name is somebody else there: a ticket of the one is none of the other's.
    let mut operator = flight::Client::of(&server);
    operator.sql.set_token(of(json!({})));
    let info = operator.info("SELECT user_id FROM users").expect("may");
    let mut tenant = flight::Client::of(&server);
    tenant.sql.set_token(seen.clone());
    assert_eq!(tenant.fetch(flight::ticket(&info)).expect_err("another's").code(), Code::InvalidArgument);
    // A newer token of the same is the same.
    operator.sql.set_token(of(json!({"exp": now() + 900})));
    assert_eq!(operator.fetch_all(info).expect("its own").iter().map(|batch| batch.num_rows()).sum::<usize>(), 4);
    success_or_gone(&server, &admin);
    assert_eq!(count(&server, &seen).0, 401, "the tenant is gone");
    // Who did what is told by these names.
    let log: String = std::fs::read_dir(server.data().join("audit"))
        .expect("a folder")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default())
        .collect();
    assert!(log.contains("\"jwt:alice\"") && log.contains("\"acme\""), "{log}");
}

/// Removes the tenant.
fn success_or_gone(server: &TestServer, admin: &str) {
    let url = server.url("/v1/tenants/acme");
    let removed = server.client.delete(url).bearer_auth(admin).send().expect("delete");
    assert!(removed.status().is_success(), "{}", removed.text().expect("text"));
}

#[test]
fn the_claim_of_the_tenant_has_the_name_that_is_set() {
    let (issuer, folder) = (Issuer::new(), tempfile::tempdir().expect("temporary folder"));
    let keys = written(folder.path(), &issuer.jwks());
    let server = TestServer::with(|config| {
        trusting(config, &keys);
        config.jwt_tenant_claim = "https://example.com/org".to_owned();
    });
    let of = |more: Value| issuer.token(&claims(more));
    let admin = of(json!({"scope": "admin query", "tenant": "nobody looks at it"}));
    success(server.put("/v1/tenants/acme").json(&json!({"where": "TRUE"})).bearer_auth(&admin).send().expect("put"));
    let status = |token: &str| success(server.get("/v1/status").bearer_auth(token).send().expect("get"));
    assert_eq!(status(&of(json!({"https://example.com/org": "acme"})))["principal"]["tenant"], "acme");
    assert_eq!(count(&server, &of(json!({"https://example.com/org": "bolt"}))).0, 401);
}

#[test]
fn a_file_of_keys_that_changes_is_read_again() {
    let (first, second) = (Issuer::new(), Issuer::new());
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = server_of(&first, folder.path());
    let of = |issuer: &Issuer| issuer.token(&claims(json!({})));
    assert_eq!((count(&server, &of(&first)).0, count(&server, &of(&second)).0), (200, 401));
    written(folder.path(), &second.jwks());
    wait_until("the new keys are known", || count(&server, &of(&second)).0 == 200);
    assert_eq!(count(&server, &of(&first)).0, 401);
}

/// Serves a JWKS and counts how often it is asked for.
fn address_of(jwks: &Value) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let (counted, body) = (Arc::clone(&asked), jwks.to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (url, asked)
}

#[test]
fn keys_at_an_address_are_asked_for_and_not_too_often() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (url, asked) = address_of(&issuer.jwks());
    let server = TestServer::with(|config| trusting(config, Path::new(&url)));
    // Whoever comes before the keys waits for them.
    assert_eq!(count(&server, &issuer.token(&claims(json!({})))).0, 200);
    assert_eq!(over_flight(&server, &issuer.token(&claims(json!({})))).expect("let in"), ["0"]);
    for number in 0..20 {
        let header = json!({"alg": "RS256", "kid": format!("new.{number}")});
        assert_eq!(count(&server, &other.sign(&header, &claims(json!({})))).0, 401);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "unknown keys do not ask for more than one answer a minute");
}

#[test]
fn settings_that_cannot_be_are_told_at_the_start() {
    let (issuer, folder) = (Issuer::new(), tempfile::tempdir().expect("temporary folder"));
    let keys = written(folder.path(), &issuer.jwks());
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config(&folder.path().join("data"));
        trusting(&mut config, &keys);
        change(&mut config);
        Server::start(config).err().expect("it cannot be").to_string()
    };
    let told = refused(&|config| config.jwt_audience = None);
    assert!(told.contains("jwt_issuer is set, and jwt_audience is not"), "{told}");
    let told = refused(&|config| config.jwt_keys = Some("/nowhere.json".to_owned()));
    assert!(told.contains("/nowhere.json: No such file"), "{told}");
    for (text, why) in
        [("{}", "no JWKS"), ("{\"keys\": []}", "no public key"), ("{\"keys\": [{\"kty\": \"oct\"}]}", "no public key")]
    {
        let path = folder.path().join("wrong.json");
        std::fs::write(&path, text).expect("written");
        let told = refused(&|config| config.jwt_keys = Some(path.to_str().expect("text").to_owned()));
        assert!(told.contains(why) && told.contains("wrong.json"), "{told}");
    }
    for (url, why) in [
        ("http://id.example.com/keys", "without TLS"),
        ("ftp://id.example.com/keys", "`ftp:`"),
        ("https://a:b@id.example.com/keys", "password"),
    ] {
        let told = refused(&|config| config.jwt_keys = Some(url.to_owned()));
        assert!(told.contains(why), "{told}");
    }
    // Names are of the server's own settings.
    let printed = beluga(&["serve", "--print-config", "--set", "jwt_issuers=x"]);
    assert!(stderr(&printed).contains("did you mean `jwt_issuer`?"), "{}", stderr(&printed));
}
