//! Rows as text, as the scripts of `compare/` print theirs.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows, sorted, as one line. Floats are rounded, since they are added in any order.
///
/// # Panics
/// If a column has a type that cannot be shown.
pub fn text(batches: &[RecordBatch]) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| {
            let is_float = matches!(column.data_type(), DataType::Float64);
            (ArrayFormatter::try_new(column, &options).expect("a type that is shown"), is_float)
        });
        let columns: Vec<_> = columns.collect();
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|(column, is_float)| {
                let text = column.value(row).to_string();
                match text.parse::<f64>() {
                    Ok(number) if *is_float => format!("{number:.4}"),
                    _ => text,
                }
            });
            rows.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort();
    rows.join("; ")
}
