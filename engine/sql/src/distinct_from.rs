//! What stands behind `IS [NOT] DISTINCT FROM`.
//!
//! The parser takes all that follows for its second operand, and reads `a IS DISTINCT FROM b AND c` as `a IS DISTINCT FROM (b AND c)`. In
//! SQL it binds closer than NOT, AND and OR, and so it does for whoever writes it. Parentheses are kept in the tree, so that between
//! them the words can be laid out in their order and joined anew.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, VisitorMut};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::vec::IntoIter;

/// Joins operands as SQL does, in a statement or an expression that was parsed.
pub(crate) fn rejoin(parsed: &mut impl VisitMut) {
    let mut found = Found(false);
    let _ = parsed.visit(&mut found);
    if found.0 {
        let _ = parsed.visit(&mut Rejoined);
    }
}

/// Whether there is anything to do, which is rare.
struct Found(bool);

impl VisitorMut for Found {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (Expr::IsDistinctFrom(_, behind) | Expr::IsNotDistinctFrom(_, behind)) = expr else {
            return ControlFlow::Continue(());
        };
        self.0 = is_joined(behind);
        if self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

struct Rejoined;

impl VisitorMut for Rejoined {
    type Break = ();

    /// Comes to the outermost operator first.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_joined(expr) {
            let mut words = Vec::new();
            lay_out(std::mem::replace(expr, Expr::value(Value::Null)), &mut words);
            *expr = or(&mut words.into_iter().peekable());
        }
        ControlFlow::Continue(())
    }
}

/// Whether operands are joined here that can stand in another order than they were meant to be joined.
fn is_joined(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. }
            | Expr::UnaryOp { op: UnaryOperator::Not, .. }
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
    )
}

enum Word {
    Operand(Box<Expr>),
    Not,
    And,
    Or,
    Distinct,
    NotDistinct,
}

fn lay_out(expr: Expr, words: &mut Vec<Word>) {
    let (left, word, right) = match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => (left, Word::And, right),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => (left, Word::Or, right),
        Expr::IsDistinctFrom(left, right) => (left, Word::Distinct, right),
        Expr::IsNotDistinctFrom(left, right) => (left, Word::NotDistinct, right),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            words.push(Word::Not);
            return lay_out(*expr, words);
        }
        operand => return words.push(Word::Operand(Box::new(operand))),
    };
    lay_out(*left, words);
    words.push(word);
    lay_out(*right, words);
}

type Words = Peekable<IntoIter<Word>>;

fn or(words: &mut Words) -> Expr {
    let mut left = and(words);
    while words.next_if(|word| matches!(word, Word::Or)).is_some() {
        left = joined(left, BinaryOperator::Or, and(words));
    }
    left
}

fn and(words: &mut Words) -> Expr {
    let mut left = not(words);
    while words.next_if(|word| matches!(word, Word::And)).is_some() {
        left = joined(left, BinaryOperator::And, not(words));
    }
    left
}

fn joined(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn not(words: &mut Words) -> Expr {
    if words.next_if(|word| matches!(word, Word::Not)).is_some() {
        return Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(not(words)) };
    }
    let mut left = operand(words);
    loop {
        let is_distinct = |word: &Word| matches!(word, Word::Distinct | Word::NotDistinct);
        let make = match words.next_if(is_distinct) {
            Some(Word::Distinct) => Expr::IsDistinctFrom,
            Some(_) => Expr::IsNotDistinctFrom,
            None => return left,
        };
        left = make(Box::new(left), Box::new(operand(words)));
    }
}

/// The next operand; one behind `IS DISTINCT FROM` may begin with NOT.
fn operand(words: &mut Words) -> Expr {
    match words.next() {
        Some(Word::Operand(operand)) => *operand,
        Some(Word::Not) => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(operand(words)) },
        _ => unreachable!("a tree has an operand on each side of an operator"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Expr {
        Parser::new(&GenericDialect {}).try_with_sql(text).expect("words").parse_expr().expect(text)
    }

    struct Bare;

    impl VisitorMut for Bare {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            while let Expr::Nested(inner) = expr {
                *expr = (**inner).clone();
            }
            ControlFlow::Continue(())
        }
    }

    /// The tree without its parentheses.
    fn bare(mut expr: Expr) -> Expr {
        let _ = expr.visit(&mut Bare);
        expr
    }

    fn check(text: &str, meant: &str) {
        let mut expr = parsed(text);
        rejoin(&mut expr);
        assert_eq!(bare(expr), bare(parsed(meant)), "{text}");
    }

    #[test]
    fn it_binds_closer_than_not_and_and_or() {
        check("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c");
        check("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)");
        check("a IS NOT DISTINCT FROM b + 1 OR c = d", "(a IS NOT DISTINCT FROM (b + 1)) OR (c = d)");
        check("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c");
        check("a AND b IS DISTINCT FROM c OR d", "(a AND (b IS DISTINCT FROM c)) OR d");
        check(
            "a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d OR e",
            "((a IS DISTINCT FROM b) AND (c IS NOT DISTINCT FROM d)) OR e",
        );
        check("f(a IS DISTINCT FROM b AND c) = 1", "f((a IS DISTINCT FROM b) AND c) = 1");
        check("a IS DISTINCT FROM b", "a IS DISTINCT FROM b");
        check(
            "x BETWEEN 1 AND 2 AND a IS DISTINCT FROM b AND c",
            "((x BETWEEN 1 AND 2) AND (a IS DISTINCT FROM b)) AND c",
        );
        check(
            "CASE WHEN a IS DISTINCT FROM b AND c THEN d IS DISTINCT FROM e OR g END",
            "CASE WHEN (a IS DISTINCT FROM b) AND c THEN (d IS DISTINCT FROM e) OR g END",
        );
    }

    /// A condition as short as it may be written, and with all its parentheses. Higher binds closer: OR, AND, NOT, comparisons, names.
    fn condition() -> impl Strategy<Value = (String, String, u8)> {
        let name = prop::sample::select(vec!["a", "b", "c", "x = 1", "y IS NULL"]);
        let leaf = name.prop_map(|name| (name.to_owned(), format!("({name})"), if name.len() == 1 { 5 } else { 4 }));
        let short = |(text, _, level): &(String, String, u8), least: u8| {
            if *level >= least { text.clone() } else { format!("({text})") }
        };
        leaf.prop_recursive(5, 24, 2, move |inner| {
            let pair = (inner.clone(), inner.clone(), 0..4u8);
            prop_oneof![
                pair.prop_map(move |(a, b, op)| {
                    let (op, level, left, right) = match op {
                        0 => ("OR", 1, 1, 2),
                        1 => ("AND", 2, 2, 3),
                        2 => ("IS DISTINCT FROM", 4, 5, 5),
                        _ => ("IS NOT DISTINCT FROM", 4, 5, 5),
                    };
                    (format!("{} {op} {}", short(&a, left), short(&b, right)), format!("({} {op} {})", a.1, b.1), level)
                }),
                inner.prop_map(move |a| (format!("NOT {}", short(&a, 3)), format!("(NOT {})", a.1), 3)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_short_is_what_is_meant((text, meant, _) in condition()) {
            check(&text, &meant);
        }

        #[test]
        fn what_is_joined_is_joined_the_same_again((text, _, _) in condition()) {
            let mut expr = parsed(&text);
            rejoin(&mut expr);
            let once = expr.clone();
            let _ = expr.visit(&mut Rejoined);
            prop_assert_eq!(once, expr);
        }
    }
}
