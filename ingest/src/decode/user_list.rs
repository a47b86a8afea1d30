//! Lists of user ids, as uploaded for an audience.

use super::error::LineError;
use engine::update::UpdateBatch;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserListFormat {
    /// An id a line.
    Text,
    /// A header line that names the columns, one of them `user_id`.
    Csv,
    /// A line is `"u1"`, `17` or `{"user_id":"u1"}`; other keys are ignored.
    Ndjson,
}

/// Decodes the lines of a list into additions to the uploaded list `list_id`.
#[derive(Clone, Debug)]
pub struct UserListDecoder {}

impl UserListDecoder {
    /// A decoder that adds every user to `list_id`.
    pub fn new(format: UserListFormat, list_id: &str) -> Self {
        let _ = (format, list_id);
        todo!()
    }

    /// Appends the line's user to `batch`; a CSV header adds nothing.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let _ = (line, batch);
        todo!()
    }
}
