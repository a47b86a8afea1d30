//! Makes one segment of several by the layering rule.
