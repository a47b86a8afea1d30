//! Checks names and types against the catalog, expands audiences, settles NULLs: [`Expr`] → [`Predicate`].
//!
//! SQL's logic has three values; sets have two. So every expression is bound twice over: to the users for whom it is true,
//! and, under a NOT, to those for whom it is *false*, which is not the rest, because for some it is NULL. De Morgan's
//! laws hold for both, so a NOT travels down to the leaves and is settled there.
//!
//! What can be NULL: an `enum` or `number` the user does not have. A `set` is only empty, a `flag` only false;
//! `at_least`, `in_audience`, `similar_to` and `user_id IN` are true or false.

mod did;
mod similar;

pub use did::instants_within;

use super::error::{ExprError, ExprErrorKind};
use super::expr::{CompareOp, Did, Expr, ExprKind, Literal};
use super::literal::{self, Exact};
use super::parse::EXPRESSION_DEPTH_MAX;
use super::predicate::Predicate;
use super::scan::EventsMeant;
use super::suggest::closest;
use crate::bitmap::bsi::NumberRange;
use crate::catalog::{Catalog, Tag, TagType, Unit};
use crate::store::{Audience, Definition};
use std::collections::BTreeMap;

/// How deep audiences may stand within audiences.
pub const AUDIENCE_DEPTH_MAX: usize = 16;
/// How deep XOR may stand within XOR.
pub const XOR_DEPTH_MAX: usize = 8;
/// How deep an expression may be with all its audiences opened up: whatever walks over it, and there is much that does, stays far from
/// the end of a thread's stack. Any expression that can be parsed fits.
pub const PREDICATE_DEPTH_MAX: usize = 400;
/// The most nodes of an expression with all its audiences expanded.
pub const PREDICATE_NODES_MAX: usize = 1_000_000;

/// The users for whom `expr` is true, in canonical form. `now` (microseconds since 1970) settles what is told relative to the
/// present.
///
/// # Errors
/// [`ExprError`] with what is wrong, where, and what to write instead.
pub fn bind(
    expr: &Expr,
    catalog: &Catalog,
    audiences: &BTreeMap<String, Audience>,
    now: i64,
) -> Result<Predicate, ExprError> {
    let (open, known) = (Vec::new(), BTreeMap::new());
    let mut binder = Binder { catalog, audiences, now, open, known, within_xor: 0, depth: 0 };
    let bound = binder.bind(expr, true)?;
    check_size(&bound)?;
    Ok(bound.canonical())
}

/// The events that a `did` without figures means, as of `now`.
///
/// # Errors
/// As [`bind`].
pub fn bind_events(did: &Did, catalog: &Catalog, now: i64) -> Result<EventsMeant, ExprError> {
    did::meant(did, catalog, now)
}

fn check_size(predicate: &Predicate) -> Result<(), ExprError> {
    if predicate.node_count() > PREDICATE_NODES_MAX {
        let message = format!("with its audiences expanded the expression has more than {PREDICATE_NODES_MAX} terms");
        return Err(ExprError::new(ExprErrorKind::TooLarge, message));
    }
    Ok(())
}

struct Binder<'b> {
    catalog: &'b Catalog,
    audiences: &'b BTreeMap<String, Audience>,
    now: i64,
    /// Audiences being expanded, outermost first.
    open: Vec<String>,
    /// Audiences expanded before, and how deep they are.
    known: BTreeMap<String, (Predicate, usize)>,
    /// How many XORs stand around what is bound now.
    within_xor: usize,
    /// How much of anything does, audiences and what stands around them counted.
    depth: usize,
}

type Bound = Result<Predicate, ExprError>;

