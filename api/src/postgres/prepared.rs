//! Statements that are prepared, and given values: parse, bind, describe and execute of the extended protocol.

use super::commands::put_word_columns_or_none;
use super::errors::Told;
use super::messages::{Bind, Described, Target, put_columns, put_done, put_parameters};
use super::parameters;
use super::portal::{ENDED, Rows, Stop, can_be_told, described};
use super::session::Session;
use super::statements::Text;
use super::words::{self, Word};
use engine_sql::session::{Described as Statement, STATEMENT_PARAMETERS_MAX};
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio_postgres::types::Type;

/// Bytes of the name of a prepared statement or a portal.
const NAME_BYTES_MAX: usize = 1 << 10;
/// Prepared statements of a connection, and bytes of their texts, names and types.
const PREPARED_MAX: usize = 256;
const PREPARED_BYTES_MAX: usize = 4 << 20;
/// Portals of a connection.
const PORTALS_MAX: usize = 32;

/// A statement that was parsed.
pub(super) struct Prepared {
    text: Text,
    /// Types of parameters that the client said.
    said: Vec<u32>,
    /// There is nothing but spaces and comments.
    is_empty: bool,
    word: Option<Word>,
    statement: Option<Statement>,
    /// What the client was told of its columns: [`shape`]. It reads rows by that.
    told: Option<u64>,
}

impl Prepared {
    fn bytes(&self, name: &str) -> usize {
        name.len() + self.text.sent.len() + 4 * self.said.len()
    }
}

/// What columns are, shortly: to be compared, since a description may be larger than its statement.
fn shape(columns: &[Described]) -> u64 {
    let mut hasher = DefaultHasher::new();
    columns.len().hash(&mut hasher);
    columns.iter().for_each(|column| (&column.name, column.oid, column.modifier).hash(&mut hasher));
    hasher.finish()
}

/// # Errors
/// If it is longer than names are.
fn check_name(name: &str) -> Result<(), Told> {
    match name.len() > NAME_BYTES_MAX {
        true => Err(Told::new("42622", format!("a name has {} bytes; at most {NAME_BYTES_MAX} are taken", name.len()))),
        false => Ok(()),
    }
}

/// A statement with its values.
pub(super) enum Portal {
    Empty,
    Word(Word),
    Rows(Box<Rows>),
}

impl Session {
    pub(super) async fn parse(&mut self, name: String, text: String, said: Vec<u32>) -> Result<(), Told> {
        check_name(&name)?;
        if said.len() > STATEMENT_PARAMETERS_MAX {
            let message =
                format!("{} types are said; a statement has at most {STATEMENT_PARAMETERS_MAX} parameters", said.len());
            return Err(Told::new("54000", message));
        }
        if !name.is_empty() && self.prepared.contains_key(&name) {
            return Err(Told::new("42P05", format!("there is a prepared statement `{name}` already")));
        }
        self.prepared.remove(&name);
        let (sent, ranges) = self.cut(text).await?;
        let (start, length) = match ranges[..] {
            [] => (0, 0),
            [range] => range,
            _ => {
                let message = format!("{} statements stand there; one at a time is prepared", ranges.len());
                return Err(Told::new("42601", message).hint("send them one by one"));
            }
        };
        let text = Text { sent, start, end: start + length };
        let word = words::read(text.statement())?;
        let new = Prepared { text, said, is_empty: length == 0, word, statement: None, told: None };
        let bytes: usize = self.prepared.iter().map(|(name, prepared)| prepared.bytes(name)).sum();
        if self.prepared.len() >= PREPARED_MAX || bytes + new.bytes(&name) > PREPARED_BYTES_MAX {
            let message = format!(
                "a connection keeps at most {PREPARED_MAX} prepared statements, of {PREPARED_BYTES_MAX} bytes together"
            );
            return Err(Told::new("54000", message).hint("let go of some: DEALLOCATE name"));
        }
        self.prepared.insert(name, new);
        put_done(&mut self.pipe.out, b'1');
        Ok(())
    }

