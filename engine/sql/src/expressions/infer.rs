//! As what each path is read, told by how it is used.
//!
//! What stands together in a comparison, in the branches of a `CASE`, in `coalesce` and the like is of one kind; arithmetic
//! asks for numbers, conditions for true or false, `LIKE` and `||` for text; a function asks for what it takes, text before
//! numbers. Kinds that are asked for in one place are known in the others, so the walk is repeated until it learns nothing. A
//! whole expression that is still open is what its column asks for.

use super::number::NUMBER;
use super::{Planned, column_index, column_name, data_type, names, refused, schema};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, Operator};
use engine::computed::{ExpressionError, Input, Reading, Wanted};

/// The expression with a column for each field and reading of it, and these.
pub(super) fn read_as_used(planned: Planned, wanted: Wanted) -> Result<(Expr, Vec<Input>), ExpressionError> {
    let Planned { expr, paths, fixed } = casts_apart(planned)?;
    let mut uses = Uses::new(paths, fixed);
    let kind = uses.learn(&expr)?;
    uses.want(kind, wanted)?;
    uses.learn(&expr)?;
    uses.settle()?;
    uses.inputs(expr)
}

/// What is known of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// That of this path.
    Path(usize),
    Known(Reading),
    /// A time, a list: what no path is read as.
    Other,
    Unknown,
}

struct Uses {
    paths: Vec<String>,
    /// Which path each is known to be of one kind with; of itself if it is the first of these.
    leader: Vec<usize>,
    /// By leader.
    reading: Vec<Option<Reading>>,
    /// Whether a leader's paths are compared, so that it matters what they are read as.
    compared: Vec<bool>,
    /// Types as far as they are known, text else.
    schema: DFSchema,
}

impl Uses {
    fn new(paths: Vec<String>, fixed: Vec<Option<Reading>>) -> Uses {
        Uses {
            leader: (0..paths.len()).collect(),
            reading: fixed,
            compared: vec![false; paths.len()],
            schema: DFSchema::empty(),
            paths,
        }
    }

    /// Walks until nothing is learned any more: each walk but the last settles a path, or there is no other.
    fn learn(&mut self, expr: &Expr) -> Result<Kind, ExpressionError> {
        loop {
            self.schema = self.schema_now()?;
            let known = self.readings();
            let kind = self.walk(expr)?;
            if self.readings() == known {
                return Ok(kind);
            }
        }
    }

    fn leader(&self, path: usize) -> usize {
        match self.leader[path] {
            leader if leader == path => path,
            other => self.leader(other),
        }
    }

    fn reading_of(&self, path: usize) -> Option<Reading> {
        self.reading[self.leader(path)]
    }

