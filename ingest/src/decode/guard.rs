//! Readers of formats that others wrote, held so that what they do with damage is an error.
//!
//! Arrow's and Parquet's readers mean to answer damage with errors. Where they slip they panic, and what they were reading must
//! not be used again. (What would make them *allocate* without bound has to be looked at before they see it; see
//! [`super::arrow_stream`].)

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `read` gives, or what it panicked with.
///
/// # Errors
/// The panic's message. Whatever `read` was changing is to be thrown away.
pub(crate) fn shielded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("its reader panicked").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(shielded(|| 7), Ok(7));
        assert_eq!(shielded(|| -> u8 { panic!("at {}", 3) }), Err("at 3".to_owned()));
    }
}
