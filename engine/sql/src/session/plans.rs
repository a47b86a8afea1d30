//! Plans of statements over `users`, kept for when the same is asked again, most likely of a newer snapshot.
//!
//! To optimize a statement takes longer than to answer it. What comes of it holds for any snapshot as long as nothing was looked at but
//! the statement and which columns `users` has; so plans are kept that read that table only, with functions which depend on their
//! arguments only. A plan that is kept holds no snapshot: in the place of the table stands an empty one with its columns.

use super::users::UsersTable;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    AggregateUDF, Expr, LogicalPlan, ScalarUDF, TableProviderFilterPushDown, Volatility, WindowFunctionDefinition,
    WindowUDF,
};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that are kept.
const PLANS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("more than none");
/// Bytes of a statement whose plan is kept.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Columns and expressions of all nodes of a plan that is kept.
const PARTS_MAX: usize = 10_000;

/// A statement, and what its names mean beside that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) schema: String,
    /// Whether it was asked by a driver of PostgreSQL, for whom some functions are others.
    pub(super) is_of_driver: bool,
}

/// What is kept of a statement.
#[derive(Debug)]
struct Kept {
    plan: LogicalPlan,
    /// The columns that `users` had, also where the plan does not read them any more.
    columns: SchemaRef,
}

/// See the module. May be used from many threads.
#[derive(Debug)]
pub(super) struct Plans {
    kept: Mutex<LruCache<Key, Arc<Kept>>>,
    functions: Functions,
}

impl Plans {
    pub(super) fn new() -> Plans {
        Plans { kept: Mutex::new(LruCache::new(PLANS_MAX)), functions: Functions::new() }
    }

    /// The optimized plan of a statement over these users, if it was kept and holds for them.
    pub(super) fn find(&self, key: &Key, users: impl FnOnce() -> Option<UsersTable>) -> Option<LogicalPlan> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(Arc::clone)?;
        let users = Arc::new(users()?);
        if users.schema() != kept.columns {
            return None;
        }
        let of_users = |plan| match plan {
            LogicalPlan::TableScan(mut scan) => {
                let is_like = |table: &UsersTable| table.schema() == scan.source.schema();
                let with_places = || users.with_places().filter(is_like).map(Arc::new);
                let table = if is_like(&users) { Some(Arc::clone(&users)) } else { with_places() };
                let Some(table) = table.filter(|table| takes(table, &scan.filters)) else {
                    return internal_err!("the users have other columns");
                };
                scan.source = provider_as_source(table);
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        };
        kept.plan.clone().transform_up_with_subqueries(of_users).ok().map(|of_users| of_users.data)
    }

