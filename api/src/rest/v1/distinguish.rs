//! What sets an audience apart from the rest of a baseline, each thing as an expression: a part of the answers of `POST /v1/profile` and
//! `POST /v1/lookalike`.

use super::number::Number;
use super::profile::{index, share};
use crate::error::Failure;
use engine::audience::expr::{CompareOp, Expr, ExprKind, Literal};
use engine::audience::ops::Profile;
use engine::audience::ops::profile::{Distinguishing, Saying};
use engine::catalog::{Catalog, TagType, Unit};
use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// The longest list of what distinguishes.
pub const DISTINGUISH_MAX: usize = 1_000;
/// How much is told when `true` asks for it.
pub const DISTINGUISH_DEFAULT: usize = 20;

/// How much to tell of what distinguishes: `true`, or how many things at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distinguish(pub usize);

impl Distinguish {
    /// How many are asked for.
    ///
    /// # Errors
    /// [`Failure`] if they are too many.
    pub fn limit(self) -> Result<usize, Failure> {
        if self.0 > DISTINGUISH_MAX {
            return Err(Failure::field("/distinguish", format!("`distinguish` is at most {DISTINGUISH_MAX}")));
        }
        Ok(self.0)
    }

    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl utoipa::PartialSchema for Distinguish {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let some = ObjectBuilder::new().schema_type(Type::Boolean).description(Some("The first 20, or nothing"));
        let count = ObjectBuilder::new().schema_type(Type::Integer).description(Some("At most so many, up to 1,000"));
        OneOfBuilder::new().item(some).item(count).into()
    }
}

impl utoipa::ToSchema for Distinguish {}

impl Serialize for Distinguish {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

impl<'de> Deserialize<'de> for Distinguish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrCount;
        impl Visitor<'_> for FlagOrCount {
            type Value = Distinguish;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, or how many things to tell")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Distinguish, E> {
                Ok(Distinguish(if value { DISTINGUISH_DEFAULT } else { 0 }))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Distinguish, E> {
                Ok(Distinguish(usize::try_from(value).unwrap_or(usize::MAX)))
            }
        }
        deserializer.deserialize_any(FlagOrCount)
    }
}

/// One thing that is true of an audience more often, or less often, than of the rest of the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DistinguishingAnswer {
    /// It, in the audience language: `interest = 'yoga'`, `age <= 29`.
    pub expression: String,
    /// The tag it is about.
    pub tag: String,
    /// Members of whom it is true.
    pub count: u64,
    /// `count` over all members.
    pub share: f64,
    /// Baseline members of whom it is true.
    pub baseline_count: u64,
    /// `baseline_count` over all baseline members.
    pub baseline_share: f64,
    /// 100 × share / baseline share.
    pub index: Option<f64>,
    /// How likely chance makes a difference as large.
    pub p_value: f64,
    /// The same, corrected for the number of things that were looked at; at most 0.05.
    pub q_value: f64,
    /// How far apart audience and rest are at least, as Cohen's h; below 0 if it is less frequent in the audience. The list is
    /// ordered by this, whatever its sign.
    pub distinction: f64,
}

/// The first things that distinguish the audience of a profile.
pub(super) fn distinguishing(catalog: &Catalog, profile: &Profile, limit: usize) -> Vec<DistinguishingAnswer> {
    let sizes = [profile.count, profile.baseline_count];
    let all = profile.distinguishing().into_iter();
    all.filter_map(|thing| of(catalog, thing, sizes)).take(limit).collect()
}

/// `None` if the tag is no more.
fn of(catalog: &Catalog, thing: Distinguishing, [size, baseline_size]: [u64; 2]) -> Option<DistinguishingAnswer> {
    let tag = catalog.name_of(thing.tag)?;
    let (share, baseline_share) = (share(thing.count, size), share(thing.baseline_count, baseline_size));
    Some(DistinguishingAnswer {
        expression: expression(tag, catalog.tag(tag)?.tag_type, thing.is).to_string(),
        tag: tag.to_owned(),
        count: thing.count,
        share,
        baseline_count: thing.baseline_count,
        baseline_share,
        index: index(share, baseline_share),
        p_value: thing.difference.p_value,
        q_value: thing.difference.q_value,
        distinction: thing.difference.distinction,
    })
}

fn expression(tag: &str, tag_type: TagType, is: Saying) -> Expr {
    let compare = |op, value| ExprKind::Compare { tag: tag.to_owned(), op, value };
    let number = |at: i64| match tag_type {
        TagType::Number(Unit::Timestamp) => Literal::Text(Number::of(Unit::Timestamp, at.into()).to_string()),
        TagType::Number(unit) => Literal::Number(Number::of(unit, at.into()).to_string()),
        _ => Literal::Number(at.to_string()),
    };
    let kind = match is {
        Saying::Value(_) if tag_type == TagType::Flag => ExprKind::Flag(tag.to_owned()),
        Saying::Value(value) => compare(CompareOp::Equal, Literal::Text(value)),
        Saying::AtMost(at) => compare(CompareOp::LessOrEqual, number(at)),
        Saying::Above(at) => compare(CompareOp::Greater, number(at)),
    };
    kind.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_by_a_flag_or_a_number() {
        let read = |text: &str| serde_json::from_str::<Distinguish>(text);
        let limits: Vec<_> = ["true", "false", "0", "7"].iter().map(|text| read(text).expect("valid").0).collect();
        assert_eq!(limits, [DISTINGUISH_DEFAULT, 0, 0, 7]);
        for wrong in ["-1", "\"many\"", "1.5", "null"] {
            let told = read(wrong).expect_err("not taken").to_string();
            assert!(told.contains("true, or how many"), "{wrong}: {told}");
        }
        assert!(Distinguish(DISTINGUISH_MAX + 1).limit().is_err());
    }

    #[test]
    fn what_is_said_is_an_expression() {
        let said = |tag_type, is| expression("t", tag_type, is).to_string();
        let cents = TagType::Number(Unit::Decimal { scale: 2 });
        assert_eq!(said(TagType::Flag, Saying::Value("true".into())), "t");
        assert_eq!(said(TagType::Set, Saying::Value("it's".into())), "t = 'it''s'");
        assert_eq!(said(cents, Saying::AtMost(-5)), "t <= -0.05");
        assert_eq!(said(TagType::Number(Unit::Timestamp), Saying::Above(0)), "t > '1970-01-01T00:00:00Z'");
    }
}
