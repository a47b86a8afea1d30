//! TLS at every port: certificates of the server and of clients, their files, and who speaks none.

mod certificates;

use crate::flight;
use crate::postgres;
use crate::process::{Process, wait_until};
use crate::support::{BELUGA, TestServer, beluga, command, config, stderr, stdout, success};
use api::config::Config;
use api::server::Server;
use certificates::{Authority, Issued};
use reqwest::blocking::Client;
use reqwest::{Certificate, Identity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// How a client of PostgreSQL asks for TLS.
const ASKS_TLS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files of a server's, in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn of(issued: &Issued) -> Files {
        let files = Files { folder: tempfile::tempdir().expect("temporary folder") };
        files.put(issued);
        files
    }

    fn put(&self, issued: &Issued) {
        self.write("key.pem", &issued.key);
        self.write("certificate.pem", &issued.certificate);
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    fn set(&self, config: &mut Config) {
        config.tls_certificate = Some(self.path("certificate.pem"));
        config.tls_key = Some(self.path("key.pem"));
    }
}

/// A server with a certificate, whose own client trusts it.
fn server_with(files: &Files, authority: &Authority, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut server = TestServer::with(|config| {
        files.set(config);
        config.postgres = Some("127.0.0.1:0".parse().expect("an address"));
        change(config);
    });
    server.client = client(authority, None);
    server
}

fn client(authority: &Authority, own: Option<&Issued>) -> Client {
    let trusted = Certificate::from_pem(authority.certificate.as_bytes()).expect("a certificate");
    let builder = Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([trusted]);
    let own = own.map(|own| Identity::from_pem(format!("{}{}", own.key, own.certificate).as_bytes()).expect("a key"));
    own.into_iter().fold(builder, reqwest::blocking::ClientBuilder::identity).build().expect("client")
}

/// The same for connections of other protocols.
fn tls(authority: &Authority, own: Option<&Issued>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(vec![certificate], key).expect("a key")
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A port in clear that leads to one with TLS, for clients that know of none.
struct Tunnel {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Tunnel {
    /// `asking`: what is sent first, and answered with one byte.
    fn to(server: SocketAddr, config: ClientConfig, asking: &'static [u8]) -> Tunnel {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let connector = TlsConnector::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(server).await?;
                    if !asking.is_empty() {
                        server.write_all(asking).await?;
                        assert_eq!(server.read_u8().await?, b'S');
                    }
                    let name = ServerName::try_from("localhost").expect("a name");
                    let mut server = connector.connect(name, server).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
                });
            }
        });
        Tunnel { address, _runtime: runtime }
    }
}

fn count_over_flight(address: SocketAddr, token: Option<&str>) -> Result<Vec<String>, String> {
    let mut client = flight::Client::at(address);
    if let Some(token) = token {
        client.sql.set_token(token.to_owned());
    }
    let mut sql = client.sql.clone();
    let info = client.wait(sql.execute("SELECT count(*) FROM users".to_owned(), None));
    let info = info.map_err(|error| error.to_string())?;
    client.fetch_all(info).map(|batches| flight::rows(&batches)).map_err(|status| status.to_string())
}

fn count_over_postgres(address: SocketAddr) -> Result<String, tokio_postgres::Error> {
    let mut settings = tokio_postgres::Config::new();
    settings.host(address.ip().to_string()).port(address.port()).user("ann").dbname("beluga");
    postgres::Client::with(&settings).map(|client| client.text("SELECT count(*) FROM users"))
}

