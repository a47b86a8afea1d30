//! Set algebra over the values of a column, as text: `(A|B)&(C-D)^E`.
//!
//! `&` is and, `|` or, `-` and not, `^` one of both. All bind alike, from left to right, as in Doris; parentheses group. Anything else is
//! a value; `\` takes the next character as it is. Nothing here recurses; depth is limited since what is open may hold a set each.

use super::super::people::People;
use datafusion::common::exec_err;
use datafusion::error::Result;
use roaring::RoaringTreemap;
use std::borrow::Cow;

/// The most parentheses that are open at a time.
const DEPTH_MAX: usize = 100;

/// An expression and its text.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) text: String,
    pub(super) expression: Expression,
}

impl Parsed {
    /// Bytes of memory, nearly.
    pub(super) fn heap_bytes(&self) -> usize {
        let Expression { keys, steps } = &self.expression;
        let of_keys = keys.iter().map(String::capacity).sum::<usize>() + keys.capacity() * size_of::<String>();
        self.text.capacity() + of_keys + steps.capacity() * size_of::<Step>()
    }
}

/// A parsed expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// The values, rising and without doubles.
    keys: Vec<String>,
    /// In postfix order.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The set of a value, by its place.
    Key(usize),
    Join(Join),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    And,
    Or,
    AndNot,
    Xor,
}

enum Token {
    Key(String),
    Join(Join),
    Open,
    Close,
}

/// What waits for its second operand.
enum Waiting {
    Join(Join),
    Open(usize),
}

impl Expression {
    /// # Errors
    /// If it is not such an expression; tells where.
    pub(super) fn parse(text: &str) -> Result<Expression> {
        let tokens = tokens(text)?;
        let mut keys: Vec<String> = tokens
            .iter()
            .filter_map(|(token, _)| if let Token::Key(key) = token { Some(key.clone()) } else { None })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let mut steps = Vec::with_capacity(tokens.len());
        let mut waiting = Vec::new();
        let mut needs_operand = true;
        let mut depth = 0;
        for (token, at) in tokens {
            match token {
                Token::Key(key) if needs_operand => {
                    steps.push(Step::Key(keys.binary_search(&key).unwrap_or_default()));
                    needs_operand = false;
                }
                Token::Open if needs_operand && depth == DEPTH_MAX => {
                    return exec_err!("in the expression at byte {at}: more than {DEPTH_MAX} parentheses are open");
                }
                Token::Open if needs_operand => {
                    depth += 1;
                    waiting.push(Waiting::Open(at));
                }
                Token::Key(_) | Token::Open => return wrong(text, at, "an operator (& | - ^) is missing"),
                Token::Join(_) | Token::Close if needs_operand => return wrong(text, at, "a value is missing"),
                Token::Join(join) => {
                    settle(&mut waiting, &mut steps);
                    waiting.push(Waiting::Join(join));
                    needs_operand = true;
                }
                Token::Close => {
                    settle(&mut waiting, &mut steps);
                    if waiting.pop().is_none() {
                        return wrong(text, at, "no parenthesis is open");
                    }
                    depth -= 1;
                }
            }
        }
        if needs_operand {
            return wrong(text, text.len(), "a value is missing");
        }
        settle(&mut waiting, &mut steps);
        match waiting.pop() {
            Some(Waiting::Open(at)) => wrong(text, at, "the parenthesis is not closed"),
            _ => Ok(Expression { keys, steps }),
        }
    }

    /// The values, rising.
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The place of a value.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.keys.binary_search_by(|known| known.as_str().cmp(key)).ok()
    }

    /// What it comes to, with the sets of the values by their places.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn evaluate(&self, sets: &[RoaringTreemap], people: &People) -> Result<RoaringTreemap> {
        // Sets of values are only looked at until something is made of them.
        let mut stack: Vec<Cow<'_, RoaringTreemap>> = Vec::new();
        for step in &self.steps {
            people.check()?;
            match step {
                Step::Key(at) => stack.push(sets.get(*at).map_or_else(Cow::default, Cow::Borrowed)),
                Step::Join(join) => {
                    let right = stack.pop().unwrap_or_default();
                    let mut left = stack.pop().unwrap_or_default().into_owned();
                    match join {
                        Join::And => left &= &*right,
                        Join::Or => left |= &*right,
                        Join::AndNot => left -= &*right,
                        Join::Xor => left ^= &*right,
                    }
                    stack.push(Cow::Owned(left));
                }
            }
        }
        Ok(stack.pop().unwrap_or_default().into_owned())
    }
}

/// Writes down the operator that waits since the last open parenthesis, if one does: its second operand is complete.
fn settle(waiting: &mut Vec<Waiting>, steps: &mut Vec<Step>) {
    if let Some(Waiting::Join(join)) = waiting.last() {
        steps.push(Step::Join(*join));
        waiting.pop();
    }
}

fn wrong<T>(text: &str, at: usize, what: &str) -> Result<T> {
    let from = text.get(at..).unwrap_or_default();
    let near: String = from.chars().take(20).collect();
    exec_err!("in the expression at byte {at} ('{near}'): {what}; write it as '(A|B)&C'")
}

/// The tokens, each with where it begins.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>> {
    let mut tokens = Vec::new();
    let mut key = String::new();
    let mut key_at = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let token = match character {
            '&' => Some(Token::Join(Join::And)),
            '|' => Some(Token::Join(Join::Or)),
            '-' => Some(Token::Join(Join::AndNot)),
            '^' => Some(Token::Join(Join::Xor)),
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ' ' | '\t' | '\n' => None,
            '\\' => {
                let Some((_, escaped)) = characters.next() else { return wrong(text, at, "nothing follows the \\") };
                key_at.get_or_insert(at);
                key.push(escaped);
                continue;
            }
            other => {
                key_at.get_or_insert(at);
                key.push(other);
                continue;
            }
        };
        if let Some(begun) = key_at.take() {
            tokens.push((Token::Key(std::mem::take(&mut key)), begun));
        }
        tokens.extend(token.map(|token| (token, at)));
    }
    if let Some(begun) = key_at {
        tokens.push((Token::Key(key), begun));
    }
    Ok(tokens)
}
