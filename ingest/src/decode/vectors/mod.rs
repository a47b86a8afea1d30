//! One line of `POST /v1/spaces/{space}` to the vector of one user.
//!
//! ```json
//! {"user_id":"u1","vector":[0.12,-0.5,3]}
//! ```
//!
//! * `user_id`: as in the lines of tags.
//! * `vector`: as many numbers as the space has dimensions, each rounded to 32 bits; it replaces the one that the user has.
//!   `null` takes that away.
//!
//! Lines of files may have other names for both, and other fields beside them; see [`VectorFields`].
//!
//! * [`columns`]: rows of Arrow to the same.

// Only files ask which fields lines had.
#![cfg_attr(not(feature = "backfill"), allow(dead_code))]

#[cfg(feature = "arrow")]
pub mod columns;

use super::error::{LineError, LineErrorKind};
use super::json::{Json, Kind};
use super::tags::{read_user_id, shown, twice, utf8};
use engine::audience::suggest::closest;
use engine::catalog::{Space, VectorError};
use engine::update::{Change, UpdateBatch};
use std::collections::BTreeSet;

/// Which fields of a line, or columns of a row, are read, and what the others and NULLs mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorFields {
    /// The one with the user id.
    pub user_id: String,
    /// The one with the numbers.
    pub vector: String,
    /// Others are passed over, and a line without the one with the numbers says nothing; else both are errors.
    pub is_lenient: bool,
    /// A NULL leaves the vector as it was; else it takes it away.
    pub nulls_keep: bool,
}

impl Default for VectorFields {
    /// Those of `POST /v1/spaces/{space}`.
    fn default() -> VectorFields {
        let (user_id, vector) = ("user_id".to_owned(), "vector".to_owned());
        VectorFields { user_id, vector, is_lenient: false, nulls_keep: false }
    }
}

/// Decodes lines against one vector space.
#[derive(Clone, Debug)]
pub struct VectorDecoder {
    space: Space,
    fields: VectorFields,
    user_id: String,
    numbers: Vec<f32>,
    /// Reused buffer for strings with escapes.
    scratch: String,
    met: Met,
}

/// Which fields lines had.
#[derive(Clone, Debug, Default)]
struct Met {
    vector: bool,
    /// Lines that were good but for the vector, which they did not have.
    without_count: u64,
    /// Fields that were passed over, the first ones.
    others: BTreeSet<String>,
    /// Those of them that were taken.
    others_taken: BTreeSet<String>,
}

/// Fields that were passed over are told, so many of them.
const OTHERS_MAX: usize = 100;

impl VectorDecoder {
    /// A decoder for vectors of a space as it is declared now.
    pub fn new(space: &Space) -> VectorDecoder {
        VectorDecoder::with_fields(space, VectorFields::default())
    }

    /// One for lines whose fields have these names and meanings.
    pub fn with_fields(space: &Space, fields: VectorFields) -> VectorDecoder {
        let (user_id, scratch) = <(String, String)>::default();
        VectorDecoder { space: *space, fields, user_id, numbers: Vec::new(), scratch, met: Met::default() }
    }

