//! [`super::expr::Expr`] → canonical text, which parses back to an equal tree (`impl Display for Expr`).
