//! A definition to a mapping, or why it cannot be.
//!
//! Constants and defaults are tried out: the decoder that will read the lines reads one with each of them.

use super::Mapping;
use super::computed::Programs;
use super::definition::{Cast, Condition, FactMapping, FieldValue, MappedField, TagMapping};
use super::error::MappingError;
use super::filter::Filter;
use super::find::{Finder, Slot};
use super::path::{Path, Step};
use super::write::{Missing, Target, TargetValue, Writer};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::Json;
use crate::decode::{EventDecoder, TagDecoder};
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, ColumnType, Fact, TagType, Unit};
use engine::computed::Wanted;
use engine::update::UpdateBatch;
use std::collections::HashSet;

pub(super) fn fact(definition: &FactMapping, fact: &Fact) -> Result<Mapping, MappingError> {
    let mut check = Check::new();
    let mut decoder = EventDecoder::new(fact, 0);
    for (name, field) in &definition.fields {
        let place = format!("map.{name}");
        let takes = Takes::of_field(&place, name, fact)?;
        check.mark(&place)?;
        let missing = match name.as_str() {
            "user_id" => Missing::Refuse(LineErrorKind::UserId),
            "ts" => Missing::Refuse(LineErrorKind::EventTime),
            _ => Missing::LeaveOut,
        };
        let target = check.target(&place, name, field, &takes, missing, |json| {
            decoder.decode(event_with(name, json, fact).as_bytes(), &mut UpdateBatch::new())
        })?;
        check.writer.head.push(target);
    }
    let maps = |name: &str| definition.fields.iter().any(|(known, _)| known == name);
    if !maps("user_id") {
        return Err(no_user_id());
    }
    if !maps("ts") {
        let (field, missing) = (MappedField::path("$timestamp"), Missing::Refuse(LineErrorKind::EventTime));
        let target = check.target("map.ts", "ts", &field, &Takes::TIME, missing, |_| Ok(()))?;
        check.writer.head.push(target);
    }
    if definition.keep_others {
        let names = check.writer.head.iter().map(|target| target.name.clone());
        check.finder.want_others(names.chain(check.whole_fields.iter().cloned()));
    }
    check.finish(&definition.conditions)
}

pub(super) fn tags(definition: &TagMapping, catalog: &Catalog) -> Result<Mapping, MappingError> {
    let mut check = Check::new();
    let mut decoder = TagDecoder::new(catalog);
    let mut try_line = |line: String| decoder.decode(line.as_bytes(), &mut UpdateBatch::new());
    let user_id = definition.user_id.as_ref().ok_or_else(no_user_id)?;
    let missing = Missing::Refuse(LineErrorKind::UserId);
    let target = check.target("map.user_id", "user_id", user_id, &Takes::ID, missing, |json| {
        try_line(format!("{{\"user_id\":{json}}}"))
    })?;
    check.writer.head.push(target);
    for (section, fields) in [("set", &definition.set), ("remove", &definition.remove), ("add", &definition.add)] {
        let mut targets = Vec::new();
        for (tag, field) in fields {
            let place = format!("map.{section}.{tag}");
            let takes = Takes::of_tag(&place, section, tag_type(catalog, &place, tag)?)?;
            check.mark(&place)?;
            let missing = match section {
                "set" if definition.unset_nulls => Missing::Write("null".to_owned()),
                _ => Missing::LeaveOut,
            };
            let name = format!("{section}.{tag}");
            targets.push(check.target(&place, &name, field, &takes, missing, |json| {
                try_line(format!("{{\"user_id\":\"u\",\"{section}\":{{\"{tag}\":{json}}}}}"))
            })?);
        }
        if !targets.is_empty() {
            check.writer.sections.push((format!("\"{section}\":"), targets));
        }
    }
    for tag in &definition.unset {
        tag_type(catalog, "map.unset", tag)?;
        check.mark(&format!("map.unset.{tag}"))?;
    }
    if !definition.unset.is_empty() {
        // Declared tags have names that need no escapes.
        check.writer.tail = format!("\"unset\":[\"{}\"]", definition.unset.join("\",\""));
    }
    check.finish(&definition.conditions)
}

/// A mapping that is being put together.
struct Check {
    finder: Finder,
    programs: Programs,
    writer: Writer,
    /// Places that were mapped: tells one mapped twice.
    places: HashSet<String>,
    /// Fields of the record that are mapped as a whole.
    whole_fields: Vec<String>,
}

impl Check {
    fn new() -> Self {
        Check {
            finder: Finder::new(),
            programs: Programs::default(),
            writer: Writer::default(),
            places: HashSet::new(),
            whole_fields: Vec::new(),
        }
    }

    fn mark(&mut self, place: &str) -> Result<(), MappingError> {
        match self.places.insert(place.to_owned()) {
            true => Ok(()),
            false => Err(MappingError::new(place, "it is mapped twice").suggest("keep one of them")),
        }
    }