impl Binder<'_> {
    /// The users for whom `expr` is `wanted`.
    fn bind(&mut self, expr: &Expr, wanted: bool) -> Bound {
        self.depth += 1;
        let bound = self.check_depth(0).and_then(|()| self.kind(expr, wanted));
        self.depth -= 1;
        bound.map_err(|error| if self.open.is_empty() { error.at(expr.span) } else { error })
    }

    /// Whether something so deep may stand here.
    fn check_depth(&self, depth: usize) -> Result<(), ExprError> {
        if self.depth + depth <= PREDICATE_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("with its audiences expanded the expression is more than {PREDICATE_DEPTH_MAX} deep");
        Err(ExprError::new(ExprErrorKind::TooLarge, message)
            .suggest("keep the members of an inner audience as a list, or write conditions side by side"))
    }

    fn kind(&mut self, expr: &Expr, wanted: bool) -> Bound {
        let settled = |predicate: Predicate| Ok(if wanted { predicate } else { predicate.negate() });
        match &expr.kind {
            ExprKind::Literal(value) => settled(if *value { Predicate::All } else { Predicate::Nobody }),
            ExprKind::Not(of) => self.bind(of, !wanted),
            ExprKind::And(of) | ExprKind::Or(of) => {
                let bound: Result<Vec<_>, _> = of.iter().map(|operand| self.bind(operand, wanted)).collect();
                let all = matches!(expr.kind, ExprKind::And(_)) == wanted;
                Ok(if all { Predicate::And(bound?) } else { Predicate::Or(bound?) })
            }
            ExprKind::Xor(a, b) => self.xor(a, b, wanted),
            ExprKind::AtLeast { k, of } => {
                let bound: Result<Vec<_>, _> = of.iter().map(|operand| self.bind(operand, true)).collect();
                settled(Predicate::AtLeast(*k, bound?))
            }
            ExprKind::UserIn { ids, negated } => {
                let listed = Predicate::Users(ids.clone());
                settled(if *negated { listed.negate() } else { listed })
            }
            ExprKind::InAudience(name) => settled(self.audience(name)?),
            ExprKind::Did(did) => settled(did::bind(did, self.catalog, self.now)?),
            ExprKind::SimilarTo(similar) => settled(self.similar(similar)?),
            ExprKind::Flag(name) => match self.tag(name)?.tag_type {
                TagType::Flag => settled(Predicate::Flag(self.tag(name)?.id)),
                other => {
                    Err(type_error(format!("`{name}` is a {other}, not a condition")).suggest(example(name, other)))
                }
            },
            ExprKind::IsNull { tag, negated } => {
                let known = match self.tag(tag)? {
                    Tag { id, tag_type: TagType::Enum | TagType::Number(_) } => Predicate::Known(*id),
                    // A set is never NULL, only empty, and a flag is never unknown.
                    Tag { tag_type: TagType::Set | TagType::Flag, .. } => Predicate::All,
                };
                settled(if *negated { known } else { known.negate() })
            }
            ExprKind::Compare { tag, op, value } => self.compare(tag, *op, value, wanted),
            ExprKind::In { tag, values, negated } => self.is_in(tag, values, wanted != *negated),
            ExprKind::Between { tag, low, high, negated } => self.between(tag, low, high, wanted != *negated),
        }
    }

    /// Binds both sides both ways, so nested ones cost two to the power of their depth.
    fn xor(&mut self, a: &Expr, b: &Expr, wanted: bool) -> Bound {
        if self.within_xor >= XOR_DEPTH_MAX {
            let message = format!("XOR stands more than {XOR_DEPTH_MAX} deep within XOR");
            return Err(ExprError::new(ExprErrorKind::TooLarge, message));
        }
        self.within_xor += 1;
        let bound = self.xor_sides(a, b, wanted);
        self.within_xor -= 1;
        bound
    }

    fn xor_sides(&mut self, a: &Expr, b: &Expr, wanted: bool) -> Bound {
        let (a_true, a_false) = (self.bind(a, true)?, self.bind(a, false)?);
        let (b_true, b_false) = (self.bind(b, true)?, self.bind(b, false)?);
        if a_true.clone().negate().canonical() == a_false.clone().canonical()
            && b_true.clone().negate().canonical() == b_false.clone().canonical()
        {
            let xor = Predicate::Xor(Box::new(a_true), Box::new(b_true));
            return Ok(if wanted { xor } else { xor.negate() });
        }
        let both = |x: &Predicate, y: &Predicate| Predicate::And(vec![x.clone(), y.clone()]);
        let (first, second) = if wanted {
            (both(&a_true, &b_false), both(&a_false, &b_true))
        } else {
            (both(&a_true, &b_true), both(&a_false, &b_false))
        };
        let either = Predicate::Or(vec![first, second]);
        check_size(&either)?;
        Ok(either)
    }

    fn tag(&self, name: &str) -> Result<&Tag, ExprError> {
        self.catalog.tag(name).ok_or_else(|| {
            let error = ExprError::new(ExprErrorKind::UnknownTag, format!("unknown tag `{name}`"));
            if name == "user_id" {
                return error.suggest("write user_id IN ('…')");
            }
            match closest(name, self.catalog.tags().map(|(known, _)| known)) {
                Some(near) => error.suggest(format!("did you mean `{near}`?")),
                None => error.suggest("declare it in the catalog first"),
            }
        })
    }

    fn compare(&self, name: &str, op: CompareOp, value: &Literal, wanted: bool) -> Bound {
        let tag = *self.tag(name)?;
        let equality = match op {
            CompareOp::Equal | CompareOp::IsNotDistinctFrom => Some(true),
            CompareOp::NotEqual | CompareOp::IsDistinctFrom => Some(false),
            _ => None,
        };
        let distinct = matches!(op, CompareOp::IsDistinctFrom | CompareOp::IsNotDistinctFrom);
        match (tag.tag_type, equality) {
            (TagType::Number(unit), _) => {
                let exact = number(name, unit, value)?;
                let within = Predicate::InRange(tag.id, range_of(op, exact));
                let wanted = wanted == equality.unwrap_or(true);
                Ok(if distinct { two_valued(within, wanted) } else { three_valued(tag, within, wanted) })
            }
            (TagType::Flag, Some(equal)) => match value {
                Literal::Bool(value) => Ok(two_valued(Predicate::Flag(tag.id), (wanted == equal) == *value)),
                _ => Err(type_error(format!("`{name}` is a flag")).suggest(format!("write {name} = TRUE or {name}"))),
            },
            (TagType::Enum | TagType::Set, Some(equal)) => {
                let has = Predicate::HasAny(tag.id, vec![text(name, tag.tag_type, value)?]);
                let wanted = wanted == equal;
                Ok(if distinct { two_valued(has, wanted) } else { three_valued(tag, has, wanted) })
            }
            (other, None) => {
                Err(type_error(format!("`{name}` is a {other}: its values have no order"))
                    .suggest(example(name, other)))
            }
        }
    }

    fn is_in(&self, name: &str, values: &[Literal], wanted: bool) -> Bound {
        let tag = *self.tag(name)?;
        let any = match tag.tag_type {
            TagType::Enum | TagType::Set => {
                let values: Result<Vec<_>, _> = values.iter().map(|value| text(name, tag.tag_type, value)).collect();
                Predicate::HasAny(tag.id, values?)
            }
            TagType::Number(unit) => {
                let ranges: Result<Vec<_>, _> = values
                    .iter()
                    .map(|value| Ok(Predicate::InRange(tag.id, number(name, unit, value)?.equal())))
                    .collect();
                Predicate::Or(ranges?)
            }
            TagType::Flag => {
                return Err(type_error(format!("`{name}` is a flag")).suggest(format!("write {name} or NOT {name}")));
            }
        };
        Ok(three_valued(tag, any, wanted))
    }

    fn between(&self, name: &str, low: &Literal, high: &Literal, wanted: bool) -> Bound {
        let tag = *self.tag(name)?;
        let TagType::Number(unit) = tag.tag_type else {
            let error = type_error(format!("`{name}` is a {}: its values have no order", tag.tag_type));
            return Err(error.suggest(example(name, tag.tag_type)));
        };
        let (above, below) = (number(name, unit, low)?.above(true), number(name, unit, high)?.below(true));
        let range = if above.is_empty() || below.is_empty() {
            NumberRange { min: 1, max: 0 }
        } else {
            NumberRange { min: above.min, max: below.max }
        };
        Ok(three_valued(tag, Predicate::InRange(tag.id, range), wanted))
    }

    fn audience(&mut self, name: &str) -> Bound {
        if let Some((known, depth)) = self.known.get(name) {
            self.check_depth(*depth)?;
            return Ok(known.clone());
        }
        if let Some(from) = self.open.iter().position(|open| open == name) {
            let cycle: Vec<&str> = self.open[from..].iter().map(String::as_str).chain([name]).collect();
            let message = format!("audience `{name}` contains itself: {}", cycle.join(" → "));
            return Err(ExprError::new(ExprErrorKind::Cycle, message));
        }
        if self.open.len() >= AUDIENCE_DEPTH_MAX {
            let message = format!("audiences stand more than {AUDIENCE_DEPTH_MAX} deep within audiences");
            return Err(ExprError::new(ExprErrorKind::TooLarge, message));
        }
        let Some(audience) = self.audiences.get(name) else {
            let error = ExprError::new(ExprErrorKind::UnknownAudience, format!("unknown audience '{name}'"));
            return Err(match closest(name, self.audiences.keys().map(String::as_str)) {
                Some(near) => error.suggest(format!("did you mean '{near}'?")),
                None => error.suggest("save it first"),
            });
        };
        let bound = match &audience.definition {
            Definition::Uploaded { list_id, .. } => Predicate::Listed(list_id.clone()),
            Definition::Expression(definition) | Definition::Live { expression: definition, .. } => {
                self.open.push(name.to_owned());
                let bound = self.definition(name, definition);
                self.open.pop();
                bound?
            }
        };
        self.known.insert(name.to_owned(), (bound.clone(), bound.depth()));
        Ok(bound)
    }

    fn definition(&mut self, name: &str, definition: &str) -> Bound {
        let within = |error: ExprError| match error.kind {
            ExprErrorKind::Cycle | ExprErrorKind::TooLarge => ExprError { span: None, ..error },
            _ => ExprError { message: format!("in audience '{name}': {}", error.message), span: None, ..error },
        };
        let expr = super::parse(definition).map_err(within)?;
        let bound = self.bind(&expr, true).map_err(within)?.canonical();
        check_size(&bound)?;
        Ok(bound)
    }
}

