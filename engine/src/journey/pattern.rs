//! The language of sequences: `(?1)(?t<=3600)(?2).*(?3)`.
//!
//! `(?N)` takes an event that fulfils condition N, `.` any event, each the very next one; `.*` passes over any number of events,
//! `(?t<=N)` too, and says how much time lies between the event taken before it and the one taken behind it (`>=`, `>`, `<=`, `<`, `==`).
//! A pattern is a list of events that are taken, with what may lie between them: that is how it is kept.

use super::CONDITIONS_MAX;

/// The most events that a pattern takes.
pub const TAKEN_MAX: usize = 64;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// At least one, at most [`TAKEN_MAX`].
    pub taken: Vec<Taken>,
}

/// An event that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The bit of the condition that it fulfils; `None` if any event will do.
    pub fulfils: Option<u32>,
    /// What lies between the event that was taken before and this one.
    pub gap: Gap,
}

/// What lies between two events that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Nothing.
    pub is_adjacent: bool,
    /// At least so much time,
    pub least: i128,
    /// and at most so much.
    pub most: i128,
}

/// What is wrong with a pattern, and at which character.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Gap {
    const NONE: Gap = Gap { is_adjacent: true, least: 0, most: i128::MAX };
}

impl Pattern {
    /// Reads a pattern for so many conditions, of at most [`CONDITIONS_MAX`]. Each time that it names stands for so many of what times of
    /// events are counted in.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str, conditions: usize, ticks: i64) -> Result<Pattern, PatternError> {
        let mut reader = Reader { text, rest: text, ticks, conditions: conditions.min(CONDITIONS_MAX) };
        let mut taken: Vec<Taken> = Vec::new();
        let mut gap = Gap::NONE;
        // Where a time stands that nothing has followed yet.
        let mut open_time = None;
        while !reader.rest.is_empty() {
            let begun = reader.rest;
            match reader.part()? {
                Part::Skip => gap.is_adjacent = false,
                Part::Time(least, most) => {
                    if taken.is_empty() {
                        return reader
                            .wrong_at(begun, "no event stands before this time; begin with one, such as (?1)");
                    }
                    gap = Gap { is_adjacent: false, least: gap.least.max(least), most: gap.most.min(most) };
                    open_time.get_or_insert(begun);
                }
                Part::Take(fulfils) => {
                    // Before the first one, nothing is passed over.
                    gap = if taken.is_empty() { Gap::NONE } else { gap };
                    taken.push(Taken { fulfils, gap });
                    if taken.len() > TAKEN_MAX {
                        return reader.wrong_at(begun, &format!("it takes more than {TAKEN_MAX} events"));
                    }
                    gap = Gap::NONE;
                    open_time = None;
                }
            }
        }
        if let Some(begun) = open_time {
            return reader.wrong_at(begun, "no event stands behind this time; end with one, such as (?2)");
        }
        if taken.is_empty() {
            return Err(PatternError(format!("the pattern '{text}' takes no event; write one such as '(?1).*(?2)'")));
        }
        Ok(Pattern { taken })
    }
}

enum Part {
    Skip,
    Take(Option<u32>),
    Time(i128, i128),
}

struct Reader<'p> {
    text: &'p str,
    rest: &'p str,
    ticks: i64,
    conditions: usize,
}

const PARTS: &str = "a pattern is made of (?1), ., .* and (?t<=3600)";

impl<'p> Reader<'p> {
    fn part(&mut self) -> Result<Part, PatternError> {
        let begun = self.rest;
        if self.takes(".*") {
            return Ok(Part::Skip);
        }
        if self.takes(".") {
            return Ok(Part::Take(None));
        }
        if self.takes("(?t") {
            return self.time();
        }
        if !self.takes("(?") {
            return self.wrong_at(begun, PARTS);
        }
        let number = self.number("the number of a condition")?;
        self.closed()?;
        match usize::try_from(number) {
            Ok(number) if (1..=self.conditions).contains(&number) => Ok(Part::Take(Some(1 << (number - 1)))),
            _ => self.wrong_at(begun, &format!("there is no condition {number}, only 1 to {}", self.conditions)),
        }
    }