#[test]
fn every_port_speaks_tls() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    let mut server = server_with(&files, &authority, |_| {});
    assert!(server.url("/").starts_with("https://"), "{}", server.url("/"));
    server.put_people();
    assert_eq!(server.count("gender = 'f'"), 2);
    assert!(server.get("/").send().expect("the console").status().is_success());
    let metrics = server.get("/metrics").send().expect("ask").text().expect("text");
    let left = metrics.lines().find_map(|line| line.strip_prefix("beluga_tls_certificate_expires_seconds "));
    let days = left.expect("it is told").parse::<f64>().expect("a number") / 86_400.0;
    assert!((29.0..30.1).contains(&days), "{days}");
    let tunnel = Tunnel::to(server.flight(), tls(&authority, None, &["h2"]), &[]);
    assert_eq!(count_over_flight(tunnel.address, None).expect("answered"), ["4"]);
    let tunnel = Tunnel::to(server.postgres(), tls(&authority, None, &["postgresql"]), ASKS_TLS);
    assert_eq!(count_over_postgres(tunnel.address).expect("answered"), "4");
    // Of protocols both sides take the same one.
    let web: SocketAddr = server.url("").trim_start_matches("https://").parse().expect("an address");
    let agreed = |at: SocketAddr, protocols: &[&str]| {
        let stream = handshake(at, tls(&authority, None, protocols)).expect("a connection");
        stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    };
    assert_eq!(agreed(web, &["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(web, &["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(web, &[]), None);
    assert_eq!(agreed(server.flight(), &["h2"]).as_deref(), Some("h2"));
    assert!(handshake(server.flight(), tls(&authority, None, &["http/1.1"])).is_err(), "gRPC is HTTP/2");
    // Who trusts another authority goes away.
    let other = Authority::new("another authority");
    assert!(client(&other, None).get(server.url("/healthz")).send().is_err());
    assert!(handshake(server.flight(), tls(&other, None, &["h2"])).is_err());
    server.stop();
}

/// A connection whose handshake is done.
fn handshake(at: SocketAddr, config: ClientConfig) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(at).expect("connected"));
    stream.sock.set_read_timeout(Some(PATIENCE)).expect("set");
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

#[test]
fn clients_show_a_certificate_where_they_are_asked_for_one() {
    let authority = Authority::new("an authority");
    let of_clients = Authority::new("an authority of clients");
    let files = Files::of(&authority.issue());
    let client_ca = files.write("client-ca.pem", &of_clients.certificate);
    let server = server_with(&files, &authority, |config| config.tls_client_ca = Some(client_ca));
    let own = of_clients.issue();
    let late = of_clients.issue_for(-9..-2);
    let asked = |own: Option<&Issued>| client(&authority, own).get(server.url("/healthz")).send().map(|_| ());
    asked(Some(&own)).expect("known");
    for wrong in [None, Some(&authority.issue()), Some(&late)] {
        asked(wrong).expect_err("none, another's, or an old one");
        let over_flight = Tunnel::to(server.flight(), tls(&authority, wrong, &["h2"]), &[]);
        count_over_flight(over_flight.address, None).expect_err("the same");
        let over_postgres = Tunnel::to(server.postgres(), tls(&authority, wrong, &["postgresql"]), ASKS_TLS);
        assert!(count_over_postgres(over_postgres.address).is_err(), "the same");
    }
    let over_flight = Tunnel::to(server.flight(), tls(&authority, Some(&own), &["h2"]), &[]);
    assert_eq!(count_over_flight(over_flight.address, None).expect("known"), ["0"]);
    let over_postgres = Tunnel::to(server.postgres(), tls(&authority, Some(&own), &["postgresql"]), ASKS_TLS);
    assert_eq!(count_over_postgres(over_postgres.address).expect("known"), "0");
    // The command line.
    files.write("ca.pem", &authority.certificate);
    files.write("own.pem", &own.certificate);
    files.write("own-key.pem", &own.key);
    let url = server.url("");
    let count = |more: &[&str]| beluga(&[&["count", "TRUE", "--output", "csv", "--url", &url], more].concat());
    let (ca, own, key) = (files.text("ca.pem"), files.text("own.pem"), files.text("own-key.pem"));
    let counted = count(&["--ca", &ca, "--client-certificate", &own, "--client-key", &key]);
    assert_eq!(stdout(&counted), "count\n0\n", "{}", stderr(&counted));
    let refused = count(&["--ca", &ca]);
    assert!(stderr(&refused).contains("--client-certificate FILE --client-key FILE"), "{}", stderr(&refused));
    let refused = count(&["--ca", &ca, "--client-certificate", &own]);
    assert!(stderr(&refused).contains("--client-key is missing"), "{}", stderr(&refused));
}

