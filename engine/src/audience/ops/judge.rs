//! Why a user is in an audience, or is not: the truth of every part of an expression, and the value behind it.
//!
//! An expression says true, false or NULL of a user, as SQL does. Leaves are asked by the same programs that count audiences, once
//! whether they are true and, where they can be NULL, once whether they are false; ANDs, ORs and the rest follow from their operands.
//! What is saved under a name is opened up the first time it is met.
//!
//! Leaves are asked one by one, so what bounds a question is looked at once, of the whole. An answer is bounded too: a part tells how it
//! begins, and there are no more parts, nor deeper ones, than somebody can read who wants to know why.

use super::lookalike::{Likeness, Measure, lookalike};
use super::user::{find, user_lists, user_tags};
use super::{QueryContext, QueryError, UserValue, resolve, similar};
use crate::audience::bind;
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::parse;
use crate::audience::plan::activity_of;
use crate::audience::predicate::Predicate;
use crate::catalog::ColumnType;
use crate::ids::{Slot, shard_of};
use crate::store::{Definition, Snapshot};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The most parts that are judged at once, those of audiences counted.
pub const PARTS_MAX: usize = 10_000;
/// How deep parts may stand in parts. Each is two levels of JSON, of which readers of it take 128.
pub const PARTS_DEPTH_MAX: usize = 60;
/// Of a part that is longer, the begin is told: so many bytes.
pub const PART_BYTES_MAX: usize = 2_000;
/// What all parts and values behind them may come to, in bytes.
const JUDGEMENT_BYTES_MAX: usize = 32 << 20;

/// What an expression says of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What kind of expression it is.
    pub part: Part,
    /// The expression, or how it begins: at most [`PART_BYTES_MAX`], with `…` where it was cut.
    pub text: String,
    /// What it says; `None` is NULL.
    pub truth: Option<bool>,
    /// What that rests on, of a leaf.
    pub behind: Option<Behind>,
    /// Of the operands, or of what an audience is defined as.
    pub of: Vec<Judgement>,
}

/// Kinds of expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Part {
    And,
    Or,
    Not,
    Xor,
    AtLeast,
    Audience,
    Did,
    SimilarTo,
    Tag,
    UserId,
    Literal,
}

impl Part {
    fn of(kind: &ExprKind) -> Part {
        match kind {
            ExprKind::And(_) => Part::And,
            ExprKind::Or(_) => Part::Or,
            ExprKind::Not(_) => Part::Not,
            ExprKind::Xor(..) => Part::Xor,
            ExprKind::AtLeast { .. } => Part::AtLeast,
            ExprKind::InAudience(_) => Part::Audience,
            ExprKind::Did(_) => Part::Did,
            ExprKind::SimilarTo(_) => Part::SimilarTo,
            ExprKind::UserIn { .. } => Part::UserId,
            ExprKind::Literal(_) => Part::Literal,
            ExprKind::Flag(_)
            | ExprKind::Compare { .. }
            | ExprKind::Between { .. }
            | ExprKind::In { .. }
            | ExprKind::IsNull { .. } => Part::Tag,
        }
    }
}

/// What a leaf's truth rests on.
#[derive(Clone, Debug, PartialEq)]
pub enum Behind {
    /// The user's value of the tag; `None`: it has none.
    Tag(String, Option<UserValue>),
    /// How many of the operands are true.
    Holding(u32),
    /// What the events that are meant come to: first their number, then each sum that is tested, in the order written.
    Events(Vec<(Figure, FigureValue)>),
    /// Whether the user is in an uploaded list.
    Uploaded,
    /// The audience stands open further above.
    ToldBefore,
    /// How alike the user is.
    Similar {
        /// The user's score; `None`: no vector.
        score: Option<f32>,
        /// Nobody in the set scores less; `None` if nobody is in it, or all who could be.
        at_least: Option<f32>,
        /// How many there are in the set.
        members: u64,
    },
}

/// What events come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FigureValue {
    /// A number of events, or a sum, in units of `10^-scale`.
    Exact(i128, u8),
    /// A sum of floating point numbers.
    Float(f64),
    /// There is none: no event, or none with a number.
    None,
}