    /// Appends the line's user and vector to `batch`; on an error the batch is as before.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let Some(is_there) = self.read(utf8(line)?)? else {
            self.met.without_count += 1;
            return Ok(());
        };
        batch.begin_user(self.user_id.as_bytes());
        if is_there {
            batch.push_vector(self.space.id, &self.numbers);
        } else {
            push_null(&self.space, &self.fields, batch);
        }
        Ok(())
    }

    /// Looks which fields a line has that was decoded before, as far as [`VectorDecoder::check_met`] asks.
    pub(crate) fn look(&mut self, line: &[u8]) {
        if !self.met.vector {
            // What is wrong with it was told when it was decoded.
            let _ = utf8(line).and_then(|line| self.read(line));
        }
    }

    /// At the end of a file: that its lines have vectors, or say that there is none.
    ///
    /// # Errors
    /// For people: that no line has the field, and what it may be called.
    pub(crate) fn check_met(&self) -> Result<(), String> {
        let Met { vector, without_count, others, .. } = &self.met;
        if *vector || *without_count == 0 {
            return Ok(());
        }
        let VectorFields { user_id, vector, .. } = &self.fields;
        let near = closest(vector, others.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Err(format!("no line has the key `{vector}`{near}; a line has `{user_id}` and `{vector}`"))
    }

    /// Fields that were passed over since the last call, the first [`OTHERS_MAX`] in all.
    pub(crate) fn take_others(&mut self) -> Vec<String> {
        let Met { others, others_taken, .. } = &mut self.met;
        let fresh: Vec<String> = others.difference(others_taken).cloned().collect();
        others_taken.extend(fresh.iter().cloned());
        fresh
    }

    /// Reads a line into the buffers; `Some(false)` if it says that there is no vector, `None` if it says nothing of one.
    fn read(&mut self, line: &str) -> Result<Option<bool>, LineError> {
        let mut json = Json::new(line, 0);
        if json.kind()? != Kind::Object {
            return Err(json.error("a line is a JSON object").suggest(SHAPE));
        }
        json.begin_object()?;
        let (mut first, mut key_buffer) = (true, String::new());
        let (mut has_user, mut vector) = (false, None);
        while let Some(key) = json.key(&mut first, &mut key_buffer)? {
            let key_at = json.key_position();
            let is_again = if key == self.fields.user_id {
                read_user_id(&mut json, &mut self.scratch, &mut self.user_id)?;
                std::mem::replace(&mut has_user, true)
            } else if key == self.fields.vector {
                self.met.vector = true;
                let is_there = self.read_vector(&mut json)?;
                vector.replace(is_there).is_some()
            } else if self.fields.is_lenient {
                let others = &mut self.met.others;
                if others.len() < OTHERS_MAX && !others.contains(key) {
                    others.insert(key.to_owned());
                }
                json.skip(&mut self.scratch)?;
                false
            } else {
                return Err(unknown_field(key).at(key_at));
            };
            if is_again {
                return Err(twice(key, key_at));
            }
        }
        json.end()?;
        let VectorFields { user_id, vector: field, is_lenient, .. } = &self.fields;
        if !has_user {
            return Err(LineError::new(LineErrorKind::UserId, format!("`{user_id}` is missing")).suggest(SHAPE));
        }
        if vector.is_none() && !is_lenient {
            return Err(LineError::new(LineErrorKind::Key, format!("`{field}` is missing"))
                .suggest(format!("write the numbers of the vector, or \"{field}\":null to take it away")));
        }
        Ok(vector)
    }

    fn read_vector(&mut self, json: &mut Json<'_>) -> Result<bool, LineError> {
        let kind = json.kind()?;
        let at = json.position();
        let field = &self.fields.vector;
        let refuse =
            |what: String| LineError::new(LineErrorKind::Type, format!("`{field}`: {what}")).at(at).suggest(SHAPE);
        match kind {
            Kind::Null => {
                json.word()?;
                return Ok(false);
            }
            Kind::Array => json.begin_array()?,
            other => return Err(refuse(format!("a list of numbers is expected, not {}", other.noun()))),
        }
        self.numbers.clear();
        let mut first = true;
        while json.item(&mut first)? {
            match json.kind()? {
                Kind::Number => {
                    let text = json.number()?;
                    self.numbers.push(text.parse().map_err(|_| refuse(format!("{} is no number", shown(text))))?);
                }
                other => {
                    let place = self.numbers.len() + 1;
                    return Err(refuse(format!("a number is expected at place {place}, not {}", other.noun())));
                }
            }
        }
        self.space.check(&self.numbers).map_err(|error| value_error(field, &error).at(at))?;
        Ok(true)
    }
}

const SHAPE: &str = "write {\"user_id\":\"u1\",\"vector\":[0.5,-1.25,…]}";

/// What it means that the user begun last has no vector.
fn push_null(space: &Space, fields: &VectorFields, batch: &mut UpdateBatch) {
    if !fields.nulls_keep {
        batch.push(space.id, Change::Unset);
    }
}

/// The refusal of a vector.
fn value_error(field: &str, error: &VectorError) -> LineError {
    LineError::new(LineErrorKind::Value, format!("`{field}`: {error}"))
}

