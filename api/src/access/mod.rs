//! Who may ask: each door shows what a caller says of itself, and is told who that is.

use crate::error::Failure;

/// Knows who may ask.
#[derive(Debug, Default)]
pub struct Access;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Access {
    /// Who that is. `authorization` is the text of the header: `Bearer` and a token, or `Basic` with the token as password.
    ///
    /// # Errors
    /// [`Failure`] for the client, if nobody is known by that.
    pub fn check(&self, _authorization: Option<&str>) -> Result<Principal, Failure> {
        Ok(Principal { name: "anonymous".to_owned() })
    }
}
