//! What goes on between the login and the end: messages one by one, what was prepared, and how far a transaction is said to be.

use super::Shared;
use super::commands::put_word_columns;
use super::connection::{Pipe, stopping};
use super::errors::Told;
use super::frames::FrameError;
use super::keys::OpenKey;
use super::messages::{Message, Target, put, put_columns, put_complete, put_done};
use super::portal::{Rows, Sent, Stop};
use super::prepared::{Portal, Prepared};
use super::settings::Settings;
use super::startup::Begun;
use super::statements::Text;
use super::words;
use crate::access::Principal;
use crate::rest::limits;
use bytes::BufMut;
use engine_sql::session::{STATEMENT_BYTES_MAX, statements};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How far a transaction is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    None,
    Open,
    /// A statement of it failed: nothing is answered until its end.
    Failed,
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

/// See the module.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) pipe: Pipe,
    pub(super) principal: Principal,
    pub(super) authorization: Option<String>,
    pub(super) settings: Settings,
    pub(super) key: OpenKey,
    pub(super) transaction: Transaction,
    pub(super) prepared: HashMap<String, Prepared>,
    pub(super) portals: HashMap<String, Portal>,
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
    pub(super) async fn cut(&mut self, text: String) -> Result<(String, Vec<(usize, usize)>), Told> {
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
    pub(super) async fn send(&mut self, rows: &mut Rows, rows_max: usize) -> Result<(), Stop> {
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
    pub(super) fn not_failed(&self) -> Result<(), Told> {
        match self.transaction {
            Transaction::Failed => {
                let message = "a statement of this transaction failed; nothing is answered until its end";
                Err(Told::new("25P02", message).hint("send ROLLBACK"))
            }
            _ => Ok(()),
        }
    }
}