/// The refusal of a field, or a column, that vectors do not have.
fn unknown_field(name: &str) -> LineError {
    let error = LineError::new(LineErrorKind::Key, format!("unknown field `{}`", shown(name)));
    match closest(name, ["user_id", "vector"]) {
        Some(near) => error.suggest(format!("did you mean `{near}`?")),
        None => error.suggest("a vector has the fields `user_id` and `vector`; tags and facts have doors of their own"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::catalog::Metric;
    use engine::ids::TagId;

    fn space() -> Space {
        Space { id: TagId(16), dimension: 3, metric: Metric::Cosine }
    }

    fn decode(line: &str) -> Result<String, LineError> {
        let mut batch = UpdateBatch::new();
        let decoded = VectorDecoder::new(&space()).decode(line.as_bytes(), &mut batch);
        if decoded.is_err() {
            assert!(batch.is_empty());
        }
        decoded.map(|()| told(&batch))
    }

    /// The users of a batch and what becomes of their vectors.
    pub(super) fn told(batch: &UpdateBatch) -> String {
        let mut out = String::new();
        for user in batch.users() {
            out += &String::from_utf8_lossy(user.user_id);
            for (space, change) in user.changes() {
                assert_eq!(space, TagId(16));
                match change {
                    Change::Unset => out += " none;",
                    Change::Vector(numbers) => {
                        let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
                        out += &format!(" {numbers:?};");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        out
    }

    #[test]
    fn takes_vectors_and_takes_them_away() {
        assert_eq!(decode(r#"{"user_id":"u1","vector":[1,-0.5,2e-1]}"#).expect("good"), "u1 [1.0, -0.5, 0.2];");
        assert_eq!(decode(r#" {"vector" : [ 0 , 0 , 1 ] , "user_id" : 17 }"#).expect("good"), "17 [0.0, 0.0, 1.0];");
        assert_eq!(decode(r#"{"user_id":"u1","vector":null}"#).expect("good"), "u1 none;");
    }

    #[test]
    fn lines_of_files_have_names_of_their_own() {
        let fields = |nulls_keep| VectorFields {
            user_id: "id".to_owned(),
            vector: "taste".to_owned(),
            is_lenient: true,
            nulls_keep,
        };
        let decode = |line: &str, nulls_keep| {
            let mut batch = UpdateBatch::new();
            let mut decoder = VectorDecoder::with_fields(&space(), fields(nulls_keep));
            decoder.decode(line.as_bytes(), &mut batch).map(|()| told(&batch)).map_err(|error| error.to_string())
        };
        let line = r#"{"user_id":"x","vector":[1],"taste":[1,2,3],"deep":{"a":[null]},"id":"u"}"#;
        assert_eq!(decode(line, true).expect("good"), "u [1.0, 2.0, 3.0];");
        let null = r#"{"id":"u","taste":null}"#;
        assert_eq!(decode(null, false).expect("good"), "u none;");
        assert_eq!(decode(null, true).expect("good"), "u");
        // What is not said takes nothing away.
        for nulls_keep in [false, true] {
            assert_eq!(decode(r#"{"id":"u","other":1}"#, nulls_keep).expect("good"), "");
        }
        for (line, part) in [
            (r#"{"user_id":"u","taste":[1,2,3]}"#, "`id` is missing"),
            (r#"{"id":"u","taste":[1,2]}"#, "`taste`: a vector of this space has 3"),
            (r#"{"id":"u","taste":7}"#, "`taste`: a list of numbers is expected"),
            (r#"{"id":"u","taste":[1,2,3],"taste":null}"#, "`taste` is given twice"),
        ] {
            let error = decode(line, true).expect_err(line);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (line, message, column, suggestion) in [
            ("[1]", "a JSON object", Some(1), SHAPE),
            (r#"{"vector":[1,2,3]}"#, "`user_id` is missing", None, SHAPE),
            (r#"{"user_id":"u"}"#, "`vector` is missing", None, "null to take it away"),
            (r#"{"user_id":"u","vector":[1,2]}"#, "has 3 numbers, this one has 2", Some(25), ""),
            (r#"{"user_id":"u","vector":[0,0,0]}"#, "no length", Some(25), ""),
            (r#"{"user_id":"u","vector":[1,1e39,0]}"#, "number 2 of the vector is inf", Some(25), ""),
            (r#"{"user_id":"u","vector":[1,"2",3]}"#, "a number is expected at place 2, not a string", Some(25), SHAPE),
            (r#"{"user_id":"u","vector":"1,2,3"}"#, "a list of numbers is expected, not a string", Some(25), SHAPE),
            (r#"{"user_id":"u","vectro":[1,2,3]}"#, "unknown field `vectro`", Some(16), "did you mean `vector`?"),
            (r#"{"user_id":"u","user_id":"v","vector":null}"#, "`user_id` is given twice", Some(16), "keep one"),
            (r#"{"user_id":"","vector":null}"#, "the user id is empty", Some(12), ""),
        ] {
            let error = decode(line).expect_err(line);
            assert!(error.message.contains(message), "{line}: {error}");
            assert_eq!(error.column, column, "{line}: {error}");
            assert!(error.suggestion.unwrap_or_default().contains(suggestion), "{line}");
        }
    }
}
