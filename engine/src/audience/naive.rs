//! The same meaning on plain maps; the tests' oracle.
