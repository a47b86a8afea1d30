//! The SQL parser's tree → [`Expr`], refusing what is not in the audience language.

use super::Places;
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::expr::{CompareOp, Expr, ExprKind, Literal, Span};
use crate::audience::path;
use crate::audience::suggest::closest;
use crate::catalog;
use sqlparser::ast::{self, BinaryOperator, Spanned, UnaryOperator};

pub(super) struct Converter<'p> {
    pub(super) places: &'p Places<'p>,
    /// What is converted is a condition on an event: names are of columns, or of its time.
    pub(super) of_event: bool,
}

pub(super) type Converted<T> = Result<T, ExprError>;

impl Converter<'_> {
    pub(super) fn span(&self, expr: &ast::Expr) -> Span {
        let mut span = self.places.span(expr.span());
        // The parser's span of a call ends before its parenthesis.
        let rest = &self.places.text[span.end..];
        if matches!(expr, ast::Expr::Function(_)) && rest.trim_start().starts_with(')') {
            span.end += rest.len() - rest.trim_start().len() + 1;
        }
        span
    }

    pub(super) fn refuse<T>(&self, expr: &ast::Expr, message: impl Into<String>, suggestion: &str) -> Converted<T> {
        let error = ExprError::new(ExprErrorKind::Unsupported, message).at(self.span(expr));
        Err(if suggestion.is_empty() { error } else { error.suggest(suggestion) })
    }

    pub(super) fn expr(&self, expr: &ast::Expr) -> Converted<Expr> {
        let span = self.span(expr);
        Ok(Expr { kind: self.kind(expr)?, span })
    }

    fn kind(&self, expr: &ast::Expr) -> Converted<ExprKind> {
        use ast::Expr as Sql;
        match expr {
            Sql::Nested(inner) => self.kind(inner),
            Sql::Identifier(name) if name.quote_style.is_none() => Ok(ExprKind::Flag(self.tag(expr)?)),
            Sql::Value(_) => match self.literal(expr)? {
                Literal::Bool(value) => Ok(ExprKind::Literal(value)),
                _ => self.refuse(expr, "a value alone is not a condition", "compare a tag with it: tag = value"),
            },
            Sql::UnaryOp { op: UnaryOperator::Not, expr } => Ok(ExprKind::Not(Box::new(self.expr(expr)?))),
            Sql::BinaryOp { left, op, right } => self.binary(expr, left, op, right),
            Sql::IsDistinctFrom(a, b) => self.compare(expr, a, CompareOp::IsDistinctFrom, b),
            Sql::IsNotDistinctFrom(a, b) => self.compare(expr, a, CompareOp::IsNotDistinctFrom, b),
            Sql::IsNull(of) => Ok(ExprKind::IsNull { tag: self.tag(of)?, negated: false }),
            Sql::IsNotNull(of) => Ok(ExprKind::IsNull { tag: self.tag(of)?, negated: true }),
            Sql::Between { expr: of, negated, low, high } => Ok(ExprKind::Between {
                tag: self.tag(of)?,
                low: self.literal(low)?,
                high: self.literal(high)?,
                negated: *negated,
            }),
            Sql::InList { expr: of, list, negated } => self.in_list(of, list, *negated),
            Sql::InSubquery { .. } => {
                self.refuse(expr, "a subquery is not part of the audience language", "use in_audience('name')")
            }
            Sql::Like { .. } | Sql::ILike { .. } => {
                self.refuse(expr, "LIKE is not part of the audience language", "list the values with IN (…)")
            }
            Sql::Function(function) => self.function(expr, function),
            Sql::Identifier(_) | Sql::CompoundIdentifier(_) => Ok(ExprKind::Flag(self.tag(expr)?)),
            _ => self.refuse(expr, format!("`{expr}` is not a condition of the audience language"), ""),
        }
    }

    /// The comparison an operator is.
    pub(super) fn comparison(op: &BinaryOperator) -> Option<CompareOp> {
        Some(match op {
            BinaryOperator::Eq => CompareOp::Equal,
            BinaryOperator::NotEq => CompareOp::NotEqual,
            BinaryOperator::Lt => CompareOp::Less,
            BinaryOperator::LtEq => CompareOp::LessOrEqual,
            BinaryOperator::Gt => CompareOp::Greater,
            BinaryOperator::GtEq => CompareOp::GreaterOrEqual,
            _ => return None,
        })
    }

    fn binary(
        &self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
    ) -> Converted<ExprKind> {
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let mut operands = Vec::new();
                self.flatten(left, op, &mut operands)?;
                self.flatten(right, op, &mut operands)?;
                Ok(if *op == BinaryOperator::And { ExprKind::And(operands) } else { ExprKind::Or(operands) })
            }
            BinaryOperator::Xor => {
                let conditions = |side: &ast::Expr| {
                    self.expr(side)
                        .map(Box::new)
                        .map_err(|error| error.suggest("put both sides of XOR in parentheses: (a = 1) XOR (b = 2)"))
                };
                Ok(ExprKind::Xor(conditions(left)?, conditions(right)?))
            }
            other => match Self::comparison(other) {
                Some(op) => self.compare(whole, left, op, right),
                None => self.refuse(
                    whole,
                    format!("`{other}` is not an operator of the audience language"),
                    "use =, <>, <, <=, >, >=, AND, OR, NOT, XOR",
                ),
            },
        }
    }

    /// Takes `a AND b AND c` as one AND of three; parentheses keep their own.
    fn flatten(&self, expr: &ast::Expr, wanted: &BinaryOperator, out: &mut Vec<Expr>) -> Converted<()> {
        match expr {
            ast::Expr::BinaryOp { left, op, right } if op == wanted => {
                self.flatten(left, wanted, out)?;
                self.flatten(right, wanted, out)
            }
            expr => {
                out.push(self.expr(expr)?);
                Ok(())
            }
        }
    }

    fn compare(&self, whole: &ast::Expr, left: &ast::Expr, op: CompareOp, right: &ast::Expr) -> Converted<ExprKind> {
        let (side, op, value) = if is_name(left) { (left, op, right) } else { (right, turned(op), left) };
        if !is_name(side) {
            return self.refuse(whole, "a comparison needs a tag on one side", "write tag = value");
        }
        if is_name(value) && !matches!(value, ast::Expr::Identifier(name) if name.quote_style.is_some()) {
            return self.refuse(
                value,
                "two tags cannot be compared with each other",
                "put a text value in single quotes",
            );
        }
        let (tag, value) = (self.tag(side)?, self.literal(value)?);
        if tag != "user_id" || self.of_event {
            return Ok(ExprKind::Compare { tag, op, value });
        }
        let ids = vec![user_id(value)];
        match op {
            CompareOp::Equal | CompareOp::IsNotDistinctFrom => Ok(ExprKind::UserIn { ids, negated: false }),
            CompareOp::NotEqual | CompareOp::IsDistinctFrom => Ok(ExprKind::UserIn { ids, negated: true }),
            _ => self.refuse(whole, "user ids have no order", "use user_id = '…' or user_id IN (…)"),
        }
    }

    fn in_list(&self, of: &ast::Expr, list: &[ast::Expr], negated: bool) -> Converted<ExprKind> {
        let tag = self.tag(of)?;
        if let [ast::Expr::Function(function)] = list
            && function.name.to_string().eq_ignore_ascii_case("upload")
        {
            if tag != "user_id" {
                return self.refuse(of, "an uploaded list holds user ids", "write user_id IN upload('name')");
            }
            let name = self.text_argument(&list[0], function)?;
            let listed = ExprKind::InAudience(name);
            return Ok(if negated { ExprKind::Not(Box::new(listed.into())) } else { listed });
        }
        let values: Converted<Vec<Literal>> = list.iter().map(|value| self.literal(value)).collect();
        let values = values?;
        if values.is_empty() {
            return self.refuse(of, "IN needs at least one value", "");
        }
        if tag == "user_id" && !self.of_event {
            return Ok(ExprKind::UserIn { ids: values.into_iter().map(user_id).collect(), negated });
        }
        Ok(ExprKind::In { tag, values, negated })
    }

    fn function(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<ExprKind> {
        let name = function.name.to_string().to_ascii_lowercase();
        match name.as_str() {
            "in_audience" => Ok(ExprKind::InAudience(self.text_argument(whole, function)?)),
            "at_least" => {
                let arguments = self.arguments(whole, function)?;
                let usage = "write at_least(2, a = 1, b = 2, c = 3)";
                let Some((k, of)) = arguments.split_first() else {
                    return self.refuse(whole, "at_least needs a number and conditions", usage);
                };
                let k = match self.literal(k)? {
                    Literal::Number(digits) => digits.parse().ok(),
                    _ => None,
                };
                let Some(k) = k.filter(|k: &u32| *k > 0 && *k as usize <= of.len()) else {
                    let message = format!("at_least: the first argument is how many, from 1 to {}", of.len());
                    return self.refuse(whole, message, usage);
                };
                let of: Converted<Vec<Expr>> = of.iter().map(|operand| self.expr(operand)).collect();
                Ok(ExprKind::AtLeast { k, of: of? })
            }
            "array_has" | "array_contains" | "list_has" => match self.arguments(whole, function)?.as_slice() {
                [list, value] => {
                    Ok(ExprKind::Compare { tag: self.tag(list)?, op: CompareOp::Equal, value: self.literal(value)? })
                }
                _ => self.refuse(whole, "array_has takes a set tag and a value", "write array_has(interest, 'yoga')"),
            },
            "upload" => self.refuse(whole, "upload(…) stands behind IN", "write user_id IN upload('name')"),
            "did" => self.did(whole, function),
            "similar_to" => self.similar_to(whole, function),
            _ => {
                let known = ["in_audience", "at_least", "array_has", "did", "similar_to"];
                let near = closest(&name, known).map(|near| format!("did you mean {near}(…)?"));
                self.refuse(whole, format!("there is no function {name}(…)"), &near.unwrap_or_default())
            }
        }
    }

    fn arguments(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<Vec<ast::Expr>> {
        let plain = |argument: &ast::FunctionArg| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        };
        let arguments = match &function.args {
            ast::FunctionArguments::List(list) if list.clauses.is_empty() => list.args.iter().map(plain).collect(),
            _ => None,
        };
        match arguments {
            Some(arguments) => Ok(arguments),
            None => self.refuse(whole, format!("the arguments of {} are not of a form it takes", function.name), ""),
        }
    }

    fn text_argument(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<String> {
        match self.arguments(whole, function)?.as_slice() {
            [name] => match self.literal(name)? {
                Literal::Text(name) => Ok(name),
                _ => self.refuse(name, "expected a name in single quotes", ""),
            },
            _ => self.refuse(whole, format!("{} takes one name", function.name), "write in_audience('name')"),
        }
    }

    pub(super) fn tag(&self, expr: &ast::Expr) -> Converted<String> {
        let name = match expr {
            ast::Expr::Nested(inner) => return self.tag(inner),
            // Unquoted names are lower-case in SQL; quoted ones are as written.
            ast::Expr::Identifier(name) if self.of_event && path::split(&name.value).is_some() => {
                return Ok(name.value.clone());
            }
            ast::Expr::Identifier(name) if name.quote_style.is_some() => name.value.clone(),
            ast::Expr::Identifier(name) => name.value.to_ascii_lowercase(),
            ast::Expr::CompoundIdentifier(parts)
                if parts.len() == 2 && parts[0].value.eq_ignore_ascii_case("users") =>
            {
                parts[1].value.to_ascii_lowercase()
            }
            _ => return self.refuse(expr, format!("expected the name of a tag, found `{expr}`"), ""),
        };
        if name != "user_id" && !catalog::is_name(&name) && !(self.of_event && name == "ts") {
            let message = format!("`{name}` cannot be the name of a tag");
            return Err(ExprError::new(ExprErrorKind::UnknownTag, message).at(self.span(expr)));
        }
        Ok(name)
    }

    pub(super) fn literal(&self, expr: &ast::Expr) -> Converted<Literal> {
        use ast::Value;
        let refused = |what: &str, suggestion: &str| self.refuse(expr, what.to_owned(), suggestion);
        match expr {
            ast::Expr::Nested(inner) => self.literal(inner),
            ast::Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => Ok(Literal::Number(digits.clone())),
                Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
                Value::Boolean(value) => Ok(Literal::Bool(*value)),
                Value::Null => refused("nothing equals NULL", "use IS NULL or IS NOT NULL"),
                Value::DoubleQuotedString(_) => refused("double quotes are for names", "put text in single quotes"),
                _ => refused(
                    "this form of literal is not part of the audience language",
                    "use 'text', a number, TRUE or FALSE",
                ),
            },
            ast::Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: of } => {
                match self.literal(of)? {
                    Literal::Number(digits) if *op == UnaryOperator::Plus => Ok(Literal::Number(digits)),
                    Literal::Number(digits) => {
                        Ok(Literal::Number(digits.strip_prefix('-').map_or(format!("-{digits}"), str::to_owned)))
                    }
                    _ => refused("only a number has a sign", ""),
                }
            }
            ast::Expr::TypedString(typed) => match &typed.value.value {
                Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
                _ => refused("expected a time in single quotes", ""),
            },
            ast::Expr::Identifier(name) if name.quote_style == Some('"') => {
                refused("double quotes are for names", &format!("write '{}'", name.value))
            }
            ast::Expr::Identifier(name) => {
                refused("expected a value, found a name", &format!("put text in single quotes: '{}'", name.value))
            }
            _ => refused(&format!("expected a value, found `{expr}`"), ""),
        }
    }
}

pub(super) fn is_name(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) => is_name(inner),
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => true,
        _ => false,
    }
}

pub(super) fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        same => same,
    }
}

/// A user id is text; an integer is its decimal text.
fn user_id(literal: Literal) -> String {
    match literal {
        Literal::Text(text) | Literal::Number(text) => text,
        Literal::Bool(value) => value.to_string(),
    }
}
