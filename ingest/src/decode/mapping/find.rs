//! The walk over a record: where the wanted values stand.
//!
//! The wanted paths are a tree of keys and items. The record is read once, and each of its objects and lists beside a node
//! of that tree; what no path leads to is passed over. So a node is met once at most, unless a key is given twice, which
//! is refused.

use super::context::{Beside, RecordContext};
use super::path::{Path, Step, shown_key};
use crate::decode::error::LineError;
use crate::decode::json::{Json, Kind};
use crate::decode::tags::twice;
use std::ops::Range;

/// Finds values of records.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    /// The first is the record itself.
    nodes: Vec<Node>,
    besides: Vec<(Beside, Slot)>,
    /// By slot, what the last record has.
    places: Vec<Option<Place>>,
    /// If they are wanted.
    others: Option<Others>,
    record_serial: u64,
    /// What the last record's context says, as JSON.
    beside_text: String,
    /// Reused for strings with escapes: of keys, of values passed over.
    key: String,
    passed: String,
}

/// The number of a wanted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// A value on the way to wanted ones, or wanted itself.
#[derive(Clone, Debug)]
struct Node {
    /// Its path, for messages.
    path: String,
    /// Which of its members lead on, to which node.
    keys: Names,
    /// Which of its items lead on, rising, to which node.
    items: Vec<(usize, usize)>,
    slot: Option<Slot>,
    /// The record that had it last: tells a key given twice.
    named_in: u64,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    end: usize,
    kind: Kind,
    /// In the record, else in the text of its context.
    in_record: bool,
}

/// The members of the outermost object that stay.
#[derive(Clone, Debug, Default)]
struct Others {
    /// Those that do not.
    dropped: Names,
    members: Vec<Range<usize>>,
}

/// What was found in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Findings<'r> {
    record: &'r str,
    beside_text: &'r str,
    places: &'r [Option<Place>],
    others: &'r [Range<usize>],
}

/// A value that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'r> {
    /// As written.
    pub(super) text: &'r str,
    pub(super) kind: Kind,
    /// Where it begins in the record, if it stands there.
    pub(super) at: Option<usize>,
}

const RECORD: usize = 0;

impl Finder {
    pub(super) fn new() -> Self {
        Finder {
            nodes: vec![Node::new(String::new())],
            besides: Vec::new(),
            places: Vec::new(),
            others: None,
            record_serial: 0,
            beside_text: String::new(),
            key: String::new(),
            passed: String::new(),
        }
    }

    /// Asks for the value at a path; the same path asked for again has the same slot.
    pub(super) fn want(&mut self, path: &Path) -> Slot {
        match path {
            Path::Record(steps) => {
                let node = steps.iter().fold(RECORD, |node, step| self.node_behind(node, step));
                let free = Slot(self.places.len());
                let slot = *self.nodes[node].slot.get_or_insert(free);
                if slot == free {
                    self.places.push(None);
                }
                slot
            }
            Path::Beside(beside) => {
                if let Some((_, slot)) = self.besides.iter().find(|(known, _)| known == beside) {
                    return *slot;
                }
                let slot = Slot(self.places.len());
                self.places.push(None);
                self.besides.push((*beside, slot));
                slot
            }
        }
    }

    /// Asks for the members of the outermost object, those of these names left out.
    pub(super) fn want_others(&mut self, dropped: impl Iterator<Item = String>) {
        let mut others = Others::default();
        for name in dropped {
            others.dropped.put(name, RECORD);
        }
        self.others = Some(others);
    }

