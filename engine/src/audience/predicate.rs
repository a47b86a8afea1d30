//! Two-valued logic over known tags: what an expression means, with names, types and NULLs settled.

use super::scan::{Given, Scan};
use super::similar::Similar;
use crate::behavior::Window;
use crate::bitmap::bsi::NumberRange;
use crate::ids::TagId;
use std::sync::Arc;

/// A set of users. `Not` is the complement within the universe; NULLs are settled before (see [`super::bind`](mod@super::bind)),
/// so that `NOT (gender = 'f')` has become `Known(gender) AND NOT gender = 'f'`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predicate {
    /// Everybody (the universe).
    All,
    /// Nobody.
    Nobody,
    /// An `enum` tag has one of these values, or a `set` tag contains one of them; sorted, without doubles.
    HasAny(TagId, Vec<String>),
    /// A flag is true.
    Flag(TagId),
    /// A number is in the range.
    InRange(TagId, NumberRange),
    /// An `enum` or `number` tag is not NULL.
    Known(TagId),
    /// The users of an uploaded list.
    Listed(String),
    /// These users; sorted, without doubles.
    Users(Vec<String>),
    /// A figure of the users' events is in a range.
    Did(Did),
    /// The same, of events that no activity index tells apart.
    Scan(Box<Scan>),
    /// Users like others.
    Similar(Box<Similar>),
    /// Users told one by one.
    Given(Arc<Given>),
    /// Members of all.
    And(Vec<Predicate>),
    /// Members of any.
    Or(Vec<Predicate>),
    /// Members of exactly one.
    Xor(Box<Predicate>, Box<Predicate>),
    /// Members of at least `k`.
    AtLeast(u32, Vec<Predicate>),
    /// The rest of the universe.
    Not(Box<Predicate>),
}

/// A condition on what a user's events of a fact come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did {
    /// The fact.
    pub fact: TagId,
    /// Which of its events.
    pub of: Selection,
    /// When they happened, by the clocks of the fact's zone; not empty.
    pub window: Window,
    /// 0: how many there are; else the sum of the measure at this place, from 1.
    pub figure: u8,
    /// What that must be; never holds 0, which users without events have.
    pub range: NumberRange,
}

/// The events of a fact that a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selection {
    /// All of them.
    All,
    /// Those with one of these values of the dimension at this place; sorted, without doubles, at least one.
    Values(u16, Vec<String>),
    /// Those with any other value of the dimension, but not without one; sorted, without doubles.
    Others(u16, Vec<String>),
}

impl Predicate {
    /// The complement.
    pub fn negate(self) -> Predicate {
        match self {
            Predicate::All => Predicate::Nobody,
            Predicate::Nobody => Predicate::All,
            Predicate::Not(inner) => *inner,
            other => Predicate::Not(Box::new(other)),
        }
    }

    /// The same set in canonical form: nested ANDs and ORs flat, operands sorted and without doubles, values and
    /// ranges of one tag merged, constants folded.
    pub fn canonical(self) -> Predicate {
        match self {
            Predicate::HasAny(tag, mut values) => {
                values.sort_unstable();
                values.dedup();
                if values.is_empty() { Predicate::Nobody } else { Predicate::HasAny(tag, values) }
            }
            Predicate::Users(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                if ids.is_empty() { Predicate::Nobody } else { Predicate::Users(ids) }
            }
            Predicate::InRange(_, range) if range.is_empty() => Predicate::Nobody,
            Predicate::InRange(tag, NumberRange::ALL) => Predicate::Known(tag),
            Predicate::And(of) => and(of),
            Predicate::Or(of) => or(of),
            Predicate::Xor(a, b) => xor(a.canonical(), b.canonical()),
            Predicate::AtLeast(k, of) => at_least(k, of),
            Predicate::Not(of) => of.canonical().negate(),
            leaf => leaf,
        }
    }

    /// Whether rows or vectors have to be read to know its members.
    pub fn needs_scan(&self) -> bool {
        match self {
            Predicate::Scan(_) | Predicate::Similar(_) => true,
            Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => of.iter().any(Predicate::needs_scan),
            Predicate::Xor(a, b) => a.needs_scan() || b.needs_scan(),
            Predicate::Not(of) => of.needs_scan(),
            _ => false,
        }
    }