#[test]
fn commands_speak_tls_with_whom_they_trust() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    files.write("ca.pem", &authority.certificate);
    files.write("other.pem", &Authority::new("another authority").certificate);
    let (certificate, key) = (files.text("certificate.pem"), files.text("key.pem"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let settings = [format!("tls_certificate={certificate}"), format!("tls_key={key}")];
    let process = Process::serve(&folder.path().join("data"), &[&settings[0], &settings[1]]);
    assert!(process.told().contains("Flight SQL: grpc+tls://"), "{}", process.told());
    let url = process.url().to_owned();
    let ask = |arguments: &[&str], ca: Option<&str>| {
        let mut command = command(BELUGA);
        if let Some(ca) = ca {
            command.env("BELUGA_CA", ca);
        }
        command.args(arguments).output().expect("run beluga")
    };
    let (ca, other) = (files.text("ca.pem"), files.text("other.pem"));
    let counted = ask(&["count", "TRUE", "--output", "csv", "--url", &url], Some(&ca));
    assert_eq!(stdout(&counted), "count\n0\n", "{}", stderr(&counted));
    // The connections of statements are others.
    let answered = ask(&["sql", "SELECT 1 AS one", "--output", "csv", "--url", &url, "--ca", &ca], Some(&other));
    assert_eq!(stdout(&answered), "one\n1\n", "{}", stderr(&answered));
    let told = |arguments: &[&str]| {
        let output = ask(arguments, None);
        assert!(!output.status.success(), "{}", stdout(&output));
        stderr(&output)
    };
    let refused = told(&["count", "TRUE", "--url", &url]);
    assert!(refused.contains("not trusted here") && refused.contains("--ca FILE"), "{refused}");
    let refused = told(&["sql", "SELECT 1", "--url", &url, "--ca", &other]);
    assert!(refused.contains("not trusted here"), "{refused}");
    let refused = told(&["count", "TRUE", "--url", &url.replace("https://", "http://")]);
    assert!(refused.contains("this port speaks TLS: ask https://"), "{refused}");
    let refused = told(&["count", "TRUE", "--url", &url, "--ca", "nothing.pem"]);
    assert!(refused.contains("--ca nothing.pem"), "{refused}");
    let refused = told(&["count", "TRUE", "--url", &url, "--ca", &key]);
    assert!(refused.contains("there is no certificate in it"), "{refused}");
    let plain = TestServer::start();
    let refused = told(&["count", "TRUE", "--url", &plain.url("").replace("http://", "https://")]);
    assert!(refused.contains("it does not speak TLS"), "{refused}");
    // SIGHUP reads the files again, and ends nobody.
    let next = Authority::new("the next authority");
    files.put(&next.issue());
    files.write("ca.pem", &next.certificate);
    process.hang_up();
    let is_shown = || ask(&["count", "TRUE", "--url", &url, "--ca", &ca], None).status.success();
    wait_until("it shows the new certificate", is_shown);
    // A key of another certificate: the old ones stay.
    files.write("key.pem", &next.issue().key);
    process.hang_up();
    wait_until("it has looked at the key", || process.told().contains("the new certificate is not used"));
    assert!(process.told().contains("it is not the key of the certificate"), "{}", process.told());
    assert!(is_shown());
}

#[test]
fn files_that_change_are_read_again() {
    let (first, second) = (Authority::new("the first authority"), Authority::new("the second authority"));
    let files = Files::of(&first.issue());
    let mut server = server_with(&files, &first, |_| {});
    let is_shown = |server: &TestServer, authority: &Authority| {
        handshake(server.flight(), tls(authority, None, &["h2"])).is_ok()
            && client(authority, None).get(server.url("/healthz")).send().is_ok()
    };
    assert!(is_shown(&server, &first));
    // A connection from before stays.
    let old = handshake(server.flight(), tls(&first, None, &["h2"])).expect("a connection");
    files.put(&second.issue());
    wait_until("the new certificate is shown", || is_shown(&server, &second));
    assert!(!is_shown(&server, &first));
    drop(old);
    server.stop();
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new("an authority");
    let issued = authority.issue();
    let folder = tempfile::tempdir().expect("temporary folder");
    let files = Files::of(&issued);
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config(&folder.path().join("data"));
        files.set(&mut config);
        change(&mut config);
        Server::start(config).err().expect("it cannot be used").to_string()
    };
    let with = |certificate: &str, key: &str| {
        files.write("certificate.pem", certificate);
        files.write("key.pem", key);
        refused(&|_| {})
    };
    let told = |text: &str, words: &[&str]| {
        for word in words {
            assert!(text.contains(word), "`{word}` is missing: {text}");
        }
    };
    let (certificate, key) = (files.text("certificate.pem"), files.text("key.pem"));
    told(&with("", &issued.key), &["tls_certificate", &certificate, "no certificate in it"]);
    told(&with(&issued.key, &issued.key), &["tls_certificate", &certificate, "no certificate in it"]);
    told(&with("-----BEGIN CERTIFICATE-----\n%\n", &issued.key), &["tls_certificate", &certificate, "no PEM"]);
    told(&with(&issued.certificate, ""), &["tls_key", &key, "no private key in it"]);
    told(&with(&issued.certificate, &authority.issue().key), &["tls_key", &key, "not the key of", &certificate]);
    let locked = issued.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    told(&with(&issued.certificate, &locked), &["tls_key", &key, "password"]);
    let late = authority.issue_for(-9..-2);
    told(&with(&late.certificate, &late.key), &["tls_certificate", &certificate, "expired at 20"]);
    let early = authority.issue_for(2..9);
    told(&with(&early.certificate, &early.key), &["tls_certificate", &certificate, "not valid before 20"]);
    files.put(&issued);
    told(&refused(&|config| config.tls_key = None), &["tls_certificate is set, and tls_key is not"]);
    told(&refused(&|config| config.tls_certificate = None), &["tls_key is set, and tls_certificate is not"]);
    told(&refused(&|config| config.tls_key = Some("/nowhere.pem".into())), &["tls_key: /nowhere.pem: No such file"]);
    told(
        &refused(&|config| config.tls_client_ca = Some(PathBuf::from(&key))),
        &["tls_client_ca", &key, "no certificate in it"],
    );
    told(
        &refused(&|config| {
            config.tls_client_ca = config.tls_certificate.take();
            config.tls_key = None;
        }),
        &["tls_client_ca is set, and tls_certificate is not"],
    );
    let mut good = config(&folder.path().join("data"));
    files.set(&mut good);
    Server::start(good).expect("these can be used").stop().expect("stops");
}

