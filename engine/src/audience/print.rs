//! An expression as canonical text, which parses back to an equal tree.

use super::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, SimilarTo, Test};
use std::fmt;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Literal(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            ExprKind::Flag(tag) => f.write_str(tag),
            // In parentheses, since SQL parsers disagree on how tightly this holds.
            ExprKind::Compare { tag, op: op @ (CompareOp::IsDistinctFrom | CompareOp::IsNotDistinctFrom), value } => {
                write!(f, "({tag} {op} {value})")
            }
            ExprKind::Compare { tag, op, value } => write!(f, "{tag} {op} {value}"),
            ExprKind::Between { tag, low, high, negated } => {
                write!(f, "{tag} {}BETWEEN {low} AND {high}", not(*negated))
            }
            ExprKind::In { tag, values, negated } => {
                write!(f, "{tag} {}IN ", not(*negated))?;
                list(f, values)
            }
            ExprKind::IsNull { tag, negated } => write!(f, "{tag} IS {}NULL", not(*negated)),
            ExprKind::UserIn { ids, negated } => {
                write!(f, "user_id {}IN ", not(*negated))?;
                let ids: Vec<Literal> = ids.iter().cloned().map(Literal::Text).collect();
                list(f, &ids)
            }
            ExprKind::InAudience(name) => write!(f, "in_audience({})", Quoted(name)),
            ExprKind::Did(did) => did.fmt(f),
            ExprKind::SimilarTo(similar) => similar.fmt(f),
            ExprKind::AtLeast { k, of } => {
                write!(f, "at_least({k}")?;
                of.iter().try_for_each(|operand| write!(f, ", {operand}"))?;
                f.write_str(")")
            }
            ExprKind::And(of) => joined(f, of, " AND ", 2),
            ExprKind::Or(of) => joined(f, of, " OR ", 1),
            ExprKind::Xor(a, b) => write!(f, "({a}) XOR ({b})"),
            ExprKind::Not(of) => {
                f.write_str("NOT ")?;
                within(f, of, 3)
            }
        }
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "did({}", Quoted(&self.fact))?;
        self.events.iter().try_for_each(|event| write!(f, ", {event}"))?;
        self.figures.iter().try_for_each(|figure| write!(f, ", {figure}"))?;
        if let Some(within) = &self.within {
            write!(f, ", within => {}", Quoted(within))?;
        }
        if self.exact_window {
            f.write_str(", exact_window => TRUE")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for SimilarTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "similar_to({}, seed => {}, {}", Quoted(&self.space), self.seed, self.extent)?;
        for (name, users) in [("within", &self.within), ("exclude", &self.exclude)] {
            users.as_ref().map_or(Ok(()), |users| write!(f, ", {name} => {users}"))?;
        }
        if self.include_seed {
            f.write_str(", include_seed => TRUE")?;
        }
        self.method.map_or(Ok(()), |method| write!(f, ", {method}"))?;
        self.weights.as_ref().map_or(Ok(()), |weights| write!(f, ", weights => {weights}"))?;
        f.write_str(if self.exact { ", exact => TRUE)" } else { ")" })
    }
}

impl fmt::Display for FigureTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.figure {
            Figure::Count => f.write_str("count"),
            Figure::Sum(column) => write!(f, "sum({column})"),
            Figure::First => f.write_str("first"),
            Figure::Last => f.write_str("last"),
        }?;
        match &self.test {
            Test::Compare(op, value) => write!(f, " {op} {value}"),
            Test::Between { low, high, negated } => write!(f, " {}BETWEEN {low} AND {high}", not(*negated)),
        }
    }
}

/// How tightly an expression holds together: one inside a tighter one needs parentheses.
fn tightness(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Or(_) | ExprKind::Xor(_, _) => 1,
        ExprKind::And(_) => 2,
        ExprKind::Not(_) => 3,
        _ => 4,
    }
}

fn within(f: &mut fmt::Formatter<'_>, expr: &Expr, outer: u8) -> fmt::Result {
    // A comparison behind NOT is put in parentheses too: `NOT (a = 1)` cannot be misread.
    let parentheses = if outer == 3 { !matches!(expr.kind, ExprKind::Flag(_)) } else { tightness(expr) <= outer };
    let is_call = matches!(
        expr.kind,
        ExprKind::InAudience(_) | ExprKind::AtLeast { .. } | ExprKind::Did(_) | ExprKind::SimilarTo(_)
    );
    if parentheses && !is_call && !matches!(expr.kind, ExprKind::Literal(_)) {
        write!(f, "({expr})")
    } else {
        write!(f, "{expr}")
    }
}

fn joined(f: &mut fmt::Formatter<'_>, of: &[Expr], word: &str, outer: u8) -> fmt::Result {
    for (index, operand) in of.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        within(f, operand, outer)?;
    }
    Ok(())
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn list(f: &mut fmt::Formatter<'_>, values: &[Literal]) -> fmt::Result {
    f.write_str("(")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{value}")?;
    }
    f.write_str(")")
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Text(text) => Quoted(text).fmt(f),
            Literal::Number(digits) => f.write_str(digits),
            Literal::Bool(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
        }
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompareOp::Equal => "=",
            CompareOp::NotEqual => "<>",
            CompareOp::Less => "<",
            CompareOp::LessOrEqual => "<=",
            CompareOp::Greater => ">",
            CompareOp::GreaterOrEqual => ">=",
            CompareOp::IsDistinctFrom => "IS DISTINCT FROM",
            CompareOp::IsNotDistinctFrom => "IS NOT DISTINCT FROM",
        })
    }
}
