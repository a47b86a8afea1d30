//! Rows in, answers out.
//!
//! All rows are evaluated at once. If that fails, both halves are, and so on: what is left is the one row that cannot be
//! computed, and it alone is refused. Of a row the answer is that of a batch of this row alone, because a batch that succeeds
//! gives each row just that: whole batches are only faster.

use super::{result, sentence};
use datafusion::arrow::array::{ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{Decimal128Type, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use engine::computed::{Answer, Answers, Column, Computation, ExpressionError, Input, Rows, Wanted};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::number::NUMBER;

/// A checked expression.
#[derive(Debug)]
pub(super) struct SqlComputation {
    inputs: Vec<Input>,
    schema: SchemaRef,
    physical: Arc<dyn PhysicalExpr>,
    wanted: Wanted,
}

impl SqlComputation {
    pub(super) fn new(inputs: Vec<Input>, schema: SchemaRef, physical: Arc<dyn PhysicalExpr>, wanted: Wanted) -> Self {
        SqlComputation { inputs, schema, physical, wanted }
    }

    /// Computes what takes nothing from a record.
    ///
    /// # Errors
    /// If that cannot be computed: then it never can.
    pub(super) fn try_out(&self) -> Result<(), ExpressionError> {
        if !self.inputs.is_empty() {
            return Ok(());
        }
        let mut answers = Answers::default();
        self.compute(&Rows { count: 1, columns: Vec::new() }, &mut answers);
        match answers.get(0) {
            Answer::Refused(why) => Err(ExpressionError::new(why)),
            Answer::Null | Answer::Value(_) => Ok(()),
        }
    }

    fn compute_batch(&self, batch: &RecordBatch, answers: &mut Answers) {
        let before = answers.len();
        let rows = batch.num_rows();
        // A function of DataFusion that panics over some value refuses that record as one that returns an error does. Nothing of
        // ours is left half done: answers are taken back.
        let evaluated = catch_unwind(AssertUnwindSafe(|| self.evaluate(batch, answers)));
        let why = match evaluated {
            Ok(Ok(())) => return,
            Ok(Err(error)) => sentence(&error),
            Err(_) => "a function cannot compute it".to_owned(),
        };
        answers.truncate(before);
        match rows {
            0 => {}
            1 => answers.push_refused(&why),
            _ => {
                let half = rows / 2;
                self.compute_batch(&batch.slice(0, half), answers);
                self.compute_batch(&batch.slice(half, rows - half), answers);
            }
        }
    }

    fn evaluate(&self, batch: &RecordBatch, answers: &mut Answers) -> Result<()> {
        let array = self.physical.evaluate(batch)?.into_array(batch.num_rows())?;
        result::push_all(&array, self.wanted, answers)
    }
}

impl Computation for SqlComputation {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn compute(&self, rows: &Rows, answers: &mut Answers) {
        let columns = rows.columns.iter().map(array).collect::<Result<Vec<_>>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.count));
        let batch =
            columns.and_then(|columns| Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?));
        match batch {
            Ok(batch) => self.compute_batch(&batch, answers),
            Err(error) => (0..rows.count).for_each(|_| answers.push_refused(&sentence(&error))),
        }
    }
}

fn array(column: &Column) -> Result<ArrayRef> {
    Ok(match column {
        Column::Texts { bytes, ends, valid } => {
            let too_long =
                || DataFusionError::Execution("the records of a batch have more than 2 GiB of text".to_owned());
            let mut offsets = Vec::with_capacity(ends.len() + 1);
            offsets.push(0i32);
            for end in ends {
                offsets.push(i32::try_from(*end).map_err(|_| too_long())?);
            }
            let nulls = Some(NullBuffer::from(valid.as_slice()));
            let bytes = Buffer::from(bytes.as_bytes());
            Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes, nulls)?)
        }
        Column::Numbers(values) => {
            let numbers: PrimitiveArray<Decimal128Type> = values.iter().copied().collect();
            Arc::new(numbers.with_data_type(NUMBER))
        }
        Column::Booleans(values) => Arc::new(values.iter().copied().collect::<BooleanArray>()),
    })
}
