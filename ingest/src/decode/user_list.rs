//! Lists of user ids, as uploaded for an audience.

use super::error::{LineError, LineErrorKind};
use super::json::{Json, Kind};
use super::tags::{check_user_id, read_user_id, shown, utf8};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserListFormat {
    /// An id a line; white space around it is not part of it.
    Text,
    /// A header line that names the columns, one of them `user_id`. A cell may stand in double quotes, but not run
    /// over several lines.
    Csv,
    /// A line is `"u1"`, `17` or `{"user_id":"u1"}`; other keys are ignored.
    Ndjson,
}

/// Decodes the lines of a list into additions to the uploaded list `list_id` ([`TagId::UPLOADS`]).
#[derive(Clone, Debug)]
pub struct UserListDecoder {
    format: UserListFormat,
    list_id: String,
    /// The CSV column of the ids, once the header was read.
    column: Option<usize>,
    user_id: String,
    scratch: String,
}

impl UserListDecoder {
    /// A decoder that adds every user to `list_id`.
    pub fn new(format: UserListFormat, list_id: &str) -> Self {
        let (user_id, scratch) = <(String, String)>::default();
        UserListDecoder { format, list_id: list_id.to_owned(), column: None, user_id, scratch }
    }

    /// Appends the line's user to `batch` and answers true; a CSV header adds nothing and answers false.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where; the batch is as before.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<bool, LineError> {
        let text = utf8(line)?;
        self.user_id.clear();
        match self.format {
            UserListFormat::Text => self.user_id.push_str(text.trim()),
            UserListFormat::Ndjson => self.read_json(text)?,
            UserListFormat::Csv => {
                let Some(column) = self.column else {
                    self.column = Some(find_column(text)?);
                    return Ok(false);
                };
                self.user_id = csv_cells(text)?.into_iter().nth(column).ok_or_else(|| {
                    let message = format!("the line has no cell {}, where the header names `user_id`", column + 1);
                    LineError::new(LineErrorKind::Syntax, message)
                })?;
            }
        }
        check_user_id(self.user_id.as_bytes())?;
        batch.begin_user(self.user_id.as_bytes());
        batch.push(TagId::UPLOADS, Change::Add(&self.list_id));
        Ok(true)
    }

    fn read_json(&mut self, text: &str) -> Result<(), LineError> {
        let mut json = Json::new(text, 0);
        if json.kind()? != Kind::Object {
            read_user_id(&mut json, &mut self.scratch, &mut self.user_id)?;
            return json.end();
        }
        json.begin_object()?;
        let (mut first, mut key) = (true, String::new());
        while let Some(key) = json.key(&mut first, &mut key)? {
            if key == "user_id" {
                read_user_id(&mut json, &mut self.scratch, &mut self.user_id)?;
            } else {
                json.skip(&mut self.scratch)?;
            }
        }
        if self.user_id.is_empty() {
            return Err(
                LineError::new(LineErrorKind::UserId, "`user_id` is missing").suggest("write {\"user_id\":\"u1\"}")
            );
        }
        json.end()
    }
}

fn find_column(header: &str) -> Result<usize, LineError> {
    let cells = csv_cells(header.trim_start_matches('\u{feff}'))?;
    cells.iter().position(|name| name.trim() == "user_id").ok_or_else(|| {
        let message = format!("the first line names no column `user_id`; it is `{}`", shown(header));
        LineError::new(LineErrorKind::Syntax, message)
            .suggest("name the columns in the first line, or send a bare list as text/plain")
    })
}

/// The cells of one CSV line (RFC 4180, but without line feeds inside quotes).
fn csv_cells(line: &str) -> Result<Vec<String>, LineError> {
    let mut cells = Vec::new();
    let mut rest = line.trim_end_matches('\r');
    loop {
        let (cell, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        cells.push(cell);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(cells),
            None => return Err(LineError::new(LineErrorKind::Syntax, "`,` is expected behind a closing quote")),
        }
    }
}

/// The cell behind an opening quote, and what follows its closing quote.
fn quoted_cell(quoted: &str) -> Result<(String, &str), LineError> {
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or_else(|| {
            LineError::new(LineErrorKind::Syntax, "a quoted cell does not end on its line")
                .suggest("user ids in a list hold no line feeds")
        })?;
        cell.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                cell.push('"');
                rest = next;
            }
            None => return Ok((cell, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: UserListFormat, lines: &str, expected: &str) {
        let mut decoder = UserListDecoder::new(format, "l1");
        let mut batch = UpdateBatch::new();
        let mut errors = String::new();
        for line in lines.lines() {
            if let Err(error) = decoder.decode(line.as_bytes(), &mut batch) {
                errors += &format!("|{error}");
            }
        }
        let mut users = String::new();
        for user in batch.users() {
            assert_eq!(user.changes().collect::<Vec<_>>(), [(TagId::UPLOADS, Change::Add("l1"))]);
            users += &format!("{} ", String::from_utf8_lossy(user.user_id));
        }
        assert_eq!(format!("{users}{errors}"), expected);
    }

    #[test]
    fn reads_every_form() {
        check(UserListFormat::Text, "u1\n  17 \r\nü", "u1 17 ü ");
        check(UserListFormat::Ndjson, "\"u1\"\n17\n{\"x\":[1],\"user_id\":\"u2\"}", "u1 17 u2 ");
        check(UserListFormat::Csv, "name,user_id\r\n\"a,\"\"b\",u1\n,\"u,2\"", "u1 u,2 ");
    }

    #[test]
    fn refuses_by_line() {
        check(UserListFormat::Ndjson, "{\"id\":1}", "|`user_id` is missing; write {\"user_id\":\"u1\"}");
        check(
            UserListFormat::Csv,
            "u1\nuser_id,b\n\"x\n,1",
            "|the first line names no column `user_id`; it is `u1`; name the columns in the first line, or send a bare list \
             as text/plain|a quoted cell does not end on its line; user ids in a list hold no line feeds|the user id is empty",
        );
        check(
            UserListFormat::Text,
            &"x".repeat(1025),
            "|the user id has 1025 bytes; at most 1024 are allowed; use a shorter id, or a hash of it",
        );
    }
}