#[test]
fn who_speaks_no_tls_is_told() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    let server = server_with(&files, &authority, |_| {});
    let web: SocketAddr = server.url("").trim_start_matches("https://").parse().expect("an address");
    let said = |at: SocketAddr, begin: &[u8]| {
        let mut stream = TcpStream::connect(at).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(begin).expect("sent");
        let mut answer = Vec::new();
        // Who sends noise has the connection torn down.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    for at in [web, server.flight()] {
        let answer =
            said(at, b"POST /v1/count HTTP/1.1\r\nhost: here\r\ncontent-length: 17\r\n\r\n{\"where\": \"TRUE\"}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["type"], "urn:beluga:problem:tls-needed");
        assert!(problem["detail"].as_str().expect("text").contains("https://"), "{problem}");
        let answer = said(at, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert!(answer.contains("this port speaks TLS") && !answer.starts_with("HTTP"), "{answer}");
        assert_eq!(said(at, b"\0\x01\x02"), "", "noise is not answered");
        assert_eq!(server.get("/healthz").send().expect("others are").status(), 200);
    }
    let (_, why) = postgres::told(&postgres::Client::of_refused(&server));
    assert!(why.contains("encrypted connections only") && why.contains("sslmode=require"), "{why}");
    // What somebody sends along with the question is not taken for something that came encrypted.
    let stuffed = [ASKS_TLS, b"\0\0\0\x08\0\x03\0\0"].concat();
    assert!(said(server.postgres(), &stuffed).starts_with('S'), "and then nothing but TLS");
}

#[test]
fn connections_that_do_not_begin_keep_nobody_waiting() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    let mut server = server_with(&files, &authority, |_| {});
    let web: SocketAddr = server.url("").trim_start_matches("https://").parse().expect("an address");
    let mut idle = Vec::new();
    for at in [web, server.flight(), server.postgres()] {
        for _ in 0..30 {
            let silent = TcpStream::connect(at).expect("connected");
            let mut slow = TcpStream::connect(at).expect("connected");
            // The head of a record, and nothing of what it announces.
            slow.write_all(&[22, 3, 1, 2, 0]).expect("sent");
            idle.extend([silent, slow]);
        }
    }
    for _ in 0..5 {
        let fresh = client(&authority, None);
        assert_eq!(fresh.get(server.url("/healthz")).send().expect("answered").status(), 200);
    }
    handshake(server.flight(), tls(&authority, None, &["h2"])).expect("answered");
    let tunnel = Tunnel::to(server.postgres(), tls(&authority, None, &["postgresql"]), ASKS_TLS);
    assert_eq!(count_over_postgres(tunnel.address).expect("answered"), "0");
    drop(tunnel);
    server.stop();
    drop(idle);
}

