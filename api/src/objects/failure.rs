//! What an error of a store means: whether it may pass, and a sentence about it.
//!
//! Stores answer errors with XML that repeats the request; of that only the code and the message are told.

use ingest::objects::{ObjectError, ObjectErrorKind};
use object_store::Error;
use std::error::Error as _;

/// The longest part of somebody else's words that is passed on, in characters.
const WORDS_MAX: usize = 300;

/// What the client says before the status and the body of an answer, and before a body that is an error in spite of its status.
const OF_STATUS: &str = "non-2xx status code: ";
const OF_RESPONSE: &str = "error response: ";

/// `is_listing`: what was asked for is a bucket's, not an object's. Who asked knows the name.
pub(super) fn read(error: &Error, is_listing: bool) -> ObjectError {
    let words = words(error);
    // Of a listing every status is the same kind of error to the client.
    let status = status(&words);
    let (kind, what) = match (error, status) {
        (Error::NotFound { .. }, _) | (_, Some(404)) if is_listing || words.contains("NoSuchBucket") => {
            (ObjectErrorKind::Refused, format!("there is no such bucket ({words})"))
        }
        (Error::NotFound { .. }, _) | (_, Some(404)) => (ObjectErrorKind::Gone, "there is no such object".to_owned()),
        (Error::Precondition { .. } | Error::NotModified { .. }, _) | (_, Some(412)) => {
            (ObjectErrorKind::Changed, "it was replaced while it was read".to_owned())
        }
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => (
            ObjectErrorKind::Refused,
            format!("the store refuses access with the credentials that it was given ({words})"),
        ),
        (Error::InvalidPath { source }, _) => {
            (ObjectErrorKind::Refused, format!("such a name cannot be read; rename the object ({source})"))
        }
        // What no second attempt makes better.
        (_, Some(400..=407 | 409..=424 | 426..=428 | 430..=499)) => (ObjectErrorKind::Refused, words),
        _ if words.contains("redirect without LOCATION") => (ObjectErrorKind::Refused, words),
        _ => (ObjectErrorKind::Unavailable, format!("the store does not answer as it should ({words})")),
    };
    ObjectError::new(kind, what)
}

/// What the store answered with, if it did.
fn status(words: &str) -> Option<u16> {
    words.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The innermost errors, without what repeats.
fn words(error: &Error) -> String {
    let mut chain: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    if chain.is_empty() {
        chain.push(error.to_string());
    }
    let told: Vec<String> = chain.iter().map(|text| of_xml(text)).collect();
    // An outer error repeats the inner ones behind its own words: kept is what no other one holds.
    let inner = |place: usize| told[place + 1..].iter().all(|deeper| !told[place].contains(deeper.as_str()));
    let kept: Vec<&str> = (0..told.len()).filter(|place| inner(*place)).map(|place| told[place].as_str()).collect();
    let text = kept.join(": ");
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `Server returned non-2xx status code: 403 Forbidden: <?xml …` to `… 403 Forbidden: AccessDenied: Access Denied`. Of any other body
/// nothing is told: whoever declares an endpoint would read there what answers inside the server's network.
fn of_xml(text: &str) -> String {
    let plain = |text: &str| text.trim().trim_end_matches(':').trim().to_owned();
    let Some((before, body)) = split_body(text) else { return plain(text.split('<').next().unwrap_or_default()) };
    let member = |name: &str| {
        let rest = body.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let mut told = vec![plain(before)];
    if body.trim_start().starts_with('<')
        && let Some(code) = member("Code")
    {
        told.push(code);
        told.extend(member("Message"));
    }
    told.join(": ")
}

/// What the client says of an answer, and the answer's body.
fn split_body(text: &str) -> Option<(&str, &str)> {
    if let Some(begin) = text.find(OF_STATUS) {
        let status = &text[begin + OF_STATUS.len()..];
        let length = status.find(": ").map_or(status.len(), |end| end + 1);
        return Some(text.split_at(begin + OF_STATUS.len() + length));
    }
    let begin = text.find(OF_RESPONSE)? + OF_RESPONSE.len();
    Some(text.split_at(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        let kind = |text: &str| read(&generic(text), false).kind;
        assert_eq!(kind("Server returned non-2xx status code: 400 Bad Request: <Error/>"), ObjectErrorKind::Refused);
        assert_eq!(kind("Server returned non-2xx status code: 503 Slow Down: "), ObjectErrorKind::Unavailable);
        assert_eq!(kind("Server returned non-2xx status code: 429 Too Many Requests: "), ObjectErrorKind::Unavailable);
        assert_eq!(kind("Server returned non-2xx status code: 412 No: "), ObjectErrorKind::Changed);
        assert_eq!(kind("error sending request for url (http://10.0.0.1:443/404)"), ObjectErrorKind::Unavailable);
        assert_eq!(kind("Received redirect without LOCATION, this normally"), ObjectErrorKind::Refused);
        let gone = Error::NotFound { path: "a".to_owned(), source: "404".into() };
        assert_eq!(read(&gone, false).kind, ObjectErrorKind::Gone);
        assert_eq!(read(&gone, true).kind, ObjectErrorKind::Refused);
        let listing =
            generic("Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>");
        assert!(read(&listing, true).what.contains("no such bucket (Server returned non-2xx status code: 404"));
    }

    #[test]
    fn of_an_answer_only_its_code_and_message_are_told() {
        let answer = "Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code><Message>They differ.</Message>\
                      <StringToSign>AWS4-HMAC-SHA256 abc</StringToSign></Error>";
        let source = answer.to_owned().into();
        let told = read(&Error::PermissionDenied { path: "a".to_owned(), source }, false).what;
        assert!(
            told.contains("403 Forbidden: SignatureDoesNotMatch: They differ.") && !told.contains("HMAC"),
            "{told}"
        );
        for body in ["key=abc", "{\"key\": \"abc\"}", "<html>abc</html>", "abc <Code>abc</Code>"] {
            let text = format!(
                "Error performing GET http://10.0.0.1/b in 1ms - Server returned non-2xx status code: 400 Bad Request: {body}"
            );
            let told = read(&generic(&text), false).what;
            assert!(told.ends_with("400 Bad Request") && !told.contains("abc"), "{told}");
        }
        let long = read(&generic(&"x".repeat(10_000)), false).what;
        assert!(long.len() < 2 * WORDS_MAX, "{long}");
    }
}
