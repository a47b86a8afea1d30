//! What [words](super::words) do: transactions that only seem so, settings, and what is let go of.

use super::errors::Told;
use super::messages::{Described, Format, put_columns, put_complete, put_done, put_setting, put_texts};
use super::prepared::no_statement;
use super::session::{Session, Transaction};
use super::settings::Settings;
use super::words::Word;
use tokio_postgres::types::Type;

impl Session {
    /// Does what a word says; its rows, if it has some, and its tag.
    pub(super) fn word(&mut self, word: &Word) -> Result<(), Told> {
        let settings = self.settings.clone();
        let out = &mut self.pipe.out;
        let tag = match word {
            Word::Begin => {
                if self.transaction == Transaction::None {
                    self.transaction = Transaction::Open;
                }
                "BEGIN"
            }
            Word::Commit | Word::Rollback => {
                let is_failed = self.transaction == Transaction::Failed;
                self.transaction = Transaction::None;
                self.portals.clear();
                self.settings.end_transaction();
                self.settings.changed(&settings).for_each(|(name, value)| put_setting(out, name, value));
                if *word == Word::Commit && !is_failed { "COMMIT" } else { "ROLLBACK" }
            }
            Word::RollbackTo => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                "ROLLBACK"
            }
            _ => {
                self.not_failed()?;
                return self.other_word(word, &settings);
            }
        };
        put_complete(out, tag);
        Ok(())
    }

    fn other_word(&mut self, word: &Word, before: &Settings) -> Result<(), Told> {
        let out = &mut self.pipe.out;
        let tag = match word {
            Word::Set(name, value) => {
                if let Some((name, value)) = self.settings.set(name, value)? {
                    put_setting(out, name, value);
                }
                "SET"
            }
            // Outside of a transaction it is over at once.
            Word::SetLocal(name, value) if self.transaction == Transaction::None => {
                before.clone().set_local(name, value)?;
                "SET"
            }
            Word::SetLocal(name, value) => {
                self.settings.set_local(name, value)?;
                self.settings.changed(before).for_each(|(name, value)| put_setting(out, name, value));
                "SET"
            }
            Word::Reset(name) => {
                self.settings.reset(name.as_deref())?;
                self.settings.changed(before).for_each(|(name, value)| put_setting(out, name, value));
                "RESET"
            }
            Word::Show(Some(name)) => {
                put_texts(out, &[self.settings.show(name)?.1]);
                "SHOW"
            }
            Word::Show(None) => {
                self.settings.all().for_each(|(name, value)| put_texts(out, &[name, value, ""]));
                "SHOW"
            }
            Word::Deallocate(Some(name)) => {
                self.prepared.remove(name).ok_or_else(|| no_statement(name))?;
                "DEALLOCATE"
            }
            Word::Deallocate(None) => {
                self.prepared.clear();
                "DEALLOCATE ALL"
            }
            Word::DiscardAll => {
                self.prepared.clear();
                self.portals.clear();
                self.settings.reset(None)?;
                self.settings.changed(before).for_each(|(name, value)| put_setting(out, name, value));
                "DISCARD ALL"
            }
            Word::SetTransaction => "SET",
            Word::Savepoint(tag) | Word::Nothing(tag) => tag,
            Word::Begin | Word::Commit | Word::Rollback | Word::RollbackTo => "",
        };
        put_complete(out, tag);
        Ok(())
    }
}

/// The columns of a word that has rows; of others none are told.
pub(super) fn put_word_columns(session: &mut Session, word: &Word) -> Result<bool, Told> {
    let names: &[&str] = match word {
        Word::Show(Some(name)) => &[session.settings.show(name)?.0],
        Word::Show(None) => &["name", "setting", "description"],
        _ => return Ok(false),
    };
    let column = |name: &&str| Described {
        name: (*name).to_owned(),
        oid: Type::TEXT.oid(),
        type_bytes: -1,
        modifier: -1,
        format: Format::Text,
    };
    put_columns(&mut session.pipe.out, &names.iter().map(column).collect::<Vec<_>>());
    Ok(true)
}

pub(super) fn put_word_columns_or_none(session: &mut Session, word: &Word) -> Result<(), Told> {
    if !put_word_columns(session, word)? {
        put_done(&mut session.pipe.out, b'n');
    }
    Ok(())
}
