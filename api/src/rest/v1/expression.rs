//! The `where` of a question: text of the audience language, or its JSON tree form.

use crate::error::{Failure, Kind};
use crate::queries::{TEXT_BYTES_MAX, begin_of};
use crate::rest::v1::tree::from_json;
use engine::audience::bind::bind;
use engine::audience::expr::Expr;
use engine::audience::parse::parse;
use engine::audience::predicate::Predicate;
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, Tag};
use engine::clock::Clock;
use engine::store::{Audience, Snapshot};
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// An audience expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Where {
    /// In the audience language: `gender = 'f' AND age >= 25`.
    Text(String),
    /// As a tree.
    Tree(serde_json::Value),
}

impl utoipa::PartialSchema for Where {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let text = ObjectBuilder::new().schema_type(Type::String).description(Some(
            "The audience language: a SQL boolean expression over tags and what users did, such as `gender = 'f' AND age BETWEEN 25 AND 34 AND did('purchase', count >= 2, within => '30 days')`",
        ));
        let tree = ObjectBuilder::new().schema_type(Type::Object).description(Some("The same as a JSON tree"));
        OneOfBuilder::new().item(text).item(tree).into()
    }
}

impl utoipa::ToSchema for Where {}

impl From<&str> for Where {
    fn from(text: &str) -> Where {
        Where::Text(text.to_owned())
    }
}

/// An expression whose names and types are settled.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its canonical text.
    pub text: String,
    /// What it means.
    pub predicate: Predicate,
}

impl Where {
    /// Checks the expression against a snapshot; `pointer` is where it stands in the body.
    ///
    /// # Errors
    /// The kinds of [`engine::audience::error::ExprErrorKind`], with span or pointer.
    pub fn bind(&self, snapshot: &Snapshot, pointer: &str) -> Result<Bound, Failure> {
        self.bind_with(snapshot.catalog(), snapshot.audiences(), pointer)
    }

    /// As [`Where::bind`], against a catalog and audiences that are not published.
    ///
    /// # Errors
    /// As [`Where::bind`].
    pub fn bind_with(
        &self,
        catalog: &Catalog,
        audiences: &BTreeMap<String, Audience>,
        pointer: &str,
    ) -> Result<Bound, Failure> {
        let expr = self.expr(pointer)?;
        let bound = bind(&expr, catalog, audiences, SystemClock.now());
        let predicate = bound.map_err(|error| Failure::from(error).at(pointer))?;
        Ok(Bound { text: expr.to_string(), predicate })
    }

    /// The canonical text, names and types unchecked.
    ///
    /// # Errors
    /// As [`Where::bind`], for what concerns the grammar.
    pub fn text(&self, pointer: &str) -> Result<String, Failure> {
        Ok(self.expr(pointer)?.to_string())
    }

    /// As it came, or its begin: for lists of what was asked.
    pub(crate) fn told(&self) -> String {
        match self {
            Where::Text(text) => begin_of(text),
            Where::Tree(tree) => {
                let mut begin = Begin(Vec::new());
                // It ends where enough was written.
                let _ = serde_json::to_writer(&mut begin, tree);
                begin_of(&String::from_utf8_lossy(&begin.0))
            }
        }
    }

    /// What stands there, names and types unchecked.
    ///
    /// # Errors
    /// As [`Where::text`].
    pub fn expr(&self, pointer: &str) -> Result<Expr, Failure> {
        match self {
            Where::Text(text) => parse(text).map_err(|error| Failure::from(error).at(pointer)),
            Where::Tree(tree) => from_json(tree).map_err(|error| {
                let place = format!("{pointer}{}", error.pointer);
                Failure::from(error).at(place)
            }),
        }
    }
}

/// Takes no more than is shown.
struct Begin(Vec<u8>);

impl io::Write for Begin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One more than is shown, so that what is cut off is told.
        if self.0.len() > TEXT_BYTES_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let more = bytes.len().min(TEXT_BYTES_MAX + 1 - self.0.len());
        self.0.extend_from_slice(&bytes[..more]);
        Ok(more)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The tag of a name.
///
/// # Errors
/// [`Kind::UnknownTag`] with the nearest name.
pub fn tag<'a>(catalog: &'a Catalog, name: &str, pointer: &str) -> Result<&'a Tag, Failure> {
    catalog.tag(name).ok_or_else(|| {
        let failure = Failure::new(Kind::UnknownTag, format!("there is no tag `{name}`")).at(pointer);
        match closest(name, catalog.tags().map(|(name, _)| name)) {
            Some(name) => failure.suggest(format!("did you mean `{name}`?")),
            None => failure.suggest("GET /v1/catalog lists the tags"),
        }
    })
}
