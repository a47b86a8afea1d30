//! What goes on between the login and the end: messages one by one, what was prepared, and how far a transaction is said to be.

use super::Shared;
use super::connection::{Pipe, stopping};
use super::errors::Told;
use super::frames::FrameError;
use super::keys::OpenKey;
use super::messages::{
    Bind, Described, Format, Message, Target, put, put_columns, put_complete, put_done, put_parameters, put_setting,
    put_texts,
};
use super::parameters;
use super::portal::{ENDED, Rows, Sent, Stop, can_be_told, described};
use super::settings::Settings;
use super::startup::Begun;
use super::statements::Text;
use super::words::{self, Word};
use crate::access::Principal;
use crate::rest::limits;
use bytes::BufMut;
use engine_sql::session::{Described as Statement, STATEMENT_BYTES_MAX, STATEMENT_PARAMETERS_MAX, statements};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::types::Type;

/// Bytes of the largest message: a statement of a megabyte, or values for one.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// How long a message may take to come once it has begun.
const MESSAGE_TIME: Duration = Duration::from_secs(30);
/// How long a connection may be quiet.
const IDLE_MAX: Duration = Duration::from_secs(3_600);
/// How often to look whether it was quiet for too long.
const LOOK: Duration = Duration::from_secs(5);
/// How often to look for portals that were cancelled, or whose time is over.
const LOOK_AT_PORTALS: Duration = Duration::from_millis(100);
/// Bytes of a text that is cut into its statements at once; a longer one is cut away from the threads that serve connections.
const CUT_BYTES_MAX: usize = 16 << 10;
/// Bytes of the name of a prepared statement or a portal.
const NAME_BYTES_MAX: usize = 1 << 10;
/// Prepared statements of a connection, and bytes of their texts, names and types.
const PREPARED_MAX: usize = 256;
const PREPARED_BYTES_MAX: usize = 4 << 20;
/// Portals of a connection.
const PORTALS_MAX: usize = 32;

/// How far a transaction is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// A statement of it failed: nothing is answered until its end.
    Failed,
}

/// A statement that was parsed.
struct Prepared {
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

/// Where the statements of a text begin, and how long they are.
fn cut(sent: &str) -> Vec<(usize, usize)> {
    let cut = statements(sent);
    let begin = sent.as_ptr().addr();
    // What is no part of the text is left out.
    let range = |text: &str| Some((text.as_ptr().addr().checked_sub(begin)?, text.len()));
    let all = cut.ended.into_iter().chain([cut.rest]).filter(|text| !text.is_empty());
    all.filter_map(range).filter(|(start, _)| *start < sent.len()).collect()
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
enum Portal {
    Empty,
    Word(Word),
    Rows(Box<Rows>),
}

/// See the module.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) pipe: Pipe,
    pub(super) principal: Principal,
    pub(super) authorization: Option<String>,
    pub(super) settings: Settings,
    pub(super) key: OpenKey,
    transaction: Transaction,
    prepared: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    /// A message failed: the others are left out up to the next `Sync`.
    is_skipping: bool,
}

impl Session {
    pub(super) fn new(pipe: Pipe, begun: Begun, shared: Arc<Shared>) -> Session {
        let Begun { principal, authorization, settings, key } = begun;
        Session {
            shared,
            pipe,
            principal,
            authorization,
            settings,
            key,
            transaction: Transaction::None,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            is_skipping: false,
        }
    }

    /// Answers messages until the client or the server ends.
    pub(super) async fn run(mut self) {
        self.ready();
        let last = loop {
            if self.pipe.flush().await.is_err() {
                break None;
            }
            self.expire();
            let message = match self.next().await {
                Ok(message) => message,
                Err(last) => break last,
            };
            if let Message::Terminate = message {
                break None;
            }
            match self.answer(message).await {
                Ok(()) => {}
                Err(Stop::Gone) => break None,
                Err(Stop::Told(told)) => self.failed(&told),
            }
            self.key.key.runs(None);
        };
        // What runs and what waits ends with this.
        let Session { pipe, portals, key, .. } = self;
        drop((portals, key));
        pipe.end(last).await;
    }

