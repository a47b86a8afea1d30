//! Questions to ask of each data set.

use crate::DataSet;

/// A question for the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// For people.
    pub title: &'static str,
    /// In the audience language.
    pub expression: &'static str,
}

/// At least eight questions that this data set can answer.
pub fn sample_questions(data_set: DataSet) -> &'static [Question] {
    let _ = data_set;
    todo!()
}
