//! Several conditions that ask one column for texts, told by one look at it: which of them a row fulfils, as bits.

use super::condition::row_function;
use arrow::array::{Array, AsArray, StringArray, UInt32Array};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::prelude::ident;
use engine::audience::scan::EventCondition;
use engine::behavior::Window;
use engine::catalog::Fact;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// So many texts are compared one by one; more are looked up.
const COMPARED_MAX: usize = 8;

/// A condition: its number, when, and what is asked.
pub(super) type Condition = (usize, Window, EventCondition);

/// The conditions of a scan, sorted by how they are told.
pub(super) struct Conditions<'s> {
    /// By column the texts that are asked for, with a bit for the number of each condition that asks for it.
    texts: BTreeMap<u16, BTreeMap<&'s str, u32>>,
    /// Those that are told each for itself.
    pub(super) others: Vec<&'s Condition>,
}

impl<'s> Conditions<'s> {
    /// Sorts them. Where all have one window, that is asked of the row, and not of each condition.
    pub(super) fn of(all: &'s [Condition]) -> Conditions<'s> {
        let have_one_window = all.iter().all(|(_, window, _)| *window == all[0].1);
        let mut conditions = Conditions { texts: BTreeMap::new(), others: Vec::new() };
        for condition in all {
            match &condition.2 {
                EventCondition::TextIn(field, texts)
                    if have_one_window && field.column().is_some() && condition.0 < u32::BITS as usize =>
                {
                    let of_column = conditions.texts.entry(field.column().unwrap_or_default()).or_default();
                    texts.iter().for_each(|text| *of_column.entry(text.as_str()).or_default() |= 1 << condition.0);
                }
                _ => conditions.others.push(condition),
            }
        }
        conditions
    }

    /// How many columns of bits there are.
    pub(super) fn column_count(&self) -> usize {
        self.texts.len()
    }

    /// The bits, one expression for each column. Never NULL.
    pub(super) fn bits(&self, fact: &Fact) -> Vec<Expr> {
        let of_column = |(column, texts): (&u16, &BTreeMap<&str, u32>)| {
            let texts = Texts::new(texts.iter().map(|(text, bits)| (Box::from(*text), *bits)).collect());
            let function = move |arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let Some(values) = arrays.first().and_then(|array| array.as_string_opt::<i32>()) else {
                    return exec_err!("a column of texts has other values");
                };
                Ok(ColumnarValue::Array(Arc::new(texts.bits_of_each(values))))
            };
            let test = row_function("texts", vec![DataType::Utf8], DataType::UInt32, function);
            test.call(vec![ident(&fact.columns[usize::from(*column)].name)])
        };
        self.texts.iter().map(of_column).collect()
    }
}

/// Texts, each with some bits.
enum Texts {
    Few(Vec<(Box<str>, u32)>),
    Many(HashMap<Box<str>, u32>),
}

impl Texts {
    fn new(texts: Vec<(Box<str>, u32)>) -> Texts {
        if texts.len() <= COMPARED_MAX { Texts::Few(texts) } else { Texts::Many(texts.into_iter().collect()) }
    }

    fn bits_of_each(&self, values: &StringArray) -> UInt32Array {
        match self {
            Texts::Few(texts) => bits_of_each(values, |value| {
                texts.iter().find(|(text, _)| **text == *value).map_or(0, |(_, bits)| *bits)
            }),
            Texts::Many(texts) => bits_of_each(values, |value| texts.get(value).copied().unwrap_or(0)),
        }
    }
}

fn bits_of_each(values: &StringArray, bits: impl Fn(&str) -> u32) -> UInt32Array {
    let told: Vec<u32> = match values.null_count() {
        0 => (0..values.len()).map(|row| bits(values.value(row))).collect(),
        _ => values.iter().map(|value| value.map_or(0, &bits)).collect(),
    };
    told.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::audience::scan::EventField;

    #[test]
    fn conditions_that_ask_for_texts_are_told_together() {
        let texts = |texts: &[&str]| {
            EventCondition::TextIn(EventField::Column(3), texts.iter().map(|text| (*text).to_owned()).collect())
        };
        let all = [
            (0, Window::ALL, texts(&["a", "b"])),
            (1, Window::ALL, EventCondition::Any),
            (2, Window::ALL, texts(&["b"])),
        ];
        let conditions = Conditions::of(&all);
        assert_eq!(conditions.texts, BTreeMap::from([(3, BTreeMap::from([("a", 0b1), ("b", 0b101)]))]));
        assert_eq!(conditions.others, [&all[1]]);
        // A condition with another window asks for more than a text.
        let all = [(0, Window::ALL, texts(&["a"])), (1, Window { from: 0, ..Window::ALL }, texts(&["b"]))];
        assert_eq!(Conditions::of(&all).others.len(), 2);
    }

    #[test]
    fn few_texts_and_many_are_told_alike() {
        let names: Vec<String> = (0..20).map(|number| format!("{}{number}", "x".repeat(number % 5))).collect();
        let values = StringArray::from_iter(names.iter().map(Some).chain([None, Some(&String::new())]));
        for count in [1, COMPARED_MAX, COMPARED_MAX + 1, 20] {
            let texts = names[..count].iter().zip(1..).map(|(name, bits)| (Box::from(name.as_str()), bits));
            let told = Texts::new(texts.collect()).bits_of_each(&values);
            let wanted: Vec<u32> = (1..=20).map(|at| if at <= count as u32 { at } else { 0 }).chain([0, 0]).collect();
            assert_eq!(told.values().as_ref(), wanted);
        }
    }
}
