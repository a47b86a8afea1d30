//! The layout of a segment file.
