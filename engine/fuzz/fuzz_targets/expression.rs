//! Any text as an expression: refused with a place inside the text, or printed canonically and parsed back to the same.

#![no_main]

use engine::audience::{bind, naive, parse};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|text: &str| {
    match parse(text) {
        Err(error) => {
            if let Some(span) = error.span {
                assert!(span.start <= span.end && text.get(span.start..span.end).is_some(), "{error:?}");
            }
        }
        Ok(expr) => {
            let printed = expr.to_string();
            assert_eq!(parse(&printed).as_ref(), Ok(&expr), "{printed}");
            let _ = bind(&expr, &naive::sample_catalog(), &BTreeMap::new(), naive::NOW);
        }
    }
});
