//! The text of a token: `blg_`, 48 hexadecimal digits that nobody can guess, and 8 that tell a mistyped one.
//!
//! The prefix lets scanners of source code find tokens that were committed by mistake. What is kept is the SHA-256 of the text:
//! with 192 random bits there is nothing to be gained by a slower hash.

use super::hex;
use crate::error::Failure;
use ring::digest::{SHA256, digest as sha};
use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "blg_";
/// Random bytes.
const SECRET_BYTES: usize = 24;
/// Bytes that follow from those before.
const CHECK_BYTES: usize = 4;

/// Makes one.
///
/// # Errors
/// [`Failure`] if the operating system gives no random bytes.
pub(super) fn make() -> Result<String, Failure> {
    let mut secret = [0u8; SECRET_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| Failure::internal("no random bytes"))?;
    let text = format!("{PREFIX}{}", hex(&secret));
    Ok(format!("{text}{}", check(&text)))
}

/// What is kept of a token; `None` if the text cannot be one.
pub(super) fn digest(text: &str) -> Option<String> {
    let at = text.len().checked_sub(2 * CHECK_BYTES)?;
    let (body, end) = (text.get(..at)?, text.get(at..)?);
    let is_whole = body.starts_with(PREFIX) && body.len() == PREFIX.len() + 2 * SECRET_BYTES && end == check(body);
    is_whole.then(|| hex(sha(&SHA256, text.as_bytes()).as_ref()))
}

fn check(body: &str) -> String {
    hex(&sha(&SHA256, body.as_bytes()).as_ref()[..CHECK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_token_is_none() {
        let (text, other) = (make().expect("random"), make().expect("random"));
        assert_ne!(text, other);
        assert_eq!(digest(&text).expect("whole").len(), 64);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(digest(std::str::from_utf8(&bytes).expect("ASCII")), None, "at {at}");
        }
        for wrong in ["", "blg_", "é", &text[1..], &text[..text.len() - 1], "ééééééééééééééééééééééé"]
        {
            assert_eq!(digest(wrong), None, "{wrong}");
        }
    }
}
