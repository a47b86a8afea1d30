//! The sample questions of every data set, asked of a store that holds it: each has an answer that is neither nobody
//! nor everybody, and the plain evaluation of the same expression over the plain users gives the same count.

use datasets::{BatchFiller, DataSet, Population, User, Value, load, public_data, sample_questions};
use engine::audience::naive;
use engine::audience::{bind, ops, parse};
use engine::store::{Options, Store};
use engine::update::UpdateBatch;
use engine::vfs::memory::MemoryVfs;
use std::path::Path;
use std::sync::Arc;

fn store_of(data_set: DataSet, users: &[User]) -> Store {
    let options = Options { shard_count: 4, ..Options::default() };
    let store = Store::open(Arc::new(MemoryVfs::default()), Path::new("/data"), options).expect("opens");
    store.put_catalog(data_set.catalog()).expect("taken");
    let filler = BatchFiller::new(data_set, &data_set.catalog()).expect("its own catalog");
    let mut batch = UpdateBatch::new();
    for some in users.chunks(5_000) {
        batch.clear();
        some.iter().for_each(|user| filler.push(user, &mut batch));
        store.write(&batch, None).expect("written");
    }
    store.publish().expect("published");
    store
}

fn plain(data_set: DataSet, user: &User) -> naive::User {
    let value = |value: &Value| match value {
        Value::Text(text) => naive::Value::Enum(text.clone()),
        Value::Number(number) => naive::Value::Number(*number),
        Value::Flag(flag) => naive::Value::Flag(*flag),
        Value::Set(values) => naive::Value::Set(values.iter().cloned().collect()),
    };
    let tags = data_set.tags().iter().zip(&user.values);
    let tags = tags.filter_map(|((name, _), found)| Some(((*name).to_owned(), value(found.as_ref()?))));
    naive::User { id: user.id.clone(), tags: tags.collect(), ..naive::User::default() }
}

#[track_caller]
fn check(data_set: DataSet, users: &[User]) {
    let store = store_of(data_set, users);
    let snapshot = store.snapshot();
    let plain: Vec<naive::User> = users.iter().map(|user| plain(data_set, user)).collect();
    for question in sample_questions(data_set) {
        let expr = parse(question.expression).expect("in the language");
        let predicate = bind(&expr, snapshot.catalog(), snapshot.audiences(), 0).expect(question.expression);
        let count = ops::count(&snapshot, &predicate, &ops::QueryContext::default()).expect("readable");
        let expected = plain.iter().filter(|user| naive::fits(&predicate, user, snapshot.catalog())).count() as u64;
        assert_eq!(count, expected, "{}", question.expression);
        assert!(0 < count && count < users.len() as u64, "{}: {count} of {}", question.expression, users.len());
    }
}

#[test]
fn population() {
    let users: Vec<User> = Population { seed: 1, user_count: 30_000 }.users(0..30_000).collect();
    check(DataSet::Population, &users);
}

#[test]
fn public_data_sets() {
    for data_set in DataSet::ALL.into_iter().filter(|set| *set != DataSet::Population) {
        let Some(folder) = public_data(data_set.name()) else { continue };
        check(data_set, &load(data_set, &folder).expect("loads").users);
    }
}
