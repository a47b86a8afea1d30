//! One line of `POST /v1/tags` to the changes of one user.

use super::error::LineError;
use engine::catalog::Catalog;
use engine::update::UpdateBatch;

/// Decodes lines against one catalog.
#[derive(Clone, Debug)]
pub struct TagDecoder {}

impl TagDecoder {
    /// A decoder for the tags of `catalog` as it is now.
    pub fn new(catalog: &Catalog) -> Self {
        let _ = catalog;
        todo!()
    }

    /// Appends the line's user and changes to `batch`; on an error the batch is as before.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let _ = (line, batch);
        todo!()
    }
}