#[test]
fn with_tls_and_tokens_a_server_listens_anywhere() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let start = |has_tls: bool| {
        let mut config = config(&data);
        config.http = "0.0.0.0:0".parse().expect("an address");
        config.flight = Some("0.0.0.0:0".parse().expect("an address"));
        if has_tls {
            files.set(&mut config);
        }
        Server::start(config).map(|server| server.stop().expect("stops")).map_err(|failure| failure.to_string())
    };
    let refused = start(true).expect_err("anybody could do anything");
    assert!(refused.contains("there is no token"), "{refused}");
    let made = beluga(&["token", "create", "a", "--scope", "query", "--data", text(&data)]);
    assert!(made.status.success(), "{}", stderr(&made));
    let refused = start(false).expect_err("tokens would travel as they are");
    assert!(refused.contains("tls_certificate"), "{refused}");
    start(true).expect("they are encrypted");
}

/// A token travels over PostgreSQL's protocol too where it is encrypted, and the flags of `serve` are its settings.
#[test]
fn flags_name_the_files() {
    let authority = Authority::new("an authority");
    let files = Files::of(&authority.issue());
    let printed = beluga(&[
        "serve",
        "--print-config",
        "--tls-certificate",
        &files.text("certificate.pem"),
        "--tls-key",
        &files.text("key.pem"),
        "--tls-client-ca",
        "ca.pem",
    ]);
    let text = stdout(&printed);
    for line in [
        format!("tls_certificate: \"{}\"", files.text("certificate.pem")),
        format!("tls_key: \"{}\"", files.text("key.pem")),
        "tls_client_ca: \"ca.pem\"".to_owned(),
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line} is missing: {text}");
    }
    let server = server_with(&files, &authority, |_| {});
    let answer = server.post("/v1/tokens").json(&json!({"name": "a", "scopes": ["query", "export"]})).send();
    let token = success(answer.expect("post"))["token"].as_str().expect("text").to_owned();
    let tunnel = Tunnel::to(server.postgres(), tls(&authority, None, &["postgresql"]), ASKS_TLS);
    let mut settings = tokio_postgres::Config::new();
    settings.host("127.0.0.1").port(tunnel.address.port()).user("ann").dbname("beluga").password(&token);
    let client = postgres::Client::with(&settings).expect("a token");
    assert_eq!(client.text("SELECT count(*) FROM users"), "0");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