    fn time(&mut self) -> Result<Part, PatternError> {
        let operators = [">=", "<=", "==", ">", "<"];
        let Some(operator) = operators.into_iter().find(|operator| self.takes(operator)) else {
            return self.wrong_at(self.rest, "behind (?t stands >=, >, <=, < or ==, and a number");
        };
        let number = self.number("a length of time, a whole number,")?;
        self.closed()?;
        let ticks = number.saturating_mul(i128::from(self.ticks));
        Ok(match operator {
            ">=" => Part::Time(ticks, i128::MAX),
            ">" => Part::Time(ticks.saturating_add(1), i128::MAX),
            "<=" => Part::Time(0, ticks),
            "<" => Part::Time(0, ticks - 1),
            _ => Part::Time(ticks, ticks),
        })
    }

    fn number(&mut self, what: &str) -> Result<i128, PatternError> {
        let begun = self.rest;
        let digits = begun.bytes().take_while(u8::is_ascii_digit).count();
        self.rest = &begun[digits..];
        match begun[..digits].parse::<i64>() {
            Ok(number) => Ok(i128::from(number)),
            Err(_) if digits > 0 => self.wrong_at(begun, &format!("the number is larger than {}", i64::MAX)),
            Err(_) => self.wrong_at(begun, &format!("here stands {what}")),
        }
    }

    fn closed(&mut self) -> Result<(), PatternError> {
        if self.takes(")") { Ok(()) } else { self.wrong_at(self.rest, "here stands )") }
    }

    fn takes(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn wrong_at<T>(&self, rest: &str, what: &str) -> Result<T, PatternError> {
        let character = self.text[..self.text.len() - rest.len()].chars().count() + 1;
        Err(PatternError(format!("the pattern '{}' is wrong at character {character}: {what}", self.text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Pattern {
        Pattern::parse(text, 3, 1).expect("a pattern")
    }

    #[track_caller]
    fn refused(text: &str, wanted: &str) {
        let error = Pattern::parse(text, 3, 1).expect_err(text).to_string();
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn what_passes_over_events_at_the_ends_says_nothing() {
        assert_eq!(parsed(".*(?1)(?t<=30)(?2).*.*"), parsed("(?1)(?t<=30)(?2)"));
        assert_eq!(parsed("(?1).*(?t<=30)(?2)"), parsed("(?1)(?t<=30).*(?2)"));
        assert_ne!(parsed("(?1).*(?2)"), parsed("(?1)(?2)"));
    }

    #[test]
    fn times_are_counted_as_those_of_events() {
        let gap = |text, ticks| Pattern::parse(text, CONDITIONS_MAX, ticks).expect("a pattern").taken[1].gap;
        assert_eq!(gap("(?1)(?t>2)(?2)", 1_000), Gap { is_adjacent: false, least: 2001, most: i128::MAX });
        assert_eq!(gap("(?1)(?t<2)(?2)", 1_000), Gap { is_adjacent: false, least: 0, most: 1999 });
        assert_eq!(gap("(?1)(?t>=1)(?t<=5)(?2)", 1), Gap { is_adjacent: false, least: 1, most: 5 });
        assert_eq!(gap("(?1)(?t==7)(?2)", 1), Gap { is_adjacent: false, least: 7, most: 7 });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        refused("", "takes no event");
        refused(".*", "takes no event");
        refused("(?1)(?0)", "character 5: there is no condition 0, only 1 to 3");
        refused("(?4)", "character 1: there is no condition 4");
        refused("(?99999999999999999999)", "character 3: the number is larger than");
        refused("(?1) (?2)", "character 5: a pattern is made of");
        refused("(?1)(?t>+)(?2)", "character 9: here stands a length of time");
        refused("(?1)(?t>-5)(?2)", "character 9: here stands a length of time");
        refused("(?1)(?t5)(?2)", "character 8: behind (?t stands");
        refused("(?1)(?t>5", "character 10: here stands )");
        refused("(?t>5)(?1)", "character 1: no event stands before");
        refused("(?1)(?t>5).*", "character 5: no event stands behind");
        refused("é(?1)", "character 1: a pattern is made of");
        refused(".é", "character 2: a pattern is made of");
        refused("(?", "character 3: here stands the number");
        refused(&".".repeat(65), "character 65: it takes more than 64 events");
        parsed(&".".repeat(64));
    }
}
