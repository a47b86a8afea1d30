//! `did('fact', …)`: conditions on events, on what they come to, and the time.

use super::convert::{Converted, Converter, is_name, turned};
use crate::audience::expr::{CompareOp, Did, ExprKind, Figure, FigureTest, Literal, Test};
use sqlparser::ast;

const USAGE: &str = "write did('purchase', category = 'shoes', count >= 2, within => '30 days')";

impl Converter<'_> {
    pub(super) fn did(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<ExprKind> {
        let arguments = match &function.args {
            ast::FunctionArguments::List(list) if list.clauses.is_empty() => list.args.as_slice(),
            _ => return self.refuse(whole, "did needs the name of a fact", USAGE),
        };
        let Some((ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(fact)), rest)) = arguments.split_first() else {
            return self.refuse(whole, "did needs the name of a fact", USAGE);
        };
        let fact = match self.literal(fact) {
            Ok(Literal::Text(fact)) => fact,
            _ => return self.refuse(fact, "did begins with the name of a fact in single quotes", USAGE),
        };
        let mut did = Did { fact, events: Vec::new(), figures: Vec::new(), within: None, exact_window: false };
        for argument in rest {
            match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(condition)) => {
                    self.condition(condition, &mut did)?
                }
                ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(value), .. } => {
                    self.named(whole, &name.value.to_ascii_lowercase(), value, &mut did)?;
                }
                _ => return self.refuse(whole, "the arguments of did are not of a form it takes", USAGE),
            }
        }
        if did.exact_window && did.within.is_none() {
            return self.refuse(whole, "exact_window says how within is meant, and there is no within", USAGE);
        }
        Ok(ExprKind::Did(Box::new(did)))
    }

    fn named(&self, whole: &ast::Expr, name: &str, value: &ast::Expr, did: &mut Did) -> Converted<()> {
        if name == "exact_window" {
            let Ok(Literal::Bool(exact)) = self.literal(value) else {
                return self.refuse(value, "exact_window is true or false", "write exact_window => TRUE");
            };
            did.exact_window = exact;
            return Ok(());
        }
        if name != "within" {
            let options = "its options are within => '30 days' and exact_window => TRUE";
            return self.refuse(whole, format!("did has no option `{name}`"), options);
        }
        let Ok(Literal::Text(text)) = self.literal(value) else {
            return self.refuse(value, "within is told as text", "write within => '30 days'");
        };
        match did.within.replace(text) {
            None => Ok(()),
            Some(_) => self.refuse(value, "within is told twice", ""),
        }
    }

    fn condition(&self, condition: &ast::Expr, did: &mut Did) -> Converted<()> {
        if let Some(test) = self.figure_test(condition)? {
            did.figures.push(test);
            return Ok(());
        }
        let of_event = Converter { places: self.places, of_event: true };
        did.events.push(of_event.expr(condition)?);
        Ok(())
    }

    /// The condition, if it is one on what events come to.
    fn figure_test(&self, condition: &ast::Expr) -> Converted<Option<FigureTest>> {
        match condition {
            ast::Expr::Nested(inner) => self.figure_test(inner),
            ast::Expr::BinaryOp { left, op, right } => {
                let Some(op) = Self::comparison(op) else { return Ok(None) };
                match (self.figure(left)?, self.figure(right)?) {
                    (Some(figure), None) => self.compared(figure, op, right),
                    (None, Some(figure)) => self.compared(figure, turned(op), left),
                    _ => Ok(None),
                }
            }
            ast::Expr::Between { expr, negated, low, high } => {
                let Some(figure) = self.figure(expr)? else { return Ok(None) };
                let test = Test::Between { low: self.literal(low)?, high: self.literal(high)?, negated: *negated };
                Ok(Some(FigureTest { figure, test }))
            }
            _ => Ok(None),
        }
    }

    fn compared(&self, figure: Figure, op: CompareOp, value: &ast::Expr) -> Converted<Option<FigureTest>> {
        if is_name(value) {
            return self.refuse(value, "a column cannot be compared with what events come to", USAGE);
        }
        Ok(Some(FigureTest { figure, test: Test::Compare(op, self.literal(value)?) }))
    }

    fn figure(&self, expr: &ast::Expr) -> Converted<Option<Figure>> {
        match expr {
            ast::Expr::Identifier(name) if name.quote_style.is_none() => {
                Ok(match name.value.to_ascii_lowercase().as_str() {
                    "count" => Some(Figure::Count),
                    "first" => Some(Figure::First),
                    "last" => Some(Figure::Last),
                    _ => None,
                })
            }
            ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("sum") => {
                match &function.args {
                    ast::FunctionArguments::List(list) => match list.args.as_slice() {
                        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(column))] => {
                            Ok(Some(Figure::Sum(self.tag(column)?)))
                        }
                        _ => self.refuse(expr, "sum takes one column", "write sum(amount) >= 100"),
                    },
                    _ => self.refuse(expr, "sum takes one column", "write sum(amount) >= 100"),
                }
            }
            _ => Ok(None),
        }
    }
}