    /// How deep operands stand within operands; 1 of a leaf.
    pub(super) fn depth(&self) -> usize {
        let deepest = |of: &[Predicate]| of.iter().map(Predicate::depth).max().unwrap_or(0);
        1 + match self {
            Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => deepest(of),
            Predicate::Xor(a, b) => a.depth().max(b.depth()),
            Predicate::Not(of) => of.depth(),
            Predicate::Similar(similar) => similar.inner().into_iter().map(Predicate::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// How many nodes it has, list values not counted.
    pub fn node_count(&self) -> usize {
        1 + match self {
            Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
                of.iter().map(Predicate::node_count).sum()
            }
            Predicate::Xor(a, b) => a.node_count() + b.node_count(),
            Predicate::Not(of) => of.node_count(),
            Predicate::Similar(similar) => similar.inner().into_iter().map(Predicate::node_count).sum(),
            _ => 0,
        }
    }
}

/// Whether the sorted operands have both `x` and its complement.
fn contradicts(operands: &[Predicate]) -> bool {
    operands.iter().any(|operand| matches!(operand, Predicate::Not(of) if operands.binary_search(of).is_ok()))
}

fn and(of: Vec<Predicate>) -> Predicate {
    let mut operands = Vec::new();
    for operand in of {
        match operand.canonical() {
            Predicate::All => {}
            Predicate::And(inner) => operands.extend(inner),
            other => operands.push(other),
        }
    }
    let mut ranges: Vec<(TagId, NumberRange)> = Vec::new();
    operands.retain(|operand| match operand {
        Predicate::InRange(tag, range) => {
            match ranges.iter_mut().find(|(other, _)| other == tag) {
                Some((_, both)) => *both = NumberRange { min: both.min.max(range.min), max: both.max.min(range.max) },
                None => ranges.push((*tag, *range)),
            }
            false
        }
        _ => true,
    });
    operands.extend(ranges.into_iter().map(|(tag, range)| Predicate::InRange(tag, range).canonical()));
    operands.sort_unstable();
    operands.dedup();
    if operands.contains(&Predicate::Nobody) || contradicts(&operands) {
        return Predicate::Nobody;
    }
    match operands.len() {
        0 => Predicate::All,
        1 => operands.remove(0),
        _ => Predicate::And(operands),
    }
}

fn or(of: Vec<Predicate>) -> Predicate {
    let mut operands = Vec::new();
    for operand in of {
        match operand.canonical() {
            Predicate::Nobody => {}
            Predicate::Or(inner) => operands.extend(inner),
            other => operands.push(other),
        }
    }
    operands.sort_unstable();
    operands.dedup();
    if operands.contains(&Predicate::All) || contradicts(&operands) {
        return Predicate::All;
    }
    let mut merged: Vec<Predicate> = Vec::with_capacity(operands.len());
    for operand in operands {
        match (merged.last_mut(), operand) {
            (Some(Predicate::HasAny(tag, values)), Predicate::HasAny(other, more)) if *tag == other => {
                values.extend(more);
                values.sort_unstable();
                values.dedup();
            }
            (Some(Predicate::Users(ids)), Predicate::Users(more)) => {
                ids.extend(more);
                ids.sort_unstable();
                ids.dedup();
            }
            // Sorted by least number: ranges that overlap or touch are neighbours.
            (Some(Predicate::InRange(tag, range)), Predicate::InRange(other, more))
                if *tag == other && more.min <= range.max.saturating_add(1) =>
            {
                range.max = range.max.max(more.max);
            }
            (_, operand) => merged.push(operand),
        }
    }
    // What merging made can be the complement of another operand, or every number there is.
    if contradicts(&merged) {
        return Predicate::All;
    }
    match merged.len() {
        0 => Predicate::Nobody,
        1 => merged.remove(0).canonical(),
        _ => {
            let whole = |operand: &Predicate| matches!(operand, Predicate::InRange(_, NumberRange::ALL));
            if merged.iter().any(whole) { or(merged) } else { Predicate::Or(merged) }
        }
    }
}

fn xor(a: Predicate, b: Predicate) -> Predicate {
    match (a, b) {
        (Predicate::Nobody, other) | (other, Predicate::Nobody) => other,
        (Predicate::All, other) | (other, Predicate::All) => other.negate(),
        (a, b) if a == b => Predicate::Nobody,
        (a, b) if a > b => Predicate::Xor(Box::new(b), Box::new(a)),
        (a, b) => Predicate::Xor(Box::new(a), Box::new(b)),
    }
}

fn at_least(k: u32, of: Vec<Predicate>) -> Predicate {
    let mut k = k as usize;
    let mut operands = Vec::new();
    for operand in of {
        match operand.canonical() {
            Predicate::Nobody => {}
            Predicate::All => k = k.saturating_sub(1),
            other => operands.push(other),
        }
    }
    operands.sort_unstable();
    match k {
        0 => Predicate::All,
        1 => or(operands),
        k if k > operands.len() => Predicate::Nobody,
        k if k == operands.len() => and(operands),
        k => Predicate::AtLeast(k as u32, operands),
    }
}