    /// A path of which that is known is what it is read as.
    fn known(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Path(path) => self.reading_of(path).map_or(kind, Kind::Known),
            other => other,
        }
    }

    fn readings(&self) -> Vec<Option<Reading>> {
        (0..self.paths.len()).map(|path| self.reading_of(path)).collect()
    }

    fn schema_now(&self) -> Result<DFSchema, ExpressionError> {
        schema(self.readings().into_iter().map(|reading| data_type(reading.unwrap_or(Reading::Text))).collect())
    }

    /// A path is read so, if it is one.
    fn is(&mut self, kind: Kind, reading: Reading) -> Result<Kind, ExpressionError> {
        let Kind::Path(path) = kind else { return Ok(kind) };
        let leader = self.leader(path);
        match self.reading[leader] {
            Some(known) if known != reading => Err(self.used_as_two(path, known, reading)),
            _ => {
                self.reading[leader] = Some(reading);
                Ok(kind)
            }
        }
    }

    /// Two values are of one kind.
    fn same(&mut self, a: Kind, b: Kind) -> Result<Kind, ExpressionError> {
        match (a, b) {
            (Kind::Path(a), Kind::Path(b)) => {
                let (into, from) = (self.leader(a), self.leader(b));
                if let (Some(known), Some(other)) = (self.reading[into], self.reading[from])
                    && known != other
                {
                    return Err(self.used_as_two(a, known, other));
                }
                self.reading[into] = self.reading[into].or(self.reading[from]);
                self.compared[into] |= self.compared[from];
                self.leader[from] = into;
                Ok(Kind::Path(a))
            }
            (path @ Kind::Path(_), Kind::Known(reading)) | (Kind::Known(reading), path @ Kind::Path(_)) => {
                self.is(path, reading)
            }
            // A time is compared with the text of one.
            (path @ Kind::Path(_), Kind::Other) | (Kind::Other, path @ Kind::Path(_)) => {
                self.is(path, Reading::Text).map(|_| Kind::Other)
            }
            (Kind::Unknown, known) | (known, _) => Ok(known),
        }
    }

    fn used_as_two(&self, path: usize, known: Reading, other: Reading) -> ExpressionError {
        let path = &self.paths[path];
        let message = format!("`{path}` is used as {} and as {}", noun(known), noun(other));
        ExpressionError::new(message)
            .suggest(format!("say it where it is used: {path}::text, {path}::decimal, {path}::boolean"))
    }

    fn walk_all<'e>(&mut self, parts: impl IntoIterator<Item = &'e Expr>) -> Result<Vec<Kind>, ExpressionError> {
        parts.into_iter().map(|part| self.walk(part)).collect()
    }

    fn all_same(&mut self, kinds: Vec<Kind>) -> Result<Kind, ExpressionError> {
        kinds.into_iter().try_fold(Kind::Unknown, |all, kind| self.same(all, kind))
    }

    fn compare<'e>(&mut self, parts: impl IntoIterator<Item = &'e Expr>) -> Result<Kind, ExpressionError> {
        let kinds = self.walk_all(parts)?;
        if let Kind::Path(path) = self.all_same(kinds)? {
            let leader = self.leader(path);
            self.compared[leader] = true;
        }
        Ok(Kind::Known(Reading::Boolean))
    }

    fn walk(&mut self, expr: &Expr) -> Result<Kind, ExpressionError> {
        match expr {
            Expr::Column(column) => Ok(Kind::Path(column_index(&column.name))),
            Expr::Alias(alias) => self.walk(&alias.expr),
            Expr::BinaryExpr(binary) => self.walk_binary(binary),
            Expr::Not(inner)
            | Expr::IsTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsNotUnknown(inner) => {
                let kind = self.walk(inner)?;
                self.is(kind, Reading::Boolean)?;
                Ok(Kind::Known(Reading::Boolean))
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                self.walk(inner)?;
                Ok(Kind::Known(Reading::Boolean))
            }
            Expr::Negative(inner) => {
                let kind = self.walk(inner)?;
                self.is(kind, Reading::Number)
            }
            Expr::Like(like) | Expr::SimilarTo(like) => {
                for part in [&like.expr, &like.pattern] {
                    let kind = self.walk(part)?;
                    self.is(kind, Reading::Text)?;
                }
                Ok(Kind::Known(Reading::Boolean))
            }
            Expr::Between(between) => self.compare([&*between.expr, &*between.low, &*between.high]),
            Expr::InList(list) => self.compare(std::iter::once(&*list.expr).chain(&list.list)),
            Expr::Case(case) => self.walk_case(case),
            Expr::ScalarFunction(call) => self.walk_call(expr, call),
            _ => {
                let mut parts = Vec::new();
                let walked = expr.apply_children(|part| {
                    parts.push(part.clone());
                    Ok(TreeNodeRecursion::Continue)
                });
                walked.map_err(|error| refused(&error))?;
                self.walk_all(&parts)?;
                Ok(self.type_of(expr))
            }
        }
    }

    fn walk_binary(&mut self, BinaryExpr { left, op, right }: &BinaryExpr) -> Result<Kind, ExpressionError> {
        use Operator::*;
        let wanted = match op {
            Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom => {
                return self.compare([&**left, &**right]);
            }
            And | Or => Reading::Boolean,
            Plus | Minus | Multiply | Divide | Modulo | BitwiseAnd | BitwiseOr | BitwiseXor | BitwiseShiftLeft
            | BitwiseShiftRight => Reading::Number,
            _ => Reading::Text,
        };
        let kinds = [self.walk(left)?, self.walk(right)?];
        if kinds.contains(&Kind::Other) && wanted == Reading::Number {
            if let Some(Kind::Path(path)) = kinds.iter().find(|kind| matches!(self.known(**kind), Kind::Path(_))) {
                let path = &self.paths[*path];
                return Err(ExpressionError::new(format!("`{path}` is calculated with a time"))
                    .suggest(format!("say what it is: {path}::timestamp, to_timestamp_millis({path})")));
            }
            return Ok(Kind::Other);
        }
        for kind in kinds {
            self.is(kind, wanted)?;
        }
        Ok(match op {
            And | Or | RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch | LikeMatch | ILikeMatch
            | NotLikeMatch | NotILikeMatch => Kind::Known(Reading::Boolean),
            _ => Kind::Known(wanted),
        })
    }

    fn walk_case(&mut self, case: &Case) -> Result<Kind, ExpressionError> {
        let conditions = case.when_then_expr.iter().map(|(when, _)| &**when);
        match &case.expr {
            Some(subject) => drop(self.compare(std::iter::once(&**subject).chain(conditions))?),
            None => {
                for kind in self.walk_all(conditions)? {
                    self.is(kind, Reading::Boolean)?;
                }
            }
        }
        let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
        let kinds = self.walk_all(results.map(|result| &**result))?;
        self.all_same(kinds)
    }

    fn walk_call(&mut self, expr: &Expr, call: &ScalarFunction) -> Result<Kind, ExpressionError> {
        let kinds = self.walk_all(&call.args)?;
        let name = call.func.name();
        match name {
            "coalesce" | "nvl" | "greatest" | "least" => return self.all_same(kinds),
            "nullif" => {
                let first = kinds.first().copied().unwrap_or(Kind::Unknown);
                self.all_same(kinds)?;
                return Ok(first);
            }
            "nvl2" => return self.all_same(kinds.into_iter().skip(1).collect()),
            _ => {}
        }
        let is_math = call.func.documentation().is_some_and(|text| text.doc_section.label == "Math Functions");
        for (index, kind) in kinds.iter().enumerate() {
            let Kind::Path(_) = self.known(*kind) else { continue };
            let reading = match is_math || names::takes_number_first(name) && index == 0 {
                true => Reading::Number,
                false => self.taken_by(call, &kinds, index),
            };
            self.is(*kind, reading)?;
        }
        Ok(match self.type_of(expr) {
            Kind::Unknown if is_math => Kind::Known(Reading::Number),
            kind => kind,
        })
    }

    /// As what a function takes an argument of which nothing is known.
    fn taken_by(&self, call: &ScalarFunction, kinds: &[Kind], index: usize) -> Reading {
        let takes = |tried: &DataType, number: &DataType, unknown: &DataType| {
            let types: Vec<DataType> = (call.args.iter().zip(kinds).enumerate())
                .map(|(at, (argument, kind))| match self.known(*kind) {
                    _ if at == index => tried.clone(),
                    Kind::Known(Reading::Number) => number.clone(),
                    Kind::Known(reading) => data_type(reading),
                    Kind::Path(_) | Kind::Unknown => unknown.clone(),
                    Kind::Other => argument.get_type(&self.schema).unwrap_or(DataType::Utf8),
                })
                .collect();
            names::takes(&call.func, &types)
        };
        let (text, whole) = (DataType::Utf8, DataType::Int64);
        for (number, unknown) in [(&whole, &text), (&NUMBER, &text), (&whole, &whole), (&NUMBER, &whole)] {
            for (tried, reading) in [
                (DataType::Utf8, Reading::Text),
                (DataType::Int64, Reading::Number),
                (NUMBER, Reading::Number),
                (DataType::Float64, Reading::Number),
                (DataType::Boolean, Reading::Boolean),
            ] {
                if takes(&tried, number, unknown) {
                    return reading;
                }
            }
        }
        Reading::Text
    }

    fn type_of(&self, expr: &Expr) -> Kind {
        match expr.get_type(&self.schema) {
            Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Kind::Known(Reading::Text),
            Ok(DataType::Boolean) => Kind::Known(Reading::Boolean),
            Ok(DataType::Null) | Err(_) => Kind::Unknown,
            Ok(data_type) if data_type.is_numeric() => Kind::Known(Reading::Number),
            Ok(_) => Kind::Other,
        }
    }

    fn want(&mut self, kind: Kind, wanted: Wanted) -> Result<(), ExpressionError> {
        if !matches!(self.known(kind), Kind::Path(_)) {
            return Ok(());
        }
        let reading = match wanted {
            Wanted::Number => Reading::Number,
            Wanted::Boolean => Reading::Boolean,
            Wanted::Text | Wanted::Texts | Wanted::Time | Wanted::Id | Wanted::Any => Reading::Text,
        };
        self.is(kind, reading).map(drop)
    }

    /// What nothing asks for is text, unless it matters.
    fn settle(&mut self) -> Result<(), ExpressionError> {
        for path in 0..self.paths.len() {
            let leader = self.leader(path);
            if self.reading[leader].is_some() {
                continue;
            }
            if self.compared[leader] {
                let path = &self.paths[path];
                let message = format!("whether `{path}` is text or a number is not told by what it is compared with");
                return Err(ExpressionError::new(message).suggest(format!("say it: {path}::decimal or {path}::text")));
            }
            self.reading[leader] = Some(Reading::Text);
        }
        Ok(())
    }

    /// Each field and reading that is left, once.
    fn inputs(self, expr: Expr) -> Result<(Expr, Vec<Input>), ExpressionError> {
        let mut inputs: Vec<Input> = Vec::new();
        let mut place = |index: usize| {
            let reading = self.reading_of(index).unwrap_or(Reading::Text);
            let input = Input { path: self.paths[index].clone(), reading };
            inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            })
        };
        let renamed = expr.transform_up(|expr| match expr {
            Expr::Column(column) => Ok(Transformed::yes(numbered(place(column_index(&column.name))))),
            other => Ok(Transformed::no(other)),
        });
        Ok((renamed.map_err(|error| refused(&error))?.data, inputs))
    }
}