/// The parser goes down three levels for each that there may be of parentheses, and none of them is two of an expression.
const _: () = assert!(EXPRESSION_DEPTH_MAX * 3 < PREDICATE_DEPTH_MAX);

fn two_valued(predicate: Predicate, wanted: bool) -> Predicate {
    if wanted { predicate } else { predicate.negate() }
}

/// A leaf of `tag`: where it is not true it is false only for users who have the tag, if the tag can be NULL.
fn three_valued(tag: Tag, predicate: Predicate, wanted: bool) -> Predicate {
    match tag.tag_type {
        _ if wanted => predicate,
        TagType::Set | TagType::Flag => predicate.negate(),
        TagType::Enum | TagType::Number(_) => Predicate::And(vec![Predicate::Known(tag.id), predicate.negate()]),
    }
}

fn type_error(message: String) -> ExprError {
    ExprError::new(ExprErrorKind::Type, message)
}

/// A condition that a tag of this type can stand in.
fn example(name: &str, tag_type: TagType) -> String {
    match tag_type {
        TagType::Set | TagType::Enum => format!("write {name} = 'value' or {name} IN ('a', 'b')"),
        TagType::Flag => format!("write {name} or NOT {name}"),
        TagType::Number(Unit::Timestamp) => format!("write {name} >= '2026-01-31'"),
        TagType::Number(_) => format!("write {name} >= 10 or {name} BETWEEN 10 AND 20"),
    }
}

