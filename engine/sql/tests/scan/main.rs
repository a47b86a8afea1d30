//! Conditions that no activity index covers, answered from the tables of facts.

mod limits;
mod oracle;
mod support;