    /// The next message, or why there is none.
    async fn next(&mut self) -> Result<Message, Option<Told>> {
        let quiet = Instant::now();
        let look = if self.portals.is_empty() { LOOK } else { LOOK_AT_PORTALS };
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return Err(Some(stopping())),
                begun = self.pipe.frames.begun() => {
                    begun.map_err(|_| None)?;
                    break;
                }
                () = tokio::time::sleep(look) => {}
            }
            self.expire();
            if quiet.elapsed() > IDLE_MAX {
                let why = format!("nothing came for {} s", IDLE_MAX.as_secs());
                return Err(Some(Told::new("57P05", why)));
            }
        }
        let message = tokio::time::timeout(MESSAGE_TIME, self.pipe.frames.message(MESSAGE_BYTES_MAX)).await;
        // A message may take longer to come than a portal has time.
        self.expire();
        let late = || Told::new("08006", format!("a message did not come within {} s", MESSAGE_TIME.as_secs()));
        match message.map_err(|_| Some(late()))?.and_then(Message::read) {
            Ok(message) => Ok(message),
            Err(FrameError::Gone) => Err(None),
            Err(FrameError::Wrong(why)) => Err(Some(Told::new("08P01", why))),
        }
    }

    /// Lets go of what waits in portals that were cancelled, or whose time is over.
    fn expire(&mut self) {
        for portal in self.portals.values_mut() {
            if let Portal::Rows(rows) = portal {
                rows.expire();
            }
        }
    }

    /// Says that the next statement may come.
    fn ready(&mut self) {
        let status = match self.transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        };
        put(&mut self.pipe.out, b'Z', |out| out.put_u8(status));
    }

    /// A message of the extended protocol failed.
    fn failed(&mut self, told: &Told) {
        told.put(&mut self.pipe.out, false);
        self.is_skipping = true;
        self.fail_transaction();
    }

    fn fail_transaction(&mut self) {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    async fn answer(&mut self, message: Message) -> Result<(), Stop> {
        if self.is_skipping && !matches!(message, Message::Sync) {
            return Ok(());
        }
        match message {
            Message::Query(text) => self.query(text).await,
            Message::Parse { name, text, types } => Ok(self.parse(name, text, types).await?),
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(target) => self.describe(target).await,
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.prepared.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                put_done(&mut self.pipe.out, b'3');
                Ok(())
            }
            // All that waits is sent before the next message is read.
            Message::Flush | Message::Terminate => Ok(()),
            Message::Sync => {
                self.is_skipping = false;
                self.end_portals();
                self.ready();
                Ok(())
            }
        }
    }

    /// Portals last as long as a transaction.
    fn end_portals(&mut self) {
        if self.transaction != Transaction::Open {
            self.portals.clear();
        }
    }

    /// Statements one by one, until one fails.
    async fn query(&mut self, sent: String) -> Result<(), Stop> {
        self.portals.remove("");
        match self.each(sent).await {
            Ok(()) => {}
            Err(Stop::Gone) => return Err(Stop::Gone),
            Err(Stop::Told(told)) => {
                told.put(&mut self.pipe.out, false);
                self.fail_transaction();
            }
        }
        self.end_portals();
        self.ready();
        Ok(())
    }

    async fn each(&mut self, sent: String) -> Result<(), Stop> {
        let (sent, ranges) = self.cut(sent).await?;
        if ranges.is_empty() {
            put_done(&mut self.pipe.out, b'I');
        }
        let mut text = Text::whole(sent);
        for (start, length) in ranges {
            (text.start, text.end) = (start, start + length);
            self.one(&text).await?;
            self.expire();
            // Words are shorter than what they answer.
            if self.pipe.is_full() {
                self.pipe.flush().await.map_err(|_| Stop::Gone)?;
            }
        }
        Ok(())
    }

    /// Cuts a text into its statements. One that is long is cut for who may ask, and where it holds nobody else up.
    async fn cut(&mut self, text: String) -> Result<(String, Vec<(usize, usize)>), Told> {
        if text.len() > STATEMENT_BYTES_MAX {
            let message = format!("the text has {} bytes; at most {STATEMENT_BYTES_MAX} are taken", text.len());
            return Err(Told::new("54000", message));
        }
        if text.len() <= CUT_BYTES_MAX {
            let ranges = cut(&text);
            return Ok((text, ranges));
        }
        self.allowed()?;
        let cutting = limits::blocking(move || {
            let ranges = cut(&text);
            Ok((text, ranges))
        });
        cutting.await.map_err(|failure| Told::of(&failure, "", 0))
    }

    async fn one(&mut self, text: &Text) -> Result<(), Stop> {
        if let Some(word) = words::read(text.statement())? {
            put_word_columns(self, &word)?;
            return Ok(self.word(&word)?);
        }
        self.not_failed()?;
        let mut rows = self.plan(text, None, Vec::new()).await?;
        put_columns(&mut self.pipe.out, &rows.columns);
        self.send(&mut rows, usize::MAX).await
    }

    /// Sends rows of a statement, and what stands behind them.
    async fn send(&mut self, rows: &mut Rows, rows_max: usize) -> Result<(), Stop> {
        self.key.key.runs(rows.cancellation());
        let place = self.place();
        let sent = rows.send(&mut self.pipe, rows_max, place).await;
        self.key.key.runs(None);
        match sent? {
            Sent::All(count) => put_complete(&mut self.pipe.out, &format!("SELECT {count}")),
            Sent::Some => put_done(&mut self.pipe.out, b's'),
        }
        Ok(())
    }

    /// # Errors
    /// If the transaction has failed.
    fn not_failed(&self) -> Result<(), Told> {
        match self.transaction {
            Transaction::Failed => {
                let message = "a statement of this transaction failed; nothing is answered until its end";
                Err(Told::new("25P02", message).hint("send ROLLBACK"))
            }
            _ => Ok(()),
        }
    }

    async fn parse(&mut self, name: String, text: String, said: Vec<u32>) -> Result<(), Told> {
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

    async fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
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

    async fn describe(&mut self, target: Target) -> Result<(), Stop> {
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

    async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Stop> {
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

    /// Does what a word says; its rows, if it has some, and its tag.
    fn word(&mut self, word: &Word) -> Result<(), Told> {
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
fn put_word_columns(session: &mut Session, word: &Word) -> Result<bool, Told> {
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

fn put_word_columns_or_none(session: &mut Session, word: &Word) -> Result<(), Told> {
    if !put_word_columns(session, word)? {
        put_done(&mut session.pipe.out, b'n');
    }
    Ok(())
}

fn no_statement(name: &str) -> Told {
    Told::new("26000", format!("there is no prepared statement `{name}`"))
}

fn no_portal(name: &str) -> Told {
    Told::new("34000", format!("there is no portal `{name}`"))
}
