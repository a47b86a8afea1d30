//! Loading the users of the demo.

use super::{ABOUT_FILES, Arguments, likeness};
use crate::cli::Exit;
use crate::cli::output::grouped;
use crate::error::{Failure, Kind};
use datasets::population::Population;
use datasets::user::BatchFiller;
use datasets::{DataSet, User, likeness_question};
use engine::store::Store;
use engine::update::UpdateBatch;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Users per batch: large enough to be fast, small enough to show progress.
const BATCH_USERS: u64 = 10_000;

/// Makes the users in a second thread while this one loads them. Answers the events that came with them, as lines.
pub(super) fn load(store: &Store, data_set: DataSet, arguments: &Arguments) -> Result<Vec<String>, Exit> {
    let started = Instant::now();
    let mut catalog = data_set.catalog();
    likeness::declare(&mut catalog, likeness_question(data_set));
    store.put_catalog(catalog.clone()).map_err(Failure::from)?;
    let (source, events) = Source::open(data_set, arguments)?;
    let total = source.user_count();
    println!("Loading {} users of {} …", grouped(total), data_set.name());
    let bar = ProgressBar::new(total);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} users, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut values = 0;
    let (send, receive) = sync_channel(2);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for from in (0..total).step_by(BATCH_USERS as usize) {
                let to = (from + BATCH_USERS).min(total);
                let mut batch = UpdateBatch::new();
                source.fill(from..to, &mut batch);
                if send.send((to, batch)).is_err() {
                    return;
                }
            }
        });
        for (to, batch) in receive {
            store.write_replayable(&batch, "demo", to).map_err(Failure::from)?;
            values += batch.change_count() as u64;
            bar.set_position(to);
        }
        Ok::<(), Failure>(())
    })?;
    bar.finish_and_clear();
    store.forget_source("demo");
    store.checkpoint().map_err(Failure::from)?;
    while store.compact_fully().map_err(Failure::from)?.is_some() {}
    let elapsed = started.elapsed();
    println!(
        "Loaded {} tag values in {:.1} s ({} a second); the index takes {} KiB.",
        grouped(values),
        elapsed.as_secs_f64(),
        grouped((values as f64 / elapsed.as_secs_f64().max(1e-9)) as u64),
        grouped(store.statistics().segment_bytes / 1024),
    );
    Ok(events)
}

/// Where the users come from.
enum Source {
    Generated(datasets::population::PopulationFiller, u64),
    Public(Vec<User>, BatchFiller),
}

impl Source {
    fn open(data_set: DataSet, arguments: &Arguments) -> Result<(Source, Vec<String>), Exit> {
        let catalog = data_set.catalog();
        let same = "the catalog was made of the same list of tags";
        let Some(file) = &arguments.file else {
            let population = Population { seed: arguments.seed, user_count: arguments.users };
            return Ok((Source::Generated(population.filler(&catalog).expect(same), arguments.users), Vec::new()));
        };
        let loaded = datasets::load(data_set, file)
            .map_err(|error| Failure::new(Kind::LocalFile, error.to_string()).suggest(ABOUT_FILES))?;
        for (what, count) in &loaded.skipped {
            println!("Left out: {} {what}.", grouped(*count));
        }
        Ok((Source::Public(loaded.users, BatchFiller::new(data_set, &catalog).expect(same)), loaded.events))
    }

    fn user_count(&self) -> u64 {
        match self {
            Source::Generated(_, count) => *count,
            Source::Public(users, _) => users.len() as u64,
        }
    }

    fn fill(&self, range: Range<u64>, batch: &mut UpdateBatch) {
        match self {
            Source::Generated(filler, _) => filler.fill(range, batch),
            Source::Public(users, filler) => {
                users[range.start as usize..range.end as usize].iter().for_each(|user| filler.push(user, batch));
            }
        }
    }
}