fn numbered(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(column_name(index)))
}

fn noun(reading: Reading) -> &'static str {
    match reading {
        Reading::Text => "text",
        Reading::Number => "a number",
        Reading::Boolean => "true or false",
    }
}

/// A path that is cast is read for that cast alone: as a number by `::decimal`, else as text, of which the cast makes the rest.
fn casts_apart(planned: Planned) -> Result<Planned, ExpressionError> {
    let Planned { expr, mut paths, mut fixed } = planned;
    let path_count = paths.len();
    let mut apart = |column: &Column, reading: Reading| {
        let path = paths[column_index(&column.name)].clone();
        let known = (path_count..paths.len()).find(|index| paths[*index] == path && fixed[*index] == Some(reading));
        numbered(known.unwrap_or_else(|| {
            paths.push(path);
            fixed.push(Some(reading));
            paths.len() - 1
        }))
    };
    let expr = expr.transform_down(|expr| {
        Ok(match expr {
            Expr::Cast(mut cast) => match (cast.expr.as_ref(), cast.field.data_type()) {
                (Expr::Column(column), data_type) if is_ours(column, path_count) => match data_type {
                    DataType::Decimal128(38, 10) => Transformed::yes(apart(column, Reading::Number)),
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                        Transformed::yes(apart(column, Reading::Text))
                    }
                    _ => {
                        *cast.expr = apart(column, Reading::Text);
                        Transformed::yes(Expr::Cast(cast))
                    }
                },
                _ => Transformed::no(Expr::Cast(cast)),
            },
            Expr::TryCast(mut cast) => match cast.expr.as_ref() {
                Expr::Column(column) if is_ours(column, path_count) => {
                    *cast.expr = apart(column, Reading::Text);
                    Transformed::yes(Expr::TryCast(cast))
                }
                _ => Transformed::no(Expr::TryCast(cast)),
            },
            other => Transformed::no(other),
        })
    });
    let expr = expr.map_err(|error| refused(&error))?.data;
    Ok(Planned { expr, paths, fixed })
}

/// Not one that was set apart already.
fn is_ours(column: &Column, path_count: usize) -> bool {
    column_index(&column.name) < path_count
}