/// What `expr`, which binds, says of a user, at `now` in microseconds since 1970; `None` if the user is not known.
///
/// Costs a look at every value of every tag, and every leaf what it costs to count it for one user; `similar_to` is searched for
/// everybody. What stands there several times is asked once, if rows or vectors are read for it.
///
/// # Errors
/// [`QueryError`]; [`QueryError::Invalid`] also for what no question may have, and for more than an answer may tell.
pub fn judge(
    snapshot: &Snapshot,
    expr: &Expr,
    user_id: &str,
    now: i64,
    context: &QueryContext,
) -> Result<Option<Judgement>, QueryError> {
    let (Some(tags), Some((_, slot))) = (user_tags(snapshot, user_id)?, find(snapshot, user_id)?) else {
        return Ok(None);
    };
    let names = tags.into_iter().filter_map(|(tag, value)| Some((snapshot.catalog().name_of(tag)?.to_owned(), value)));
    let place = (usize::from(shard_of(user_id.as_bytes(), snapshot.shards().len() as u16).0), slot);
    let mut judge = Judge {
        snapshot,
        user_id,
        place,
        tags: names.collect(),
        now,
        context,
        audiences: BTreeMap::new(),
        asked: BTreeMap::new(),
        read: Vec::new(),
        told: Told::default(),
    };
    let whole = judge.bound(expr)?;
    resolve::check_scans([&whole].into_iter())?;
    similar::check([&whole].into_iter())?;
    drop(whole);
    judge.judge(expr).map(Some)
}

/// What was told until now.
#[derive(Default)]
struct Told {
    parts: usize,
    bytes: usize,
    /// Of the part that is judged now.
    depth: usize,
}

struct Judge<'q> {
    snapshot: &'q Snapshot,
    user_id: &'q str,
    /// Shard and slot.
    place: (usize, Slot),
    /// By name.
    tags: BTreeMap<String, UserValue>,
    now: i64,
    context: &'q QueryContext,
    /// Audiences that were opened up.
    audiences: BTreeMap<String, bool>,
    /// What was read for, by what it says.
    asked: BTreeMap<String, (Option<bool>, Behind)>,
    /// Leaves for which rows or vectors were read.
    read: Vec<Predicate>,
    told: Told,
}