    /// A member of the line; `try_json` reads a line with this JSON in its place.
    fn target(
        &mut self,
        place: &str,
        name: &str,
        field: &MappedField,
        takes: &Takes,
        missing: Missing,
        mut try_json: impl FnMut(&str) -> Result<(), LineError>,
    ) -> Result<Target, MappingError> {
        let mut constant = |part: &str, json: &String| {
            let place = format!("{place}.{part}");
            check_json(&place, json)?;
            if name == "ts" {
                return Err(one_time(place));
            }
            match try_json(json) {
                Ok(()) => Ok(json.clone()),
                Err(LineError { message, suggestion, .. }) => {
                    let message = message.strip_prefix(&format!("`{name}`: ")).unwrap_or(&message).to_owned();
                    Err(MappingError { place, message, column: None, suggestion })
                }
            }
        };
        let default = field.default.as_ref().map(|json| constant("default", json)).transpose()?;
        let value = match &field.value {
            FieldValue::Constant(json) => {
                if field.default.is_some() || field.cast.is_some() || field.unit.is_some() {
                    return Err(MappingError::new(place, "a constant is written as it is")
                        .suggest("leave `default`, `type` and `unit` out"));
                }
                TargetValue::Constant(constant("value", json)?)
            }
            FieldValue::Computed(expression) => {
                if field.cast.is_some() || field.unit.is_some() {
                    return Err(MappingError::new(place, "an expression gives the value as it is written")
                        .suggest("leave `type` and `unit` out, and write a cast in the expression"));
                }
                let at = format!("{place}.sql");
                let program = self.programs.add_field(&at, name, expression, takes.wanted, &mut self.finder)?;
                if name == "ts" && !self.programs.reads(program) {
                    return Err(one_time(at));
                }
                TargetValue::Computed { program, missing: default.map_or(missing, Missing::Write) }
            }
            FieldValue::Path(path) => {
                takes.check(place, field)?;
                TargetValue::Found {
                    slot: self.mapped(place, path)?,
                    path: path.clone(),
                    cast: field.cast,
                    shift: field.unit.map_or(0, |unit| unit.shift()),
                    missing: default.map_or(missing, Missing::Write),
                }
            }
        };
        let key = name.rsplit('.').next().unwrap_or(name);
        Ok(Target { name: name.to_owned(), key: format!("\"{key}\":"), value })
    }

    fn mapped(&mut self, place: &str, text: &str) -> Result<Slot, MappingError> {
        let path = parse_path(place, text)?;
        if let Path::Record(steps) = &path
            && let [Step::Key(key)] = steps.as_slice()
        {
            self.whole_fields.push(key.clone());
        }
        Ok(self.finder.want(&path))
    }

    fn finish(mut self, conditions: &[Condition]) -> Result<Mapping, MappingError> {
        let mut filters = Vec::new();
        for (index, condition) in conditions.iter().enumerate() {
            let place = format!("where[{index}]");
            match condition {
                Condition::Computed(expression) => {
                    self.programs.add_condition(&place, expression, &mut self.finder)?;
                }
                Condition::Field { path, test } => {
                    let slot = self.finder.want(&parse_path(&place, path)?);
                    let filter = Filter::new(place.clone(), path, slot, test).map_err(
                        |LineError { message, column, suggestion, .. }| MappingError {
                            place,
                            message,
                            column,
                            suggestion,
                        },
                    )?;
                    filters.push(filter);
                }
            }
        }
        let Check { finder, programs, writer, .. } = self;
        Ok(Mapping { finder, filters, programs, writer, text: String::new() })
    }
}

/// What a field of the line takes.
struct Takes {
    /// For messages: "the column is a string".
    noun: String,
    casts: &'static [Cast],
    is_time: bool,
    /// Of an expression.
    wanted: Wanted,
}

impl Takes {
    const ID: Takes =
        Takes { noun: String::new(), casts: &[Cast::String, Cast::Number], is_time: false, wanted: Wanted::Id };
    const TIME: Takes = Takes { noun: String::new(), casts: &[Cast::Number], is_time: true, wanted: Wanted::Time };

