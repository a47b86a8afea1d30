//! `beluga watch`: who enters and who leaves a live audience, as it happens.

use super::Exit;
use super::target::Server;
use crate::error::{Failure, Kind};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// How long to wait before asking again after the connection was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Shows who enters and who leaves a live audience until it is ended with Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga watch vip\n  beluga watch vip --output ndjson >> changes.ndjson\n\nAn audience is made live by PUT /v1/audiences/{name} with \"live\": true."
)]
pub(super) struct Arguments {
    /// The audience
    name: String,
    #[command(flatten)]
    server: Server,
    /// How to write the changes
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// A JSON object a change
    Ndjson,
}

/// The data of an event, whichever it is.
#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    at: String,
    #[serde(default)]
    entered: Vec<String>,
    #[serde(default)]
    left: Vec<String>,
    size: Option<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    audience: &'a str,
    user_id: &'a str,
    change: &'a str,
    at: &'a str,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let server = arguments.server.connect()?;
    let mut last_id: Option<String> = None;
    let mut out = std::io::stdout().lock();
    loop {
        let stream = match server.changes(&arguments.name, last_id.as_deref()) {
            // Once it was there it may come back.
            Err(failure) if last_id.is_some() && matches!(failure.kind, Kind::Unreachable | Kind::NotReady) => None,
            stream => Some(stream?),
        };
        match stream {
            None => {}
            Some(stream) => follow(arguments, stream, &mut last_id, &mut out)?,
        }
        if last_id.is_none() {
            return Err(Failure::new(Kind::Unreachable, "the server ended the stream").into());
        }
        eprintln!("the connection was lost; asking again");
        std::thread::sleep(AGAIN_AFTER);
    }
}

/// Writes what comes until the connection is lost.
fn follow(
    arguments: &Arguments,
    stream: impl std::io::Read,
    last_id: &mut Option<String>,
    out: &mut impl Write,
) -> Result<(), Exit> {
    let (mut event, mut data, mut id) = (String::new(), String::new(), None);
    // A line that cannot be read is the end of the connection.
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        match line.split_once(':') {
            Some(("event", name)) => event = name.trim().to_owned(),
            Some(("data", text)) => data = text.trim_start().to_owned(),
            Some(("id", text)) => id = Some(text.trim().to_owned()),
            _ if line.is_empty() => {
                tell(arguments, &event, &data, out)?;
                *last_id = id.take().or_else(|| last_id.take()).or(Some("0".to_owned()));
                (event, data) = (String::new(), String::new());
            }
            // A comment, which says that the server is alive.
            _ => {}
        }
    }
    Ok(())
}

fn tell(arguments: &Arguments, event: &str, data: &str, out: &mut impl Write) -> Result<(), Exit> {
    let Ok(Data { at, entered, left, size }) = serde_json::from_str::<Data>(data) else { return Ok(()) };
    match (event, size) {
        ("reset", _) => eprintln!("changes were missed; see `beluga members \"in_audience('{}')\"`", arguments.name),
        ("size", Some(size)) => eprintln!("{}: {size} members", arguments.name),
        ("change", _) => {
            for (users, change) in [(&left, "left"), (&entered, "entered")] {
                for user_id in users {
                    let line = Line { audience: &arguments.name, user_id, change, at: &at };
                    match arguments.output {
                        Format::Text => writeln!(out, "{at}  {change:<7}  {user_id}")?,
                        Format::Ndjson => {
                            let text = serde_json::to_string(&line).map_err(std::io::Error::from)?;
                            writeln!(out, "{text}")?;
                        }
                    }
                }
            }
            out.flush()?;
        }
        _ => {}
    }
    Ok(())
}