impl Judge<'_> {
    fn judge(&mut self, expr: &Expr) -> Result<Judgement, QueryError> {
        self.context.check()?;
        self.told.depth += 1;
        let judged = self.part(expr);
        self.told.depth -= 1;
        judged
    }

    fn part(&mut self, expr: &Expr) -> Result<Judgement, QueryError> {
        let (part, text) = (Part::of(&expr.kind), Begin::of(expr));
        self.tell(text.len())?;
        let of = |truth, of| Judgement { part, text: text.clone(), truth, behind: None, of };
        let told = |truth, behind| Judgement { behind: Some(behind), ..of(truth, Vec::new()) };
        Ok(match &expr.kind {
            ExprKind::Literal(value) => of(Some(*value), Vec::new()),
            ExprKind::And(operands) => {
                let operands = self.all(operands)?;
                of(all_true(&operands), operands)
            }
            ExprKind::Or(operands) => {
                let operands = self.all(operands)?;
                of(any_true(&operands), operands)
            }
            ExprKind::Not(operand) => {
                let operand = self.judge(operand)?;
                of(operand.truth.map(|truth| !truth), vec![operand])
            }
            ExprKind::Xor(a, b) => {
                let (a, b) = (self.judge(a)?, self.judge(b)?);
                of(a.truth.zip(b.truth).map(|(a, b)| a != b), vec![a, b])
            }
            ExprKind::AtLeast { k, of: operands } => {
                let operands = self.all(operands)?;
                let holding = operands.iter().filter(|operand| operand.truth == Some(true)).count() as u32;
                Judgement { of: operands, ..told(Some(holding >= *k), Behind::Holding(holding)) }
            }
            ExprKind::UserIn { ids, negated } => {
                of(Some(ids.iter().any(|id| id == self.user_id) != *negated), Vec::new())
            }
            ExprKind::InAudience(name) => {
                let (truth, behind, within) = self.audience(name)?;
                Judgement { behind, ..of(Some(truth), within) }
            }
            ExprKind::Did(_) | ExprKind::SimilarTo(_) => {
                let (truth, behind) = self.read_for(expr)?;
                told(truth, behind)
            }
            ExprKind::Flag(tag)
            | ExprKind::Compare { tag, .. }
            | ExprKind::Between { tag, .. }
            | ExprKind::In { tag, .. }
            | ExprKind::IsNull { tag, .. } => {
                let value = self.tags.get(tag).cloned();
                self.tell_more(value.as_ref().map_or(0, size_of_value))?;
                told(self.leaf(expr)?, Behind::Tag(tag.clone(), value))
            }
        })
    }

    /// Notes one more part.
    fn tell(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.told.parts += 1;
        let advice = "explain a part of it, or an audience in it, by itself";
        if self.told.depth > PARTS_DEPTH_MAX {
            let message =
                format!("parts to be explained stand more than {PARTS_DEPTH_MAX} deep in each other; {advice}");
            return Err(QueryError::Invalid(message));
        }
        if self.told.parts > PARTS_MAX {
            return Err(QueryError::Invalid(format!(
                "there are more than {PARTS_MAX} parts to be explained; {advice}"
            )));
        }
        self.tell_more(bytes)
    }

    fn tell_more(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.told.bytes = self.told.bytes.saturating_add(bytes);
        if self.told.bytes > JUDGEMENT_BYTES_MAX {
            let message = format!(
                "all parts with the values behind them have more than {JUDGEMENT_BYTES_MAX} bytes; explain a part of it by itself"
            );
            return Err(QueryError::Invalid(message));
        }
        Ok(())
    }

    /// A leaf for which rows or vectors may have to be read.
    fn read_for(&mut self, expr: &Expr) -> Result<(Option<bool>, Behind), QueryError> {
        let asked = expr.to_string();
        if let Some(known) = self.asked.get(&asked) {
            return Ok(known.clone());
        }
        let bound = self.bound(expr)?;
        if bound.needs_scan() {
            // Of the whole some may have been left out, since they change nothing: beside FALSE, for one.
            self.read.push(bound);
            resolve::check_scans(self.read.iter())?;
            similar::check(self.read.iter())?;
        }
        let told = match &expr.kind {
            ExprKind::Did(did) => (self.leaf(expr)?, Behind::Events(self.figures(did)?)),
            _ => {
                let (truth, behind) = self.similar(expr)?;
                (Some(truth), behind)
            }
        };
        self.asked.insert(asked, told.clone());
        Ok(told)
    }

    fn all(&mut self, operands: &[Expr]) -> Result<Vec<Judgement>, QueryError> {
        operands.iter().map(|operand| self.judge(operand)).collect()
    }

    /// True, false, or neither.
    fn leaf(&self, expr: &Expr) -> Result<Option<bool>, QueryError> {
        if self.is_in(&self.bound(expr)?)? {
            return Ok(Some(true));
        }
        let negated = ExprKind::Not(Box::new(expr.clone())).into();
        Ok(self.is_in(&self.bound(&negated)?)?.then_some(false))
    }

    fn bound(&self, expr: &Expr) -> Result<Predicate, QueryError> {
        let bound = bind(expr, self.snapshot.catalog(), self.snapshot.audiences(), self.now);
        bound.map_err(|error| QueryError::Invalid(error.to_string()))
    }

    /// Under the AND, events of this user alone are searched.
    fn is_in(&self, predicate: &Predicate) -> Result<bool, QueryError> {
        let user = Predicate::Users(vec![self.user_id.to_owned()]);
        let both = Predicate::And(vec![user, predicate.clone()]).canonical();
        Ok(super::count(self.snapshot, &both, self.context)? > 0)
    }

    /// Whether the user is in an audience, what that rests on, and what the audience is defined as.
    fn audience(&mut self, name: &str) -> Result<(bool, Option<Behind>, Vec<Judgement>), QueryError> {
        if let Some(truth) = self.audiences.get(name) {
            return Ok((*truth, Some(Behind::ToldBefore), Vec::new()));
        }
        let audience = self.snapshot.audiences().get(name);
        let gone = || QueryError::Invalid(format!("audience '{name}' was deleted; ask again"));
        match &audience.ok_or_else(gone)?.definition {
            Definition::Uploaded { list_id, .. } => {
                let is_listed = !user_lists(self.snapshot, self.user_id, &[list_id])?.is_empty();
                Ok((is_listed, Some(Behind::Uploaded), Vec::new()))
            }
            Definition::Expression(text) | Definition::Live { expression: text, .. } => {
                let definition = parse(text).map_err(|error| QueryError::Invalid(error.to_string()))?;
                let judgement = self.judge(&definition)?;
                let truth = judgement.truth == Some(true);
                self.audiences.insert(name.to_owned(), truth);
                Ok((truth, None, vec![judgement]))
            }
        }
    }

    fn similar(&self, expr: &Expr) -> Result<(bool, Behind), QueryError> {
        let Predicate::Similar(similar) = self.bound(expr)? else {
            return Err(QueryError::Invalid("a search for users like others has become another".to_owned()));
        };
        let found = lookalike(self.snapshot, &Likeness::of(&similar), Measure::default(), self.context)?;
        let space = self.snapshot.catalog().spaces().find(|(_, space)| space.id == similar.space);
        let vector = match space {
            Some((_, space)) => self.snapshot.vector(space, self.user_id)?,
            None => None,
        };
        let score = vector.map(|vector| found.scorer().score(&vector));
        let behind = Behind::Similar { score, at_least: found.report.at_least, members: found.report.members };
        Ok((found.members[self.place.0].contains(self.place.1), behind))
    }

    /// How many of the events that are meant there are, and the sums that are tested.
    fn figures(&self, did: &Did) -> Result<Vec<(Figure, FigureValue)>, QueryError> {
        let mut asked = vec![Figure::Count];
        for test in &did.figures {
            if matches!(test.figure, Figure::Sum(_)) && !asked.contains(&test.figure) {
                asked.push(test.figure.clone());
            }
        }
        let count = self.figure(did, &Figure::Count)?;
        let mut told = vec![(Figure::Count, FigureValue::Exact(count.unwrap_or(0), 0))];
        for figure in asked.into_iter().skip(1) {
            let Figure::Sum(column) = &figure else { continue };
            let fact = self.snapshot.catalog().declared_fact(&did.fact);
            let column = fact.and_then(|fact| fact.columns.iter().find(|known| known.name == *column));
            let column_type = column.map_or(ColumnType::Integer, |column| column.column_type);
            // Of no events there is no sum.
            let sum = if count.unwrap_or(0) > 0 { self.figure(did, &figure)? } else { None };
            let value = match (sum, column_type) {
                (None, _) => FigureValue::None,
                (Some(sum), ColumnType::Float) => FigureValue::Float(crate::audience::scan::float_of(
                    sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
                )),
                (Some(sum), column_type) => FigureValue::Exact(sum, column_type.scale()),
            };
            told.push((figure, value));
        }
        Ok(told)
    }

    /// A figure of the events that are meant: what a test of it would be compared with. `None`: there are no such events.
    fn figure(&self, did: &Did, figure: &Figure) -> Result<Option<i128>, QueryError> {
        let (op, least) =
            if *figure == Figure::Count { (CompareOp::GreaterOrEqual, "1") } else { (CompareOp::Greater, "0") };
        let test = Test::Compare(op, Literal::Number(least.to_owned()));
        let figures = vec![FigureTest { figure: figure.clone(), test }];
        let tested = ExprKind::Did(Box::new(Did { figures, ..did.clone() })).into();
        match figure_of(&self.bound(&tested)?, figure != &Figure::Count) {
            Some(Predicate::Scan(scan)) => {
                let fact = self.snapshot.catalog().name_of(scan.fact).unwrap_or("dropped").to_owned();
                let scanner = self.context.scanner.as_ref().ok_or(QueryError::NoScanner { fact })?;
                scanner.figure(self.snapshot, scan, self.place, &self.context.cancelled)
            }
            Some(Predicate::Did(did)) => {
                let (shard, slot) = self.place;
                Ok(Some(activity_of(self.snapshot.shards()[shard].layers(), did, slot)?))
            }
            _ => Ok(None),
        }
    }
}

