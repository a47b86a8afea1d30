//! All questions of TPC-H, asked of a session of ours and of DataFusion as it comes: our rules break nothing.

use crate::support::{World, rows};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use engine::audience::ops::QueryContext;
use engine_sql::session::SystemTable;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::q_and_a::queries;
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};

/// 1 is a gigabyte; less is enough to have an answer to most.
const SCALE_DEFAULT: f64 = 0.005;

/// What stands for `:1`, `:2`, … of each question: the values that the benchmark validates with.
const PARAMETERS: [&[&str]; 22] = [
    &["90"],
    &["15", "BRASS", "EUROPE"],
    &["BUILDING", "1995-03-15"],
    &["1993-07-01"],
    &["ASIA", "1994-01-01"],
    &["1994-01-01", "0.06", "24"],
    &["FRANCE", "GERMANY"],
    &["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"],
    &["green"],
    &["1993-10-01"],
    &["GERMANY", "0.0001"],
    &["MAIL", "SHIP", "1994-01-01"],
    &["special", "requests"],
    &["1995-09-01"],
    &["1996-01-01"],
    &["Brand#45", "MEDIUM POLISHED", "49", "14", "23", "45", "19", "3", "36", "9"],
    &["Brand#23", "MED BOX"],
    &["300"],
    &["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"],
    &["forest", "1994-01-01", "CANADA"],
    &["SAUDI ARABIA"],
    &["13", "31", "23", "29", "30", "18", "17"],
];

#[derive(Debug)]
struct Table(&'static str, RecordBatch);

impl SystemTable for Table {
    fn name(&self) -> &'static str {
        self.0
    }

    fn schema(&self) -> SchemaRef {
        self.1.schema()
    }

    fn rows(&self) -> Result<RecordBatch, String> {
        Ok(self.1.clone())
    }
}

fn table(name: &'static str, batches: impl RecordBatchIterator) -> Arc<Table> {
    let schema = Arc::clone(batches.schema());
    let batches: Vec<RecordBatch> = batches.collect();
    Arc::new(Table(name, concat_batches(&schema, &batches).expect("of one schema")))
}

fn tables(scale: f64) -> [Arc<Table>; 8] {
    [
        table("customer", CustomerArrow::new(CustomerGenerator::new(scale, 1, 1))),
        table("lineitem", LineItemArrow::new(LineItemGenerator::new(scale, 1, 1))),
        table("nation", NationArrow::new(NationGenerator::new(scale, 1, 1))),
        table("orders", OrderArrow::new(OrderGenerator::new(scale, 1, 1))),
        table("part", PartArrow::new(PartGenerator::new(scale, 1, 1))),
        table("partsupp", PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1))),
        table("region", RegionArrow::new(RegionGenerator::new(scale, 1, 1))),
        table("supplier", SupplierArrow::new(SupplierGenerator::new(scale, 1, 1))),
    ]
}

/// A question as one statement, its tables named by `WITH`, so that it can be asked wherever they are.
fn statement(number: usize, scale: f64, tables: &[Arc<Table>], schema: &str) -> String {
    let mut text = queries::query(number as i32).expect("there are 22").replace("day (3)", "day").replace(":s", "");
    for (at, value) in PARAMETERS[number - 1].iter().enumerate().rev() {
        // The eleventh asks for a share that shrinks as the tables grow.
        let value = if (number, at) == (11, 1) { format!("{:.7}", 0.0001 / scale) } else { (*value).to_owned() };
        text = text.replace(&format!(":{}", at + 1), &value);
    }
    let named = |table: &Arc<Table>| format!("{} AS (SELECT * FROM {schema}{})", table.0, table.0);
    let mut with: Vec<String> = tables.iter().map(named).collect();
    let mut parts = text.split(';').map(str::trim);
    let mut asked = parts.next().expect("a statement");
    // One is told as a view.
    if let Some((head, body)) = asked.strip_prefix("create view").and_then(|view| view.split_once(" as\n")) {
        with.push(format!("{head} AS ({body})"));
        asked = parts.next().expect("what is asked of the view");
    }
    format!("WITH {} {asked}", with.join(", "))
}

#[test]
fn all_22_questions_have_the_answers_of_plain_datafusion() {
    let scale = std::env::var("BELUGA_TPCH_SCALE").map_or(SCALE_DEFAULT, |text| text.parse().expect("a number"));
    let tables = tables(scale);
    let world = World::new(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(8 << 20).build().expect("threads");
    let plain = SessionContext::new();
    for table in &tables {
        plain.register_batch(table.0, table.1.clone()).expect("a table");
    }
    let mut answered = 0;
    for number in 1..=22 {
        let system = tables.iter().map(|table| Arc::clone(table) as Arc<dyn SystemTable>).collect();
        let asked = statement(number, scale, &tables, "system.");
        let never = AtomicBool::new(false);
        let answer = world.sql.ask(world.store.snapshot(), &asked, system, &QueryContext::default());
        let mut answer = answer.unwrap_or_else(|error| panic!("question {number}: {error}\n{asked}"));
        let mut ours = Vec::new();
        while let Some(batch) = answer.next(&never).unwrap_or_else(|error| panic!("question {number}: {error}")) {
            ours.push(batch);
        }
        let asked = statement(number, scale, &tables, "");
        let theirs = runtime.block_on(async { plain.sql(&asked).await?.collect().await }).expect("an answer");
        let (mut ours, mut theirs) = (rows(&ours), rows(&theirs));
        answered += usize::from(!theirs.is_empty());
        // What is equal in all columns that are sorted by may come in any order.
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "question {number}");
    }
    assert!(answered >= 15, "only {answered} questions have an answer at this scale");
}
