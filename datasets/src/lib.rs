//! Data sets to try, prove and measure Beluga with: a generated ad population, and readers of public ones.
