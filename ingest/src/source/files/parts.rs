//! A glob by the parts of a path: all its possible states at once.

use glob::MatchOptions;

/// The parts of a glob, between slashes.
#[derive(Debug, Default)]
pub(crate) struct Parts(Vec<Part>);

#[derive(Debug)]
enum Part {
    Name(String),
    Glob(glob::Pattern),
    /// `**`: any number of folders.
    AnyDepth,
}

const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether a part stands for more than itself.
pub(crate) fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

impl Parts {
    /// Of a glob's parts, in their order.
    ///
    /// # Errors
    /// The first part that is not a glob.
    pub(crate) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Parts, glob::PatternError> {
        let mut parts = Parts::default();
        for text in texts {
            if has_wildcard(text) { parts.push_glob(text)? } else { parts.push_name(text) }
        }
        parts.close();
        Ok(parts)
    }

    /// Everything below, at any depth.
    pub(crate) fn anything() -> Parts {
        Parts(vec![Part::AnyDepth, any_name()])
    }

    pub(super) fn push_name(&mut self, name: &str) {
        self.0.push(Part::Name(name.to_owned()));
    }

    pub(super) fn push_glob(&mut self, text: &str) -> Result<(), glob::PatternError> {
        if text == "**" {
            if !matches!(self.0.last(), Some(Part::AnyDepth)) {
                self.0.push(Part::AnyDepth);
            }
        } else {
            self.0.push(Part::Glob(glob::Pattern::new(text)?));
        }
        Ok(())
    }

    /// At the end: `**` stands for files, too.
    pub(super) fn close(&mut self) {
        if let Some(Part::AnyDepth) = self.0.last() {
            self.0.push(any_name());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a state has parts to come.
    pub(super) fn goes_on(&self, state: usize) -> bool {
        state < self.0.len()
    }

    /// The names, if all of these states name their part in full.
    pub(super) fn names(&self, states: &[usize]) -> Option<Vec<(usize, &str)>> {
        let name = |state: &usize| match &self.0[*state] {
            Part::Name(name) => Some((*state, name.as_str())),
            Part::Glob(_) | Part::AnyDepth => None,
        };
        states.iter().map(name).collect()
    }

    /// The states with those that `**` for no folder at all leads to.
    pub(super) fn closed(&self, states: &[usize]) -> Vec<usize> {
        let mut closed: Vec<usize> = Vec::with_capacity(states.len() + 1);
        for state in states {
            let behind = matches!(self.0[*state], Part::AnyDepth).then_some(state + 1);
            closed.extend([*state].into_iter().chain(behind));
        }
        closed.sort_unstable();
        closed.dedup();
        closed
    }

    /// The states behind an entry of a folder.
    pub(super) fn next(&self, states: &[usize], name: &str, is_folder: bool) -> Vec<usize> {
        let step = |state: &usize| match &self.0[*state] {
            Part::Name(wanted) => (wanted == name).then_some(state + 1),
            Part::Glob(glob) => glob.matches_with(name, MATCH).then_some(state + 1),
            Part::AnyDepth => (is_folder && !name.starts_with('.')).then_some(*state),
        };
        states.iter().filter_map(step).collect()
    }

    /// Whether a whole name matches, its parts between slashes.
    pub(crate) fn match_name(&self, name: &str) -> bool {
        let mut states = vec![0];
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            states.retain(|state| self.goes_on(*state));
            states = self.next(&self.closed(&states), part, parts.peek().is_some());
        }
        states.iter().any(|state| !self.goes_on(*state))
    }
}

fn any_name() -> Part {
    Part::Glob(glob::Pattern::new("*").expect("a star is a glob"))
}