    fn of_field(place: &str, name: &str, fact: &Fact) -> Result<Takes, MappingError> {
        let knows_ids = fact.deduplicate_days.is_some();
        match name {
            "user_id" => return Ok(Takes::ID),
            "ts" => return Ok(Takes::TIME),
            "event_id" if knows_ids => return Ok(Takes::ID),
            "retract" if knows_ids => {
                let (casts, wanted): (&[Cast], _) = (&[Cast::Boolean], Wanted::Boolean);
                return Ok(Takes { noun: String::new(), casts, is_time: false, wanted });
            }
            "event_id" | "retract" => {
                return Err(MappingError::new(place, "the fact does not know its events by their ids")
                    .suggest("declare it with `deduplicate: 30 days`, or leave this out"));
            }
            _ => {}
        }
        let Some(column) = fact.column(name) else {
            let names = ["user_id", "ts"].into_iter().chain(fact.columns.iter().map(|column| column.name.as_str()));
            let ids = ["event_id", "retract"].into_iter().filter(|_| knows_ids);
            let error = MappingError::new(place, format!("the fact has no column `{name}`"));
            return Err(match closest(name, names.chain(ids)) {
                Some(near) => error.suggest(format!("did you mean `{near}`?")),
                None => error.suggest("declare it in the catalog first"),
            });
        };
        let column_type = fact.columns[column].column_type;
        let article = if column_type == ColumnType::Integer { "an" } else { "a" };
        let (casts, wanted): (&[Cast], _) = match column_type {
            ColumnType::String => (&[Cast::String], Wanted::Text),
            ColumnType::Integer | ColumnType::Float => (&[Cast::Number], Wanted::Number),
            ColumnType::Timestamp => (&[Cast::Number], Wanted::Time),
            ColumnType::Decimal { .. } => (&[Cast::Number, Cast::String], Wanted::Number),
            ColumnType::Boolean => (&[Cast::Boolean], Wanted::Boolean),
            ColumnType::Json => (&[Cast::String, Cast::Number, Cast::Boolean], Wanted::Any),
        };
        let is_time = column_type == ColumnType::Timestamp;
        Ok(Takes { noun: format!("the column is {article} {column_type}"), casts, is_time, wanted })
    }

    fn of_tag(place: &str, section: &str, tag_type: TagType) -> Result<Takes, MappingError> {
        let article = if tag_type == TagType::Enum { "an" } else { "a" };
        let noun = format!("the tag is {article} {tag_type}");
        if section != "set" && tag_type != TagType::Set {
            return Err(MappingError::new(place, format!("{noun}; `{section}` is for sets")).suggest("map it in `set`"));
        }
        let (casts, wanted): (&[Cast], _) = match tag_type {
            TagType::Set => (&[Cast::String], Wanted::Texts),
            TagType::Enum => (&[Cast::String], Wanted::Text),
            TagType::Flag => (&[Cast::Boolean], Wanted::Boolean),
            TagType::Number(Unit::Timestamp) => (&[Cast::Number], Wanted::Time),
            TagType::Number(_) => (&[Cast::Number], Wanted::Number),
        };
        Ok(Takes { noun, casts, is_time: wanted == Wanted::Time, wanted })
    }

    fn check(&self, place: &str, field: &MappedField) -> Result<(), MappingError> {
        let because = if self.noun.is_empty() { String::new() } else { format!("; {}", self.noun) };
        if let Some(cast) = field.cast
            && !self.casts.contains(&cast)
        {
            let names: Vec<String> = self.casts.iter().map(|cast| format!("`type: {}`", cast.name())).collect();
            return Err(MappingError::new(place, format!("it does not take a {}{because}", cast.name()))
                .suggest(format!("write {}, or leave `type` out", names.join(" or "))));
        }
        if field.unit.is_some() && !self.is_time {
            return Err(MappingError::new(place, format!("`unit` is for times{because}")).suggest("leave `unit` out"));
        }
        Ok(())
    }
}

fn tag_type(catalog: &Catalog, place: &str, name: &str) -> Result<TagType, MappingError> {
    if let Some(tag) = catalog.tag(name) {
        return Ok(tag.tag_type);
    }
    let error = MappingError::new(place, format!("there is no tag `{name}`"));
    Err(match closest(name, catalog.tags().map(|(name, _)| name)) {
        Some(near) => error.suggest(format!("did you mean `{near}`?")),
        None => error.suggest("declare it in the catalog first"),
    })
}

fn one_time(place: String) -> MappingError {
    MappingError::new(place, "all these events would have the same time")
        .suggest("map `ts` to a path, or leave it out for the record's own time")
}

fn no_user_id() -> MappingError {
    MappingError::new("map", "`user_id` is not mapped")
        .suggest("write which field has it, as in `user_id: customer.id`, or `user_id: $key`")
}

/// An event that has nothing but what it needs and this field. At the begin of 1970 any fact keeps it.
fn event_with(name: &str, json: &str, fact: &Fact) -> String {
    let mut line = format!("{{\"{name}\":{json},\"ts\":0");
    if name != "user_id" {
        line.push_str(",\"user_id\":\"u\"");
    }
    if name != "event_id" && fact.deduplicate_days.is_some() {
        line.push_str(",\"event_id\":\"e\"");
    }
    line.push('}');
    line
}

fn check_json(place: &str, text: &str) -> Result<(), MappingError> {
    let mut json = Json::new(text, 0);
    let read = json.skip(&mut String::new()).and_then(|()| json.end());
    read.map_err(|error| MappingError::of_text(place, "the JSON", text, error))
}

pub(super) fn parse_path(place: &str, text: &str) -> Result<Path, MappingError> {
    Path::parse(text).map_err(|error| MappingError::of_text(place, "the path", text, error))
}
