//! Why a user is in an audience, or is not: the truth of every part of an expression, and the value behind it.
//!
//! An expression says true, false or NULL of a user, as SQL does. Leaves are asked by the same programs that count audiences, once
//! whether they are true and, where they can be NULL, once whether they are false; ANDs, ORs and the rest follow from their operands.
//! What is saved under a name is opened up the first time it is met.

use super::lookalike::{Likeness, Measure, lookalike};
use super::user::{find, user_lists, user_tags};
use super::{QueryContext, QueryError, UserValue};
use crate::audience::bind;
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::parse;
use crate::audience::plan::activity_of;
use crate::audience::predicate::Predicate;
use crate::catalog::ColumnType;
use crate::ids::{Slot, shard_of};
use crate::store::{Definition, Snapshot};
use std::collections::BTreeMap;

/// What an expression says of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The expression.
    pub expr: Expr,
    /// What it says; `None` is NULL.
    pub truth: Option<bool>,
    /// What that rests on, of a leaf.
    pub behind: Option<Behind>,
    /// Of the operands, or of what an audience is defined as.
    pub of: Vec<Judgement>,
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
/// everybody.
///
/// # Errors
/// [`QueryError`].
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
    let mut judge = Judge { snapshot, user_id, place, tags: names.collect(), now, context, audiences: BTreeMap::new() };
    judge.judge(expr).map(Some)
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
}

impl Judge<'_> {
    fn judge(&mut self, expr: &Expr) -> Result<Judgement, QueryError> {
        self.context.check()?;
        let told = |truth, behind| Judgement { expr: expr.clone(), truth, behind: Some(behind), of: Vec::new() };
        let of = |truth, of| Judgement { expr: expr.clone(), truth, behind: None, of };
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
            ExprKind::InAudience(name) => self.audience(expr, name)?,
            ExprKind::Did(did) => told(self.leaf(expr)?, Behind::Events(self.figures(did)?)),
            ExprKind::SimilarTo(_) => {
                let (truth, behind) = self.similar(expr)?;
                told(Some(truth), behind)
            }
            ExprKind::Flag(tag)
            | ExprKind::Compare { tag, .. }
            | ExprKind::Between { tag, .. }
            | ExprKind::In { tag, .. }
            | ExprKind::IsNull { tag, .. } => {
                let value = self.tags.get(tag).cloned();
                told(self.leaf(expr)?, Behind::Tag(tag.clone(), value))
            }
        })
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

    fn audience(&mut self, expr: &Expr, name: &str) -> Result<Judgement, QueryError> {
        let told = |truth, behind, of| Judgement { expr: expr.clone(), truth: Some(truth), behind, of };
        if let Some(truth) = self.audiences.get(name) {
            return Ok(told(*truth, Some(Behind::ToldBefore), Vec::new()));
        }
        let audience = self.snapshot.audiences().get(name);
        let gone = || QueryError::Invalid(format!("audience '{name}' was deleted; ask again"));
        match &audience.ok_or_else(gone)?.definition {
            Definition::Uploaded { list_id, .. } => {
                let is_listed = !user_lists(self.snapshot, self.user_id, &[list_id])?.is_empty();
                Ok(told(is_listed, Some(Behind::Uploaded), Vec::new()))
            }
            Definition::Expression(text) | Definition::Live { expression: text, .. } => {
                let definition = parse(text).map_err(|error| QueryError::Invalid(error.to_string()))?;
                let judgement = self.judge(&definition)?;
                let truth = judgement.truth == Some(true);
                self.audiences.insert(name.to_owned(), truth);
                Ok(told(truth, None, vec![judgement]))
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

fn all_true(operands: &[Judgement]) -> Option<bool> {
    let is = |truth| operands.iter().any(|operand| operand.truth == truth);
    if is(Some(false)) { Some(false) } else { (!is(None)).then_some(true) }
}

fn any_true(operands: &[Judgement]) -> Option<bool> {
    let is = |truth| operands.iter().any(|operand| operand.truth == truth);
    if is(Some(true)) { Some(true) } else { (!is(None)).then_some(false) }
}
