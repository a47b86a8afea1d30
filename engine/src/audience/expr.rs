//! The tree of the audience language, as written.

use super::similar::Extent;
use crate::lookalike::seeds::Method;

/// Where in its source an expression stands: bytes `start..end` of the text; a tree form has no places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// A literal as written; its type is settled against the tag it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `'shoes'`, also for timestamps: `'2026-11-20'`.
    Text(String),
    /// `25`, `-3.50`: the digits as written, so that no precision is lost.
    Number(String),
    /// `TRUE`, `FALSE`.
    Bool(bool),
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    IsDistinctFrom,
    IsNotDistinctFrom,
}

/// An expression of the audience language. Two are equal if they say the same in the same words, wherever they stand.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it says.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Expr {}

impl From<ExprKind> for Expr {
    fn from(kind: ExprKind) -> Self {
        Expr { kind, span: Span::default() }
    }
}

/// See [`Expr`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the SQL construct of its name")]
pub enum ExprKind {
    Literal(bool),
    /// A bare name: a flag tag.
    Flag(String),
    Compare {
        tag: String,
        op: CompareOp,
        value: Literal,
    },
    Between {
        tag: String,
        low: Literal,
        high: Literal,
        negated: bool,
    },
    In {
        tag: String,
        values: Vec<Literal>,
        negated: bool,
    },
    IsNull {
        tag: String,
        negated: bool,
    },
    UserIn {
        ids: Vec<String>,
        negated: bool,
    },
    InAudience(String),
    Did(Box<Did>),
    SimilarTo(Box<SimilarTo>),
    AtLeast {
        k: u32,
        of: Vec<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Xor(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
}

impl Expr {
    /// Calls the audiences that it names by other names.
    pub fn rename_audiences(&mut self, rename: &impl Fn(&str) -> String) {
        match &mut self.kind {
            ExprKind::InAudience(name) => *name = rename(name),
            ExprKind::SimilarTo(similar) => {
                let SimilarTo { seed, within, exclude, .. } = &mut **similar;
                [Some(seed), within.as_mut(), exclude.as_mut()]
                    .into_iter()
                    .flatten()
                    .for_each(|part| part.rename_audiences(rename));
            }
            ExprKind::AtLeast { of, .. } | ExprKind::And(of) | ExprKind::Or(of) => {
                of.iter_mut().for_each(|part| part.rename_audiences(rename));
            }
            ExprKind::Xor(a, b) => {
                a.rename_audiences(rename);
                b.rename_audiences(rename);
            }
            ExprKind::Not(of) => of.rename_audiences(rename),
            ExprKind::Literal(_)
            | ExprKind::Flag(_)
            | ExprKind::Compare { .. }
            | ExprKind::Between { .. }
            | ExprKind::In { .. }
            | ExprKind::IsNull { .. }
            | ExprKind::UserIn { .. }
            | ExprKind::Did(_) => {}
        }
    }
}

/// `did('purchase', category = 'shoes', count >= 2, within => '30 days')`: whether a user's events of a fact come to
/// something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Did {
    /// The fact.
    pub fact: String,
    /// What events are meant: all of these hold of an event's columns and of its time, `ts`.
    pub events: Vec<Expr>,
    /// What they come to: all of these; none means at least one event.
    pub figures: Vec<FigureTest>,
    /// Only events of the time up to now that is told: `30 days`.
    pub within: Option<String>,
    /// `within` begins exactly so long ago, and ends now, instead of with whole hours or days.
    pub exact_window: bool,
}

/// `similar_to('taste', seed => in_audience('vip'), share => 0.02)`: whether a user is among those most like others; see
/// [`super::similar`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimilarTo {
    /// The vector space.
    pub space: String,
    /// Like whom.
    pub seed: Expr,
    /// How many, and from where on.
    pub extent: Extent,
    /// Of whom; `None`: of everybody.
    pub within: Option<Expr>,
    /// But not of these.
    pub exclude: Option<Expr>,
    /// Also of the seed.
    pub include_seed: bool,
    /// How likeness is learned; `None`: whichever way measures best.
    pub method: Option<Method>,
    /// The number tag by which users of the seed count for more.
    pub weights: Option<String>,
    /// In full precision all the way; the answer is the same.
    pub exact: bool,
}

/// A condition on what events come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FigureTest {
    /// What is compared.
    pub figure: Figure,
    /// With what.
    pub test: Test,
}

/// What events come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Figure {
    /// How many there are.
    Count,
    /// The sum of a column.
    Sum(String),
    /// The time of the first one.
    First,
    /// The time of the last one.
    Last,
}

/// A comparison whose left side stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the SQL construct of its name")]
pub enum Test {
    Compare(CompareOp, Literal),
    Between { low: Literal, high: Literal, negated: bool },
}
