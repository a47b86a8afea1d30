//! `similar_to('space', …)`: like whom, how many, and of whom.

use super::convert::{Converted, Converter};
use crate::audience::expr::{Expr, ExprKind, Literal, SimilarTo};
use crate::audience::similar::{Amount, Extent, ExtentError};
use crate::lookalike::seeds::Method;
use sqlparser::ast;

const USAGE: &str = "write similar_to('taste', seed => in_audience('vip'), size => 1000)";
const OPTIONS: &str =
    "its options are seed, size, share, after, within, exclude, include_seed, method, prototypes, weights and exact";

/// What was told so far.
#[derive(Default)]
struct Told {
    seed: Option<Expr>,
    amount: Option<Amount>,
    /// Read when it is known whether it is a count or a share.
    after: Option<ast::Expr>,
    within: Option<Expr>,
    exclude: Option<Expr>,
    include_seed: Option<bool>,
    method: Option<Method>,
    weights: Option<String>,
    exact: Option<bool>,
}

impl Converter<'_> {
    pub(super) fn similar_to(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<ExprKind> {
        let arguments = match &function.args {
            ast::FunctionArguments::List(list) if list.clauses.is_empty() => list.args.as_slice(),
            _ => return self.refuse(whole, "similar_to needs the name of a vector space", USAGE),
        };
        let Some((ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(space)), rest)) = arguments.split_first() else {
            return self.refuse(whole, "similar_to needs the name of a vector space", USAGE);
        };
        let Ok(Literal::Text(space)) = self.literal(space) else {
            return self.refuse(space, "similar_to begins with the name of a vector space in single quotes", USAGE);
        };
        let mut told = Told::default();
        for argument in rest {
            let ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(value), .. } = argument else {
                return self.refuse(whole, "behind the space, similar_to takes options by name", USAGE);
            };
            self.option(whole, &name.value.to_ascii_lowercase(), value, &mut told)?;
        }
        let Some(seed) = told.seed else {
            return self.refuse(whole, "similar_to needs a seed: the users that others are to be like", USAGE);
        };
        let Some(amount) = told.amount else {
            return self.refuse(whole, "similar_to needs a size or a share", USAGE);
        };
        let after = told.after.map(|value| match amount {
            Amount::Count(_) => self.amount(&value, Amount::count_of),
            Amount::Share(_) => self.amount(&value, Amount::share_of),
        });
        let extent = self.checked(whole, Extent::new(amount, after.transpose()?))?;
        Ok(ExprKind::SimilarTo(Box::new(SimilarTo {
            space,
            seed,
            extent,
            within: told.within,
            exclude: told.exclude,
            include_seed: told.include_seed.unwrap_or(false),
            method: told.method,
            weights: told.weights,
            exact: told.exact.unwrap_or(false),
        })))
    }

    fn option(&self, whole: &ast::Expr, name: &str, value: &ast::Expr, told: &mut Told) -> Converted<()> {
        let twice = match name {
            "seed" => told.seed.replace(self.users(value)?).is_some(),
            "within" => told.within.replace(self.users(value)?).is_some(),
            "exclude" => told.exclude.replace(self.users(value)?).is_some(),
            "size" => told.amount.replace(self.amount(value, Amount::count_of)?).is_some(),
            "share" => told.amount.replace(self.amount(value, Amount::share_of)?).is_some(),
            "after" => told.after.replace(value.clone()).is_some(),
            "include_seed" => told.include_seed.replace(self.boolean(name, value)?).is_some(),
            "exact" => told.exact.replace(self.boolean(name, value)?).is_some(),
            "method" => told.method.replace(self.method(value)?).is_some(),
            "prototypes" => told.method.replace(self.prototypes(value)?).is_some(),
            "weights" => told.weights.replace(self.tag(value)?).is_some(),
            _ => return self.refuse(whole, format!("similar_to has no option `{name}`"), OPTIONS),
        };
        match (twice, name) {
            (false, _) => Ok(()),
            (true, "size" | "share") => self.refuse(value, "how many are meant is told twice", "write size or share"),
            (true, "method" | "prototypes") => {
                self.refuse(value, "how likeness is learned is told twice", "write method or prototypes")
            }
            (true, name) => self.refuse(value, format!("{name} is told twice"), ""),
        }
    }

    /// An expression, or the name of an audience.
    fn users(&self, value: &ast::Expr) -> Converted<Expr> {
        match self.literal(value) {
            Ok(Literal::Text(name)) => Ok(Expr { kind: ExprKind::InAudience(name), span: self.span(value) }),
            _ => self.expr(value),
        }
    }

    fn amount(&self, value: &ast::Expr, of: fn(&str) -> Result<Amount, ExtentError>) -> Converted<Amount> {
        match self.literal(value)? {
            Literal::Number(digits) => self.checked(value, of(&digits)),
            _ => self.refuse(value, "a number is expected", "write size => 1000, or share => 0.02"),
        }
    }

    fn checked<T>(&self, place: &ast::Expr, result: Result<T, ExtentError>) -> Converted<T> {
        result.or_else(|error| self.refuse(place, error.message.clone(), &error.suggestion))
    }

    fn boolean(&self, name: &str, value: &ast::Expr) -> Converted<bool> {
        match self.literal(value) {
            Ok(Literal::Bool(value)) => Ok(value),
            _ => self.refuse(value, format!("{name} is true or false"), &format!("write {name} => TRUE")),
        }
    }

    fn method(&self, value: &ast::Expr) -> Converted<Method> {
        match self.literal(value) {
            Ok(Literal::Text(name)) if name == "mean" => Ok(Method::Mean),
            Ok(Literal::Text(name)) if name == "linear" => Ok(Method::Linear),
            _ => self.refuse(
                value,
                "this is no method of learning likeness",
                "write method => 'mean', method => 'linear' or prototypes => 8, or leave it out",
            ),
        }
    }

    fn prototypes(&self, value: &ast::Expr) -> Converted<Method> {
        let count = match self.literal(value)? {
            Literal::Number(digits) => digits.parse().ok().and_then(Method::prototypes),
            _ => None,
        };
        match count {
            Some(method) => Ok(method),
            None => self.refuse(value, Method::PROTOTYPES_RULE, "write prototypes => 8"),
        }
    }
}