    /// Whether a plan, before it is optimized, can be kept: the columns of the users that it reads, if it does and reads nothing else.
    pub(super) fn columns_of(&self, key: &Key, plan: &LogicalPlan) -> Option<SchemaRef> {
        let mut is_taken = key.text.len() <= TEXT_BYTES_MAX;
        let mut columns = None;
        // Never fails: nothing below does.
        let _ = plan.apply_with_subqueries(|plan| {
            is_taken &= match plan {
                LogicalPlan::TableScan(scan) => {
                    let users = source_as_provider(&scan.source).ok().filter(|table| table.is::<UsersTable>());
                    columns = users.map(|users| users.schema());
                    columns.is_some()
                }
                LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Unnest(_) => true,
                // What tells of tables, or may be anything.
                _ => false,
            };
            if is_taken {
                plan.apply_expressions(|expr| {
                    expr.apply(|expr| {
                        is_taken &= self.functions.depend_on_arguments(expr);
                        Ok(TreeNodeRecursion::Continue)
                    })
                })?;
            }
            Ok(if is_taken { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        columns.filter(|_| is_taken)
    }

    /// Keeps the optimized plan of a statement over users of these columns, unless it depends on the snapshot after all, or is large.
    pub(super) fn keep(&self, key: Key, plan: &LogicalPlan, columns: SchemaRef) {
        let mut parts = 0;
        let without_users = |plan| {
            let plan: LogicalPlan = plan;
            parts += plan.schema().fields().len() + plan.expressions().len();
            if parts > PARTS_MAX {
                return internal_err!("this plan is too large");
            }
            match plan {
                LogicalPlan::TableScan(mut scan) => {
                    let table = source_as_provider(&scan.source)?;
                    match table.downcast_ref::<UsersTable>() {
                        Some(users) if !users.is_restricted() => {}
                        _ => return internal_err!("this plan reads something else"),
                    }
                    scan.source = provider_as_source(Arc::new(EmptyTable::new(table.schema())));
                    Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
                }
                other => Ok(Transformed::no(other)),
            }
        };
        if let Ok(plan) = plan.clone().transform_up_with_subqueries(without_users) {
            let kept = Arc::new(Kept { plan: plan.data, columns });
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(key, kept);
        }
    }
}

/// Whether filters that were given to the table can be, still.
fn takes(users: &UsersTable, filters: &[Expr]) -> bool {
    let taken = users.supports_filters_pushdown(&filters.iter().collect::<Vec<_>>());
    taken.is_ok_and(|taken| taken.iter().all(|taken| *taken == TableProviderFilterPushDown::Exact))
}

/// DataFusion's own functions, which are the same in every session: others know the snapshot.
#[derive(Debug)]
struct Functions {
    scalar: Vec<Arc<ScalarUDF>>,
    aggregate: Vec<Arc<AggregateUDF>>,
    window: Vec<Arc<WindowUDF>>,
}

impl Functions {
    fn new() -> Functions {
        Functions {
            scalar: SessionStateDefaults::default_scalar_functions(),
            aggregate: SessionStateDefaults::default_aggregate_functions(),
            window: SessionStateDefaults::default_window_functions(),
        }
    }

    /// Whether what an expression does by itself depends on its arguments only.
    fn depend_on_arguments(&self, expr: &Expr) -> bool {
        fn is_one<T>(known: &[Arc<T>], function: &Arc<T>) -> bool {
            known.iter().any(|known| Arc::ptr_eq(known, function))
        }
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, .. }) => {
                func.signature().volatility == Volatility::Immutable && is_one(&self.scalar, func)
            }
            Expr::AggregateFunction(AggregateFunction { func, .. }) => is_one(&self.aggregate, func),
            Expr::WindowFunction(window) => match &**window {
                WindowFunction { fun: WindowFunctionDefinition::AggregateUDF(function), .. } => {
                    is_one(&self.aggregate, function)
                }
                WindowFunction { fun: WindowFunctionDefinition::WindowUDF(function), .. } => {
                    is_one(&self.window, function)
                }
            },
            Expr::HigherOrderFunction(_) | Expr::Placeholder(_) | Expr::ScalarVariable(..) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PUBLIC, Question, Sql, SqlOptions};
    use super::*;
    use crate::facts::DeltaTables;
    use crate::session::calls::Calls;
    use engine::audience::naive::sample_catalog;
    use engine::audience::ops::QueryContext;
    use engine::catalog::{Catalog, TagType};
    use engine::clock::ManualClock;
    use engine::store::{FactTables, Options, Store};
    use engine::update::{Change, UpdateBatch};
    use engine::vfs::real::RealVfs;
    use std::sync::atomic::AtomicBool;

    struct World {
        sql: Sql,
        store: Store,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().expect("a folder");
            let tables = Arc::new(DeltaTables::open(&folder.path().join("facts")).expect("tables"));
            let facts: Arc<dyn FactTables> = Arc::clone(&tables) as _;
            let options = Options { shard_count: 4, tables: Some(facts), ..Options::default() };
            let store = Store::open(Arc::new(RealVfs), folder.path(), options).expect("opens");
            store.put_catalog(sample_catalog()).expect("catalog");
            store.publish().expect("publish");
            let options = SqlOptions {
                memory_bytes_max: 64 << 20,
                spill_bytes_max: 64 << 20,
                spill_folder: folder.path().join("spill"),
            };
            let sql = Sql::new(tables, Arc::new(ManualClock::default()), &options).expect("threads");
            World { sql, store, _folder: folder }
        }

        fn write(&self, id: &str, tag: &str, change: Change<'_>) {
            let mut batch = UpdateBatch::new();
            batch.begin_user(id.as_bytes());
            batch.push(self.store.snapshot().catalog().tag(tag).expect("declared").id, change);
            self.store.write(&batch, None).expect("written");
            self.store.publish().expect("publish");
        }

        fn ask(&self, text: &str) -> Result<String, String> {
            let (never, context) = (AtomicBool::new(false), QueryContext::default());
            let question = Question { text: text.to_owned(), ..Question::default() };
            let planned = self.sql.plan(self.store.snapshot(), &question, Vec::new(), &context);
            let mut answer = planned.map_err(|error| error.to_string())?.start();
            let mut batches = Vec::new();
            while let Some(batch) = answer.next(&never).map_err(|error| error.to_string())? {
                batches.push(batch);
            }
            Ok(arrow::util::pretty::pretty_format_batches(&batches).expect("shown").to_string())
        }

        fn columns(&self, text: &str) -> Vec<String> {
            let (question, context) =
                (Question { text: text.to_owned(), ..Question::default() }, QueryContext::default());
            let planned =
                self.sql.plan(self.store.snapshot(), &question, Vec::new(), &context).expect("a good statement");
            planned.schema().fields().iter().map(|field| field.name().clone()).collect()
        }

        fn is_kept(&self, text: &str) -> bool {
            let key = Key { text: text.to_owned(), schema: PUBLIC.to_owned(), is_of_driver: false };
            let (snapshot, context) = (self.store.snapshot(), QueryContext::default());
            let calls = Arc::new(Calls::of(text, &snapshot, &context, 0).expect("good calls"));
            self.sql.plans.find(&key, || Some(UsersTable::new(snapshot, context, calls))).is_some()
        }
    }

    #[test]
    fn plans_over_users_are_kept_and_answer_the_same_of_what_is_new() {
        let world = World::new();
        let statements = [
            "SELECT count(*) FROM users WHERE gender = 'f' AND age BETWEEN 20 AND 40 AND array_has(interest, 'yoga')",
            "SELECT gender, count(*), avg(age) FROM users GROUP BY gender ORDER BY gender",
            "SELECT user_id, upper(gender) FROM users WHERE abs(age) = 30",
            "SELECT age FROM users WHERE gender LIKE 'f%' ORDER BY age DESC NULLS LAST LIMIT 2",
            "WITH old AS (SELECT * FROM users WHERE age > 30) SELECT count(*) FROM old o JOIN users u ON o.gender = u.gender",
            "SELECT user_id, row_number() OVER (ORDER BY user_id) FROM users ORDER BY user_id",
            "SELECT count(*) FROM users WHERE age > (SELECT avg(age) FROM users)",
            "SELECT o.gender, u.age FROM users o JOIN users u ON o.user_id = u.user_id ORDER BY u.age",
        ];
        for statement in statements {
            world.ask(statement).expect("answers");
            assert!(world.is_kept(statement), "{statement}");
        }
        let fresh = World::new();
        for (number, gender) in ["f", "m", "f", "x"].iter().enumerate() {
            for world in [&world, &fresh] {
                world.write(&format!("u{number}"), "gender", Change::Enum(gender));
                world.write(&format!("u{number}"), "age", Change::Number(29 + number as i64));
                world.write(&format!("u{number}"), "interest", Change::Add("yoga"));
            }
        }
        for statement in statements {
            assert_eq!(world.ask(statement), fresh.ask(statement), "{statement}");
        }
    }

    #[test]
    fn plans_that_depend_on_more_are_not_kept() {
        let world = World::new();
        let statements = [
            "SELECT count(*) FROM users WHERE did('purchase')",
            "SELECT at_least(1, gender = 'f', age > 3) FROM users",
            "SELECT now()",
            "SELECT current_date, count(*) FROM users",
            "SELECT random()",
            "SELECT bitmap_count(bitmap_agg(user_id)) FROM users",
            "SELECT approx_count_distinct(user_id) FROM users",
            "SELECT count(*) FROM purchase",
            "SELECT count(*) FROM users WHERE user_id IN (SELECT user_id FROM purchase)",
            "SELECT count(*) FROM users u JOIN purchase p ON u.user_id = p.user_id",
            "SELECT * FROM tags",
            "SELECT 1",
            "DESCRIBE users",
            "DESCRIBE purchase",
            "DESCRIBE SELECT * FROM tags",
            "SELECT * FROM (VALUES (1)) v",
            "SELECT table_name FROM information_schema.tables",
            "EXPLAIN SELECT count(*) FROM users",
            "SELECT count(*) FROM users WHERE array_any_match(interest, v -> v LIKE 'y%')",
        ];
        for statement in statements {
            world.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
            assert!(!world.is_kept(statement), "{statement}");
        }
    }

    #[test]
    fn a_plan_ends_with_the_columns_it_was_made_for() {
        let world = World::new();
        let statement = "SELECT count(*), max(age) FROM users WHERE age > 30";
        world.write("u1", "age", Change::Number(31));
        let before = world.ask(statement).expect("answers");
        let mut catalog: Catalog = world.store.snapshot().catalog().clone();
        catalog.declare("size", TagType::Enum).expect("new");
        world.store.put_catalog(catalog.clone()).expect("catalog");
        world.store.publish().expect("publish");
        assert_eq!(world.ask(statement), Ok(before));
        assert!(world.is_kept(statement), "it was planned anew");
        // Nothing of this one is read, but its columns are told.
        let nobody = "SELECT * FROM users LIMIT 0";
        assert!(world.columns(nobody).contains(&"age".to_owned()) && world.is_kept(nobody));
        catalog.drop_tag("age").expect("was there");
        world.store.put_catalog(catalog.clone()).expect("catalog");
        world.store.publish().expect("publish");
        assert!(!world.is_kept(statement) && !world.is_kept(nobody));
        assert!(!world.columns(nobody).contains(&"age".to_owned()));
        assert!(world.ask(statement).expect_err("an error").contains("age"));
        catalog.declare("age", TagType::Set).expect("new");
        world.store.put_catalog(catalog).expect("catalog");
        world.store.publish().expect("publish");
        assert!(world.ask(statement).is_err(), "a list is not compared with a number");
    }
}