    pub(super) async fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        check_name(&bind.portal)?;
        let prepared = self.prepared.get(&bind.statement).ok_or_else(|| no_statement(&bind.statement))?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Told::new("42P03", format!("there is a portal `{}` already", bind.portal)).into());
        }
        self.portals.remove(&bind.portal);
        if self.portals.len() >= PORTALS_MAX {
            let message = format!("a connection keeps at most {PORTALS_MAX} portals");
            return Err(Told::new("54000", message).hint("close some").into());
        }
        let portal = match &prepared.word {
            Some(word) => Portal::Word(word.clone()),
            None if prepared.is_empty => Portal::Empty,
            None => {
                let told = prepared.told;
                self.not_failed()?;
                let text = prepared.text.clone();
                // Without values nothing has to be known of parameters: that there are some is told by planning.
                let row = match bind.values.is_empty() {
                    true => None,
                    false => {
                        let (types, statement) = self.statement(&bind.statement).await?;
                        parameters::row(&bind, &types, &statement.parameters)?
                    }
                };
                let mut rows = self.plan(&text, row, bind.answer_formats).await?;
                if told.is_some_and(|told| told != shape(&rows.columns)) {
                    // The client would read the rows as what it was told. Another description tells what they are now.
                    if let Some(prepared) = self.prepared.get_mut(&bind.statement) {
                        prepared.statement = None;
                    }
                    let told = Told::new("0A000", "cached plan must not change result type");
                    let told = told.hint("the columns are not what was described; prepare the statement again");
                    rows.fail(told.clone());
                    return Err(told.into());
                }
                Portal::Rows(Box::new(rows))
            }
        };
        self.portals.insert(bind.portal, portal);
        put_done(&mut self.pipe.out, b'2');
        Ok(())
    }

    /// What a prepared statement takes and answers, looked at once.
    async fn statement(&mut self, name: &str) -> Result<(Vec<Type>, Statement), Stop> {
        let prepared = self.prepared.get(name).ok_or_else(|| no_statement(name))?;
        let statement = match &prepared.statement {
            Some(statement) => statement.clone(),
            None => {
                let (text, said) = (prepared.text.clone(), prepared.said.clone());
                let mut statement = self.described(&text, None).await?;
                can_be_told(statement.columns.fields().len())?;
                let types = parameters::types(&said, &statement.parameters);
                if let Some(nulls) = parameters::nulls(&types, &statement.parameters) {
                    match self.described(&text, Some(nulls)).await {
                        Ok(told) => statement.columns = told.columns,
                        // A value may do where NULL does not.
                        Err(Stop::Told(told)) if told.code != ENDED => {}
                        Err(stop) => return Err(stop),
                    }
                }
                statement
            }
        };
        let prepared = self.prepared.get_mut(name).ok_or_else(|| no_statement(name))?;
        let types = parameters::types(&prepared.said, &statement.parameters);
        prepared.statement = Some(statement.clone());
        Ok((types, statement))
    }

    pub(super) async fn describe(&mut self, target: Target) -> Result<(), Stop> {
        match target {
            Target::Statement(name) => {
                let prepared = self.prepared.get(&name).ok_or_else(|| no_statement(&name))?;
                if let Some(word) = prepared.word.clone() {
                    put_parameters(&mut self.pipe.out, &[]);
                    return Ok(put_word_columns_or_none(self, &word)?);
                }
                if prepared.is_empty {
                    put_parameters(&mut self.pipe.out, &[]);
                    put_done(&mut self.pipe.out, b'n');
                    return Ok(());
                }
                self.not_failed()?;
                let (types, statement) = self.statement(&name).await?;
                put_parameters(&mut self.pipe.out, &types.iter().map(Type::oid).collect::<Vec<_>>());
                let columns = described(&statement.columns, &[]);
                if let Some(prepared) = self.prepared.get_mut(&name) {
                    prepared.told = Some(shape(&columns));
                }
                put_columns(&mut self.pipe.out, &columns);
            }
            Target::Portal(name) => match self.portals.get(&name).ok_or_else(|| no_portal(&name))? {
                Portal::Rows(rows) => put_columns(&mut self.pipe.out, &rows.columns),
                Portal::Empty => put_done(&mut self.pipe.out, b'n'),
                Portal::Word(word) => {
                    let word = word.clone();
                    put_word_columns_or_none(self, &word)?;
                }
            },
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Stop> {
        match self.portals.remove(name).ok_or_else(|| no_portal(name))? {
            Portal::Empty => {
                put_done(&mut self.pipe.out, b'I');
                self.portals.insert(name.to_owned(), Portal::Empty);
            }
            Portal::Word(word) => self.word(&word)?,
            Portal::Rows(mut rows) => {
                self.not_failed()?;
                self.allowed()?;
                self.send(&mut rows, rows_max).await?;
                self.portals.insert(name.to_owned(), Portal::Rows(rows));
            }
        }
        Ok(())
    }
}

pub(super) fn no_statement(name: &str) -> Told {
    Told::new("26000", format!("there is no prepared statement `{name}`"))
}

fn no_portal(name: &str) -> Told {
    Told::new("34000", format!("there is no portal `{name}`"))
}