    fn node_behind(&mut self, node: usize, step: &Step) -> usize {
        let free = self.nodes.len();
        let from = &mut self.nodes[node];
        let (next, path) = match step {
            Step::Key(key) => {
                let dot = if from.path.is_empty() { "" } else { "." };
                (from.keys.put(key.clone(), free), format!("{}{dot}{}", from.path, shown_key(key)))
            }
            Step::Index(index) => {
                let path = format!("{}[{index}]", from.path);
                match from.items.binary_search_by_key(index, |(known, _)| *known) {
                    Ok(at) => (from.items[at].1, path),
                    Err(at) => {
                        from.items.insert(at, (*index, free));
                        (free, path)
                    }
                }
            }
        };
        if next == free {
            self.nodes.push(Node::new(path));
        }
        next
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`LineError`] if it is not JSON, gives a wanted key twice, or if a wanted part of its context is not text.
    pub(super) fn find<'r>(
        &'r mut self,
        record: &'r str,
        context: &RecordContext<'_>,
    ) -> Result<Findings<'r>, LineError> {
        self.record_serial += 1;
        self.places.fill(None);
        if let Some(others) = &mut self.others {
            others.members.clear();
        }
        let mut json = Json::new(record, 0);
        self.walk(&mut json, RECORD, 0)?;
        json.end()?;
        self.beside_text.clear();
        for (beside, slot) in &self.besides {
            let start = self.beside_text.len();
            let kind = beside.push(context, &mut self.beside_text)?;
            let end = self.beside_text.len();
            self.places[slot.0] = kind.map(|kind| Place { start, end, kind, in_record: false });
        }
        Ok(Findings {
            record,
            beside_text: &self.beside_text,
            places: &self.places,
            others: self.others.as_ref().map_or(&[], |others| &others.members),
        })
    }

    /// Reads the value of a node. The tree is no deeper than a path is long, so neither is the recursion.
    fn walk(&mut self, json: &mut Json<'_>, node: usize, depth: usize) -> Result<(), LineError> {
        let kind = json.kind()?;
        let start = json.position();
        let wants_members = !self.nodes[node].keys.is_empty() || (node == RECORD && self.others.is_some());
        match kind {
            Kind::Object if wants_members => self.walk_members(json, node, depth)?,
            Kind::Array if !self.nodes[node].items.is_empty() => self.walk_items(json, node, depth)?,
            _ => json.skip_at_depth(&mut self.passed, depth)?,
        }
        if let Some(slot) = self.nodes[node].slot {
            self.places[slot.0] = Some(Place { start, end: json.position(), kind, in_record: true });
        }
        Ok(())
    }

    fn walk_members(&mut self, json: &mut Json<'_>, node: usize, depth: usize) -> Result<(), LineError> {
        json.begin_object()?;
        let mut first = true;
        while let Some(key) = json.key(&mut first, &mut self.key)? {
            let at = json.key_position();
            let stays = node == RECORD && self.others.as_ref().is_some_and(|others| others.dropped.find(key).is_none());
            match self.nodes[node].keys.find(key) {
                Some(next) => {
                    let named_in = &mut self.nodes[next].named_in;
                    if std::mem::replace(named_in, self.record_serial) == self.record_serial {
                        return Err(twice(&self.nodes[next].path, at));
                    }
                    self.walk(json, next, depth + 1)?;
                }
                None => json.skip_at_depth(&mut self.passed, depth + 1)?,
            }
            if stays && let Some(others) = &mut self.others {
                others.members.push(at..json.position());
            }
        }
        Ok(())
    }

    fn walk_items(&mut self, json: &mut Json<'_>, node: usize, depth: usize) -> Result<(), LineError> {
        json.begin_array()?;
        let (mut first, mut index, mut wanted) = (true, 0, 0);
        while json.item(&mut first)? {
            match self.nodes[node].items.get(wanted) {
                Some((at, next)) if *at == index => {
                    self.walk(json, *next, depth + 1)?;
                    wanted += 1;
                }
                _ => json.skip_at_depth(&mut self.passed, depth + 1)?,
            }
            index += 1;
        }
        Ok(())
    }
}

impl Node {
    fn new(path: String) -> Self {
        Node { path, keys: Names::default(), items: Vec::new(), slot: None, named_in: 0 }
    }
}

impl<'r> Findings<'r> {
    /// The value at a path, which may be null; `None` if there is none.
    pub(super) fn get(&self, slot: Slot) -> Option<Found<'r>> {
        let place = self.places[slot.0]?;
        let text = if place.in_record { self.record } else { self.beside_text };
        let at = place.in_record.then_some(place.start);
        Some(Found { text: &text[place.start..place.end], kind: place.kind, at })
    }

    /// The other members as they are written, key and value, and where each begins.
    pub(super) fn others(&self) -> impl Iterator<Item = (&'r str, usize)> {
        let (record, others) = (self.record, self.others);
        others.iter().map(move |member| (&record[member.clone()], member.start))
    }
}

/// Names with a number each. Ordered by length first, so that most comparisons look at no byte.
#[derive(Clone, Debug, Default)]
struct Names(Vec<(String, usize)>);

impl Names {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.len().cmp(&name.len()).then_with(|| known.as_str().cmp(name)))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.place(name).ok().map(|at| self.0[at].1)
    }

    /// The name's number: the one it has, else this one from now on.
    fn put(&mut self, name: String, number: usize) -> usize {
        match self.place(&name) {
            Ok(at) => self.0[at].1,
            Err(at) => {
                self.0.insert(at, (name, number));
                number
            }
        }
    }
}