/// The leaf that compares the figure: a scan, beside which other leaves say what the index knows, or one of the index.
fn figure_of(predicate: &Predicate, is_sum: bool) -> Option<&Predicate> {
    match predicate {
        Predicate::Scan(_) => Some(predicate),
        Predicate::Did(did) if (did.figure > 0) == is_sum => Some(predicate),
        Predicate::And(of) => {
            let mut found: Vec<&Predicate> = of.iter().filter_map(|operand| figure_of(operand, is_sum)).collect();
            let scan = found.iter().position(|found| matches!(found, Predicate::Scan(_)));
            scan.map(|at| found.swap_remove(at)).or_else(|| found.first().copied())
        }
        _ => None,
    }
}

fn size_of_value(value: &UserValue) -> usize {
    match value {
        UserValue::Set(values) => values.iter().map(String::len).sum(),
        UserValue::Enum(value) => value.len(),
        UserValue::Flag(_) | UserValue::Number(_) => 8,
    }
}

/// How a text begins: no more of it is written.
struct Begin(String);

impl Begin {
    fn of(expr: &Expr) -> String {
        let mut begin = Begin(String::new());
        // An error is ours, at the end of what is wanted.
        if write!(begin, "{expr}").is_err() {
            begin.0.push('…');
        }
        begin.0
    }
}

impl fmt::Write for Begin {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = PART_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

fn all_true(operands: &[Judgement]) -> Option<bool> {
    let is = |truth| operands.iter().any(|operand| operand.truth == truth);
    if is(Some(false)) { Some(false) } else { (!is(None)).then_some(true) }
}

fn any_true(operands: &[Judgement]) -> Option<bool> {
    let is = |truth| operands.iter().any(|operand| operand.truth == truth);
    if is(Some(true)) { Some(true) } else { (!is(None)).then_some(false) }
}