fn text(name: &str, tag_type: TagType, value: &Literal) -> Result<String, ExprError> {
    match value {
        Literal::Text(text) => Ok(text.clone()),
        // A number is written without quotes by habit; as a value of a text tag it can only mean its text.
        other => {
            Err(type_error(format!("`{name}` is a {tag_type}: its values are text"))
                .suggest(format!("write '{other}'")))
        }
    }
}

/// The numbers that compare so with a literal; those equal to it for (in)equality.
fn range_of(op: CompareOp, exact: Exact) -> NumberRange {
    match op {
        CompareOp::Less => exact.below(false),
        CompareOp::LessOrEqual => exact.below(true),
        CompareOp::Greater => exact.above(false),
        CompareOp::GreaterOrEqual => exact.above(true),
        _ => exact.equal(),
    }
}

fn number(name: &str, unit: Unit, value: &Literal) -> Result<Exact, ExprError> {
    let exact = match (unit, value) {
        (Unit::Integer, Literal::Number(digits)) => literal::decimal(digits, 0),
        (Unit::Decimal { scale }, Literal::Number(digits)) => literal::decimal(digits, scale),
        (Unit::Timestamp, Literal::Text(text)) => {
            return literal::timestamp(text).ok_or_else(|| {
                ExprError::new(ExprErrorKind::Value, format!("'{text}' is not a time"))
                    .suggest("write '2026-11-20' or '2026-11-20T10:00:00Z'")
            });
        }
        (Unit::Timestamp, other) => {
            let error = type_error(format!("`{name}` is a time, {other} is not"));
            return Err(error.suggest("write '2026-11-20' or '2026-11-20T10:00:00Z'"));
        }
        (_, other) => {
            let error = type_error(format!("`{name}` is a number, {other} is not"));
            return Err(error.suggest("write a number without quotes"));
        }
    };
    exact.ok_or_else(|| ExprError::new(ExprErrorKind::Value, format!("{value} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::{naive, parse};
    use proptest::prelude::*;

    fn audiences(definitions: &[(&str, &str)]) -> BTreeMap<String, Audience> {
        let audience = |text: &str| Audience {
            definition: Definition::Expression(text.to_owned()),
            description: String::new(),
            changed_at: 0,
        };
        definitions.iter().map(|(name, text)| ((*name).to_owned(), audience(text))).collect()
    }

    fn refused(text: &str, definitions: &[(&str, &str)]) -> String {
        let expr = parse(text).expect("parses");
        let error = bind(&expr, &naive::sample_catalog(), &audiences(definitions), naive::NOW).expect_err(text);
        let place = error.span.map(|span| format!(" [{}]", &text[span.start..span.end])).unwrap_or_default();
        format!("{error}{place}")
    }

    #[test]
    fn errors_say_what_where_and_what_instead() {
        assert_eq!(refused("TRUE AND gendr = 'f'", &[]), "unknown tag `gendr`; did you mean `gender`? [gendr = 'f']");
        assert_eq!(
            refused("gender > 'f'", &[]),
            "`gender` is a enum: its values have no order; write gender = 'value' or gender IN ('a', 'b') [gender > 'f']"
        );
        assert_eq!(
            refused("age = 'x'", &[]),
            "`age` is a number, 'x' is not; write a number without quotes [age = 'x']"
        );
        assert_eq!(
            refused("seen_at > 'noon'", &[]),
            "'noon' is not a time; write '2026-11-20' or '2026-11-20T10:00:00Z' [seen_at > 'noon']"
        );
        assert_eq!(
            refused("gender", &[]),
            "`gender` is a enum, not a condition; write gender = 'value' or gender IN ('a', 'b') [gender]"
        );
        assert_eq!(refused("city = 7", &[]), "`city` is a enum: its values are text; write '7' [city = 7]");
        assert_eq!(
            refused("in_audience('vip')", &[("vips", "member")]),
            "unknown audience 'vip'; did you mean 'vips'? [in_audience('vip')]"
        );
    }

    #[test]
    fn a_long_list_in_a_searched_condition_is_one_look_up() {
        let numbers: Vec<String> = (0..20_000).map(|number| format!("{}", number * 3)).collect();
        for (column, values) in
            [("amount", numbers.join(",")), ("undeclared.shop", format!("'{}'", numbers.join("','")))]
        {
            for not in ["", "NOT "] {
                let text = format!("did('purchase', {column} {not}IN ({values}))");
                let bound =
                    bind(&parse(&text).expect("parses"), &naive::sample_catalog(), &BTreeMap::new(), naive::NOW);
                let bound = bound.unwrap_or_else(|error| panic!("{column} {not}: {error}"));
                let Predicate::Scan(scan) = &bound else { panic!("a scan: {column} {not}") };
                assert!(scan.condition.node_count() <= 4, "{column} {not}");
            }
        }
    }

    #[test]
    fn a_search_with_too_much_in_it_is_refused() {
        let either = |count: usize| {
            let all: Vec<String> = (0..count).map(|number| format!("amount > {number}")).collect();
            format!("did('purchase', {})", all.join(" OR "))
        };
        let catalog = naive::sample_catalog();
        assert!(bind(&parse(&either(499)).expect("parses"), &catalog, &BTreeMap::new(), naive::NOW).is_ok());
        assert!(
            refused(&either(500), &[]).starts_with("the conditions on events of `purchase` are 501, and may be 500;")
        );
        let days = vec!["'2026-11-01'"; 1_000].join(", ");
        assert!(refused(&format!("did('purchase', ts NOT IN ({days}))"), &[]).contains("may be 500"));
        let figures = |count: usize| format!("did('purchase', {})", vec!["count >= 2"; count].join(", "));
        assert!(bind(&parse(&figures(16)).expect("parses"), &catalog, &BTreeMap::new(), naive::NOW).is_ok());
        assert!(refused(&figures(17), &[]).starts_with("did(…) tests 17 figures, and may test 16; join several"));
    }

    #[test]
    fn an_instant_that_clocks_show_twice_is_searched() {
        // At one o'clock back to midnight.
        let change = naive::NOW / 86_400_000_000 * 86_400 - 10 * 86_400;
        let mut fact = naive::sample_catalog().fact("purchase").expect("declared").clone();
        fact.zone = crate::catalog::Zone::new("Test/Back", 3_600, vec![(change, 0)]);
        let mut catalog = Catalog::default();
        catalog.declare_fact("purchase", fact).expect("a fact");
        let needs_scan = |hours: i64| {
            let at = crate::behavior::calendar::Date::of((change / 3_600 + hours).div_euclid(24));
            let text = format!("did('purchase', ts >= '{at}T{:02}:00:00Z')", (change / 3_600 + hours).rem_euclid(24));
            bind(&parse(&text).expect("parses"), &catalog, &BTreeMap::new(), naive::NOW).expect("binds").needs_scan()
        };
        assert!(needs_scan(0), "the second midnight");
        assert!(!needs_scan(-1) && !needs_scan(24));
    }

    #[test]
    fn months_of_an_exact_window_are_those_of_the_facts_clocks() {
        const HOUR: i64 = 3_600_000_000;
        let at = |text: &str| literal::timestamp(text).and_then(|exact| exact.number()).expect("a time");
        let mut fact = naive::sample_catalog().fact("purchase").expect("declared").clone();
        // Two hours before UTC, and one from November on.
        fact.zone =
            crate::catalog::Zone::new("Test/Back", 7_200, vec![(at("2026-11-01T00:00:00Z") / 1_000_000, 3_600)]);
        let now = at("2026-11-20T10:30:00Z");
        let month = instants_within("1 month", &fact, now).expect("a length");
        assert_eq!((month.min - 1, month.max), (at("2026-10-20T09:30:00Z"), now));
        let days = instants_within("31 days", &fact, now).expect("a length");
        assert_eq!(days.min - 1, now - 31 * 24 * HOUR);
        assert!(instants_within("100000 years", &fact, now).expect("a length").min < at("0001-01-01T00:00:00Z"));
        let error = instants_within("soon", &fact, now).expect_err("no length");
        assert!(error.to_string().contains("'soon' is not a length of time"), "{error}");
    }

    #[test]
    fn audiences_expand_and_cycles_are_named() {
        let definitions = [("a", "in_audience('b') AND member"), ("b", "age > 30")];
        let bound = |text: &str| {
            bind(&parse(text).expect("parses"), &naive::sample_catalog(), &audiences(&definitions), naive::NOW)
                .expect("binds")
        };
        assert_eq!(bound("in_audience('a')"), bound("member AND age > 30"));
        assert_eq!(bound("NOT in_audience('b')"), bound("age > 30").negate(), "an audience is never NULL");
        let cycle = [("a", "in_audience('b')"), ("b", "in_audience('c')"), ("c", "NOT in_audience('b')")];
        assert_eq!(refused("in_audience('a')", &cycle), "audience `b` contains itself: b → c → b [in_audience('a')]");
        assert_eq!(
            refused("in_audience('x')", &[("x", "agee = 1")]),
            "in audience 'x': unknown tag `agee`; did you mean `age`? [in_audience('x')]"
        );
    }

    /// Audiences of as many levels each, the outermost last.
    fn nested(count: usize, open: &str, levels: usize) -> BTreeMap<String, Audience> {
        let definition = |at: usize| {
            let inner = if at == 0 { "member".to_owned() } else { format!("in_audience('x{}')", at - 1) };
            (format!("x{at}"), format!("{}{inner}{}", open.repeat(levels), ")".repeat(levels)))
        };
        let definitions: Vec<(String, String)> = (0..count).map(definition).collect();
        let borrowed: Vec<(&str, &str)> =
            definitions.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        audiences(&borrowed)
    }

    /// What can be asked at all, however deep, is bound, brought in canonical form and dropped on the stack of a usual thread.
    #[test]
    fn depth_is_counted_across_audiences() {
        let catalog = naive::sample_catalog();
        let bound = |text: &str, audiences: &BTreeMap<String, Audience>| {
            bind(&parse(text).expect("parses"), &catalog, audiences, naive::NOW)
        };
        let too_deep = |bound: Bound| {
            let error = bound.expect_err("too deep");
            assert_eq!(error.kind, ExprErrorKind::TooLarge);
            assert_eq!(
                error.to_string(),
                "with its audiences expanded the expression is more than 400 deep; keep the members of an inner audience as a \
                 list, or write conditions side by side"
            );
        };
        let opens = [("NOT (", 1, 120), ("age = 3 OR NOT (", 2, 120), ("age = 3 OR city = 'x' AND NOT (", 3, 90)];
        for (open, per_level, levels) in opens {
            let alone = format!("{}member{}", open.repeat(levels), ")".repeat(levels));
            assert!(bound(&alone, &BTreeMap::new()).is_ok(), "{open}");
            let audiences = nested(AUDIENCE_DEPTH_MAX, open, 24 / per_level);
            // Each is so deep, and its name one more.
            let fit = (PREDICATE_DEPTH_MAX - 1) / 25;
            for at in 0..AUDIENCE_DEPTH_MAX {
                let told = bound(&format!("in_audience('x{at}')"), &audiences);
                if at < fit { assert!(told.is_ok(), "{open} {at}: {told:?}") } else { too_deep(told) }
            }
            // What was opened up before is as deep as it was.
            let last = fit - 1;
            let around = |levels: usize| {
                format!("in_audience('x{last}') OR {}in_audience('x{last}'){}", open.repeat(levels), ")".repeat(levels))
            };
            assert!(bound(&around(0), &audiences).is_ok());
            if per_level == 2 {
                too_deep(bound(&around(levels), &audiences));
            }
        }
        let audiences = nested(AUDIENCE_DEPTH_MAX, "age = 3 OR NOT (", 120);
        for at in 1..AUDIENCE_DEPTH_MAX {
            too_deep(bound(&format!("in_audience('x{at}')"), &audiences));
        }
    }

    #[test]
    fn literals_between_two_numbers_round_rightly() {
        let bound = |text: &str| {
            bind(&parse(text).expect("parses"), &naive::sample_catalog(), &BTreeMap::new(), naive::NOW).expect("binds")
        };
        assert_eq!(bound("age > 30.5"), bound("age >= 31"));
        assert_eq!(bound("age < 30.5"), bound("age <= 30"));
        assert_eq!(bound("age = 30.5"), Predicate::Nobody);
        assert_eq!(bound("spend = 1.005"), Predicate::Nobody);
        assert_eq!(bound("age <= 99999999999999999999"), bound("age IS NOT NULL"));
        assert_eq!(bound("age BETWEEN 5 AND 3"), Predicate::Nobody);
        assert_eq!(bound("age > 3 AND age < 6"), bound("age BETWEEN 4 AND 5"));
        assert_eq!(bound("age IN (3, 4, 5) OR age = 6"), bound("age BETWEEN 3 AND 6"));
        assert_eq!(bound("gender = 'f' OR gender IN ('m', 'f')"), bound("gender IN ('f', 'm')"));
        let merged = "interest = 'a' OR interest = 'b' OR NOT interest IN ('a', 'b')";
        assert_eq!(bound(merged), Predicate::All, "what merging made is seen to be a complement");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

        #[test]
        fn binding_and_canonical_form_keep_the_meaning(seed in any::<u64>()) {
            let mut random = naive::Random::new(seed);
            let catalog = naive::sample_catalog();
            let definitions = audiences(&[("kept", "age > 20 OR gender <> 'f'"), ("nested", "NOT in_audience('kept') AND member")]);
            let expr = random.expression(4);
            let printed = expr.to_string();
            prop_assert_eq!(&parse(&printed).expect("canonical text parses"), &expr, "{}", printed);
            let bound = bind(&expr, &catalog, &definitions, naive::NOW).unwrap_or_else(|error| panic!("{printed}: {error}"));
            prop_assert_eq!(&bound.clone().canonical(), &bound, "canonical form is stable: {}", printed);
            for _ in 0..40 {
                let user = random.user();
                let expected = naive::truth(&expr, &user, &definitions) == Some(true);
                prop_assert_eq!(naive::fits(&bound, &user, &catalog), expected, "{} on {:?}", printed, user);
                let negated = bind(&ExprKind::Not(Box::new(expr.clone())).into(), &catalog, &definitions, naive::NOW).expect("binds");
                let expected = naive::truth(&expr, &user, &definitions) == Some(false);
                prop_assert_eq!(naive::fits(&negated, &user, &catalog), expected, "NOT ({}) on {:?}", printed, user);
            }
        }
    }
}
