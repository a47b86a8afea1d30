//! Which format a client wants: `Accept` by RFC 9110, section 12.5.1.

use crate::error::{Failure, Kind};
use axum::http::{HeaderMap, header};

/// The formats of a list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One page as a JSON object.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// A header line, then an id a line.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// Bitmaps of slots in the portable Roaring format.
    Roaring,
}

impl Format {
    /// All of them; the first is what a client gets that accepts anything.
    pub const ALL: [Format; 6] =
        [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow, Format::Parquet, Format::Roaring];

    /// Its media type, as answered.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Roaring => "application/vnd.roaring",
        }
    }

    fn by_media_type(name: &str) -> Option<Format> {
        match name {
            "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
            "text/json" => Some(Format::Json),
            _ => Format::ALL.into_iter().find(|format| format.media_type() == name),
        }
    }
}

/// The format that `Accept` prefers; the first of [`Format::ALL`] without the header.
///
/// # Errors
/// [`Kind::NotAcceptable`] if it names none of ours.
pub fn accepted(headers: &HeaderMap) -> Result<Format, Failure> {
    let mut accept = headers.get_all(header::ACCEPT).iter().peekable();
    if accept.peek().is_none() {
        return Ok(Format::Json);
    }
    let mut best: Option<(Format, f32)> = None;
    let ranges: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    for range in &ranges {
        let (name, quality) = parse_range(range);
        let format = match name.as_str() {
            "*/*" | "application/*" => Some(Format::Json),
            "text/*" => Some(Format::Csv),
            name => Format::by_media_type(name),
        };
        match format {
            Some(format) if quality > best.map_or(0.0, |(_, quality)| quality) => best = Some((format, quality)),
            _ => {}
        }
    }
    best.map(|(format, _)| format).ok_or_else(|| {
        let ours: Vec<&str> = Format::ALL.iter().map(|format| format.media_type()).collect();
        Failure::new(Kind::NotAcceptable, format!("cannot answer in `{}`", ranges.join(",").trim()))
            .suggest(format!("accept one of {}", ours.join(", ")))
    })
}

/// The media range without parameters, in lower case, and its quality.
fn parse_range(range: &str) -> (String, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    (name, quality.and_then(|text| text.parse().ok()).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Format>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("header"));
        assert_eq!(accepted(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn the_preferred_known_format_wins() {
        assert_eq!(accepted(&HeaderMap::new()), Ok(Format::Json));
        check("*/*", Some(Format::Json));
        check("text/html, */*;q=0.1", Some(Format::Json));
        check("text/csv", Some(Format::Csv));
        check("application/json;q=0.5, application/vnd.apache.parquet", Some(Format::Parquet));
        check("Application/X-NDJSON; charset=utf-8", Some(Format::Ndjson));
        check("application/vnd.apache.arrow.stream;q=0.9,text/csv;q=0.8", Some(Format::Arrow));
        check("application/vnd.roaring", Some(Format::Roaring));
        check("image/png", None);
        check("text/csv;q=0", None);
    }
}
