//! Vectors of who bought what, as a backfill job would make them of the same purchases: an item is a category bought by way of a
//! channel, and counts how often it was bought.

use super::files::write_parquet;
use super::person::user_id;
use super::purchases::{History, Purchase};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use engine::lookalike::factors::sample::{ENTRIES_MAX, Sample};
use engine::lookalike::factors::{Deal, FactorError, Factors, Setting};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the purchases of a history have in common.
#[derive(Debug)]
pub struct Tastes {
    history: History,
    dimension: usize,
    factors: Factors,
}

/// A user's number, and the user's vector.
type Row = (u64, Vec<f32>);

impl Tastes {
    /// Learns them from all purchases.
    ///
    /// # Errors
    /// [`FactorError`] if so few were bought that they do not carry so many numbers.
    pub fn learn(history: History, dimension: usize) -> Result<Tastes, FactorError> {
        let random_seed = history.population.seed;
        let mut sample = Sample::new(ENTRIES_MAX, random_seed);
        for index in 0..history.count {
            let purchase = Purchase::of(&history.population, index);
            sample.add(&user_id(purchase.user), item(&purchase).as_bytes(), 1.0);
        }
        let setting = Setting { dimension, random_seed, cancelled: &AtomicBool::new(false) };
        Ok(Tastes { history, dimension, factors: Factors::learn(&setting, sample)? })
    }

    /// The vectors of those users of a range who bought something.
    fn rows(&self, users: &Range<u64>) -> Vec<Row> {
        let population = &self.history.population;
        let bought = (0..self.history.count).filter(|index| users.contains(&Purchase::user_of(population, *index)));
        let mut deals: Vec<(u64, u32)> = bought
            .filter_map(|index| {
                let purchase = Purchase::of(population, index);
                Some((purchase.user, self.factors.item(item(&purchase).as_bytes())?))
            })
            .collect();
        deals.sort_unstable();
        let mut vector = vec![0.0; self.dimension];
        let of_user = |some: &[(u64, u32)]| {
            let mut deals = some.iter().map(|(_, item)| Deal { item: *item, weight: 1.0 }).collect();
            self.factors.vector(&mut deals, &mut vector).then(|| (some[0].0, vector.clone()))
        };
        deals.chunk_by(|a, b| a.0 == b.0).filter_map(of_user).collect()
    }

    /// Writes the vectors of a range of users as lines of `POST /v1/spaces/{space}`, and answers how many; users who bought nothing have
    /// none.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_ndjson(&self, users: Range<u64>, out: &mut dyn Write) -> io::Result<u64> {
        let rows = self.rows(&users);
        for (user, vector) in &rows {
            let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
            writeln!(out, "{{\"user_id\":\"{}\",\"vector\":[{}]}}", id(*user), numbers.join(","))?;
        }
        out.flush()?;
        Ok(rows.len() as u64)
    }

    /// Writes them as one Parquet file: `user_id`, and `vector`, a list of as many floats as there are dimensions.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_parquet(&self, users: Range<u64>, path: &Path) -> io::Result<u64> {
        let rows = self.rows(&users);
        write_parquet(path, 0..rows.len() as u64, |range| {
            self.record_batch(&rows[range.start as usize..range.end as usize])
        })?;
        Ok(rows.len() as u64)
    }

    fn record_batch(&self, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
        let ids = StringArray::from_iter_values(rows.iter().map(|(user, _)| id(*user)));
        let numbers = Float32Array::from_iter_values(rows.iter().flat_map(|(_, vector)| vector.iter().copied()));
        let field = Arc::new(Field::new("item", DataType::Float32, false));
        let size =
            i32::try_from(self.dimension).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
        let vectors = FixedSizeListArray::try_new(field, size, Arc::new(numbers), None)?;
        RecordBatch::try_from_iter([("user_id", Arc::new(ids) as ArrayRef), ("vector", Arc::new(vectors) as ArrayRef)])
    }
}

fn item(purchase: &Purchase) -> String {
    format!("{} by {}", purchase.category, purchase.channel)
}

fn id(user: u64) -> String {
    user_id(user).map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::{AS_OF, Population};

    fn history(count: u64) -> History {
        History { population: Population { seed: 3, user_count: 500 }, count, until: AS_OF, days: 5 }
    }

    #[test]
    fn whoever_bought_has_a_vector_in_any_split_of_users() {
        let tastes = Tastes::learn(history(3_000), 8).expect("enough were bought");
        let all = tastes.rows(&(0..500));
        let bought: std::collections::BTreeSet<u64> =
            (0..3_000).map(|index| Purchase::of(&history(3_000).population, index).user).collect();
        assert!(all.iter().map(|(user, _)| *user).eq(bought));
        assert!(all.iter().flat_map(|(_, vector)| vector).all(|number| number.is_finite()));
        let split: Vec<Row> = [0..100, 100..500].iter().flat_map(|users| tastes.rows(users)).collect();
        assert_eq!(split, all);
        let mut lines = Vec::new();
        tastes.write_ndjson(0..500, &mut lines).expect("written");
        let line = String::from_utf8(lines).expect("text").lines().next().map(str::to_owned).expect("a line");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["user_id"], id(all[0].0));
        assert_eq!(line["vector"].as_array().map(Vec::len), Some(8));
    }

    #[test]
    fn too_few_purchases_are_told() {
        assert!(matches!(Tastes::learn(history(2), 8), Err(FactorError::Dimension { wanted: 8, .. })));
        assert!(matches!(Tastes::learn(history(0), 8), Err(FactorError::Empty)));
    }
}
