//! What an aggregation or a sort reads: users, through nothing but renamed columns and one list that is taken apart.

use crate::session::columns::USER_ID;
use crate::session::users::UsersExec;
use arrow::datatypes::DataType;
use datafusion::common::{Column as LogicalColumn, NullHandling, ScalarValue};
use datafusion::logical_expr::expr::{HigherOrderFunction, InList, Lambda, LambdaVariable, Like, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr as LogicalBinary, Cast, Expr};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LambdaExpr,
    LambdaVariable as PhysicalLambdaVariable, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use engine::audience::ops::ColumnOf;
use engine::catalog::{Catalog, TagType};
use engine::ids::TagId;
use std::sync::Arc;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::session) enum Part {
    /// A column of users.
    Column(ColumnOf),
    /// The values of a set, a row each.
    Unnested(TagId),
    /// A number of users as a float.
    Float(TagId),
    /// The same for all rows.
    Literal(ScalarValue),
}

/// Users, and what of them stands in the columns that are read.
#[derive(Debug)]
pub(in crate::session) struct Source<'p> {
    pub(in crate::session) users: &'p UsersExec,
    columns: Vec<Option<Part>>,
    /// The set that is taken apart, whether or not its values are in a column.
    unnested: Option<TagId>,
}

impl<'p> Source<'p> {
    /// What this plan reads, if it is all rows of users.
    pub(in crate::session) fn of(plan: &'p Arc<dyn ExecutionPlan>) -> Option<Source<'p>> {
        if let Some(users) = plan.downcast_ref::<UsersExec>() {
            let columns = users.all_rows()?.iter().map(|column| Some(Part::Column(*column))).collect();
            return Some(Source { users, columns, unnested: None });
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let source = Source::of(projection.input())?;
            let columns = projection.expr().iter().map(|column| source.part(&column.expr)).collect();
            return Some(Source { columns, ..source });
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            // Only spreads rows over threads.
            let is_plain = matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_));
            return if is_plain { Source::of(repartition.input()) } else { None };
        }
        let unnest = plan.downcast_ref::<UnnestExec>()?;
        let mut source = Source::of(unnest.input())?;
        if unnest.options().null_handling == NullHandling::PreserveAndExpandEmpty {
            // Who has no value has a row all the same.
            return None;
        }
        let ([list], []) = (unnest.list_column_indices(), unnest.struct_column_indices()) else { return None };
        let place = source.columns.get_mut(list.index_in_input_schema)?;
        let Some(Part::Column(ColumnOf::Tag(tag))) = *place else { return None };
        *place = Some(Part::Unnested(tag));
        let is_first = source.unnested.replace(tag).is_none();
        (list.depth == 1 && is_first).then_some(source)
    }

    /// The set that there is a row for each value of, instead of one for each user.
    pub(in crate::session) fn unnested(&self) -> Option<TagId> {
        self.unnested
    }

    /// What an expression over the columns is, if it is one of the parts.
    pub(in crate::session) fn part(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return self.columns.get(column.index())?.clone();
        }
        if let Some(literal) = expr.downcast_ref::<Literal>() {
            return Some(Part::Literal(literal.value().clone()));
        }
        let cast = expr.downcast_ref::<CastExpr>()?;
        match self.part(cast.expr())? {
            Part::Column(ColumnOf::Tag(tag)) if *cast.cast_type() == DataType::Float64 => {
                let tag_type = self.tag_type(tag)?;
                matches!(tag_type, TagType::Number(_)).then_some(Part::Float(tag))
            }
            _ => None,
        }
    }

    pub(super) fn tag_type(&self, tag: TagId) -> Option<TagType> {
        let known = self.catalog().tags().find(|(_, known)| known.id == tag);
        known.map(|(_, known)| known.tag_type)
    }

    pub(super) fn catalog(&self) -> &Catalog {
        self.users.question().snapshot.catalog()
    }

    /// A condition on the columns as it was before it was planned, in the names of users' columns; what is not known here is `None`.
    pub(super) fn condition(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Expr> {
        let of = |expr: &Arc<dyn PhysicalExpr>| Some(Box::new(self.condition(expr)?));
        if let Some(part) = self.part(expr) {
            return self.logical(part);
        }
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, right) = (of(binary.left())?, of(binary.right())?);
            return Some(Expr::BinaryExpr(LogicalBinary { left, op: *binary.op(), right }));
        }
        if let Some(not) = expr.downcast_ref::<NotExpr>() {
            return Some(Expr::Not(of(not.arg())?));
        }
        if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
            return Some(Expr::IsNull(of(null.arg())?));
        }
        if let Some(null) = expr.downcast_ref::<IsNotNullExpr>() {
            return Some(Expr::IsNotNull(of(null.arg())?));
        }
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return Some(Expr::Cast(Cast::new(of(cast.expr())?, cast.cast_type().clone())));
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            let items = list.list().iter().map(|item| self.condition(item)).collect::<Option<Vec<_>>>()?;
            return Some(Expr::InList(InList { expr: of(list.expr())?, list: items, negated: list.negated() }));
        }
        if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            let (text, pattern) = (of(like.expr())?, of(like.pattern())?);
            return Some(Expr::Like(Like::new(like.negated(), text, pattern, None, like.case_insensitive())));
        }
        if let Some(lambda) = expr.downcast_ref::<LambdaExpr>() {
            return Some(Expr::Lambda(Lambda::new(lambda.params().to_vec(), self.condition(lambda.body())?)));
        }
        if let Some(variable) = expr.downcast_ref::<PhysicalLambdaVariable>() {
            let field = Some(Arc::clone(variable.field()));
            return Some(Expr::LambdaVariable(LambdaVariable::new(variable.name().to_owned(), field)));
        }
        if let Some(function) = expr.downcast_ref::<HigherOrderFunctionExpr>() {
            let args = function.args().iter().map(|arg| self.condition(arg)).collect::<Option<Vec<_>>>()?;
            return Some(Expr::HigherOrderFunction(HigherOrderFunction::new(Arc::new(function.fun().clone()), args)));
        }
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let args = function.args().iter().map(|arg| self.condition(arg)).collect::<Option<Vec<_>>>()?;
        Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function.fun().clone()), args)))
    }

    fn logical(&self, part: Part) -> Option<Expr> {
        let column = |name: &str| Expr::Column(LogicalColumn::new_unqualified(name));
        Some(match part {
            Part::Column(ColumnOf::UserId) => column(USER_ID),
            Part::Column(ColumnOf::Tag(tag)) => column(self.catalog().name_of(tag)?),
            Part::Float(tag) => {
                Expr::Cast(Cast::new(Box::new(column(self.catalog().name_of(tag)?)), DataType::Float64))
            }
            Part::Literal(value) => Expr::Literal(value, None),
            Part::Unnested(_) => return None,
        })
    }
}
