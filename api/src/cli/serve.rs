//! `beluga serve`.

use super::Exit;
use crate::config::{Config, SETTINGS};
use crate::server::Server;
use crate::signals::Signals;
use engine::audience::suggest::closest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// Runs the server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every setting can stand in the file of --config (YAML, `query_timeout_ms: 5000`), in the environment\n(BELUGA_QUERY_TIMEOUT_MS=5000) and behind --set (query_timeout_ms=5000); --print-config lists all of them.\n\nExamples:\n  beluga serve --data ./beluga-data\n  beluga serve --config /etc/beluga.yaml --http 0.0.0.0:7700"
)]
pub(super) struct Arguments {
    /// The data directory; made if there is none
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address of REST, the console, docs and metrics
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of Flight SQL; `off` if it is not wanted
    #[arg(long, value_name = "ADDR")]
    flight: Option<String>,
    /// Address of PostgreSQL's protocol, such as 127.0.0.1:5432; off unless it is set
    #[arg(long, value_name = "ADDR")]
    postgres: Option<String>,
    /// The server's certificate (PEM), with those between it and its authority: all ports speak TLS then
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Ask clients for a certificate of these authorities (PEM)
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// A file with settings
    #[arg(long, value_name = "FILE", env = "BELUGA_CONFIG")]
    config: Option<PathBuf>,
    /// One more setting
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the settings as they are, as a file, and end
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let flags = flags(arguments)?;
    let config = Config::load(arguments.config.as_deref(), |name| std::env::var(name).ok(), &flags)?;
    if arguments.print_config {
        print!("{}", config.to_text());
        return Ok(());
    }
    start_log(&config)?;
    let data = config.data.clone();
    let signals = Signals::listen()?;
    let server = Server::start(config)?;
    eprintln!("beluga {} serves {} at {}", env!("CARGO_PKG_VERSION"), data.display(), server.url());
    if let Some(url) = server.flight_url() {
        eprintln!("Flight SQL: {url}");
    }
    if let Some(url) = server.postgres_url() {
        eprintln!("PostgreSQL: {url}");
    }
    tracing::info!(address = %server.address(), flight = ?server.flight_address(), data = %data.display(), "ready");
    signals.wait();
    eprintln!("stopping: finishing requests and writing a checkpoint");
    server.stop()?;
    eprintln!("stopped");
    Ok(())
}

fn flags(arguments: &Arguments) -> Result<BTreeMap<&'static str, String>, Exit> {
    let mut flags = BTreeMap::new();
    for pair in &arguments.set {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| Exit::Usage(format!("--set `{pair}`: expected NAME=VALUE")))?;
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let meant = closest(name, SETTINGS.iter().map(|setting| setting.name));
            let meant = meant.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            return Err(Exit::Usage(format!("--set: unknown setting `{name}`{meant}")));
        };
        flags.insert(setting.name, value.to_owned());
    }
    let named = [
        ("data", &arguments.data),
        ("http", &arguments.http),
        ("flight", &arguments.flight),
        ("postgres", &arguments.postgres),
        ("tls_certificate", &arguments.tls_certificate),
        ("tls_key", &arguments.tls_key),
        ("tls_client_ca", &arguments.tls_client_ca),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            flags.insert(name, value.clone());
        }
    }
    Ok(flags)
}

/// Libraries that tell every step of theirs; what the configuration says of them goes before.
const LIBRARIES: &str = "buoyant_kernel=warn,delta_kernel=warn,deltalake=warn,deltalake_core=warn,datafusion=warn";

/// Logs to standard error as the configuration says.
fn start_log(config: &Config) -> Result<(), Exit> {
    let filter = EnvFilter::try_new(format!("{LIBRARIES},{}", config.log))
        .map_err(|error| Exit::Usage(format!("log: `{}`: {error}; write info, or info,engine=debug", config.log)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if config.log_format == "json" { log.json().try_init() } else { log.try_init() };
    started.map_err(|error| Exit::Usage(format!("log: {error}")))
}
