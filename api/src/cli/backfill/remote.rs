//! A backfill that a running server does: posted as a job, and watched until it ends.

use super::{ERRORS_SHOWN, Exit, Seen, Shown};
use crate::cli::interrupt::interrupted;
use crate::cli::output::grouped;
use crate::cli::target::{Remote, TrustArguments};
use crate::error::{Failure, Kind};
use crate::jobs::{JobDefinition, JobState};
use crate::rest::v1::jobs::JobAnswer;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the server is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How soon Ctrl-C is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a server that does not answer, perhaps because it is being started again, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(url: &str, trust: &TrustArguments, definition: JobDefinition) -> Result<(), Exit> {
    let server = Remote::new(url, trust)?;
    let interrupted = interrupted()?;
    let mut job = server.post_job(&definition)?;
    let place = format!("{}/v1/jobs/{}", url.trim_end_matches('/'), job.id);
    eprintln!("job {} is taken; Ctrl-C leaves it running", job.id);
    let mut shown = Shown::new();
    let mut answered = Instant::now();
    while !job.state.is_final() {
        let asked = Instant::now();
        while asked.elapsed() < ASK_INTERVAL {
            if interrupted.load(Ordering::Relaxed) {
                shown.bar.finish_and_clear();
                eprintln!("the job goes on in the server; {place} tells how it is, and deleting that cancels it");
                return Err(Exit::Told(1));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        match server.job(&job.id) {
            Ok(now) => {
                answered = Instant::now();
                job = now;
            }
            Err(failure) if is_away(&failure) && answered.elapsed() < PATIENCE => continue,
            Err(failure) if is_away(&failure) => {
                let suggestion = format!("the job goes on when the server does; {place} tells how it is");
                return Err(failure.suggest(suggestion).into());
            }
            Err(failure) => return Err(failure.into()),
        }
        shown.update(&Seen::from(&job.progress));
    }
    shown.bar.finish_and_clear();
    tell(&job)
}

fn is_away(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unreachable | Kind::NotReady)
}

fn tell(job: &JobAnswer) -> Result<(), Exit> {
    let (noun, unmatched) = super::words(&job.definition.backfill);
    let progress = &job.progress;
    for refused in job.refused.iter().take(ERRORS_SHOWN) {
        eprintln!("refused: {}, row {}: {}", refused.file, refused.row, refused.error);
    }
    if !job.unmatched.is_empty() {
        println!("{unmatched}: {}", job.unmatched.join(", "));
    }
    match &job.made {
        Some(made) if job.state == JobState::Done => println!("{}", super::told_made(made, progress.rows_done)),
        _ if job.definition.backfill.from_fact.is_some() => {}
        _ => tell_rows(job, noun),
    }
    match job.state {
        JobState::Done => Ok(()),
        JobState::Cancelled => {
            Err(Failure::new(Kind::LocalFile, format!("job {} was cancelled; what it loaded stays", job.id)).into())
        }
        JobState::Failed | JobState::Queued | JobState::Running => {
            let why = job.error.as_deref().unwrap_or("it ended early");
            Err(Failure::new(Kind::LocalFile, format!("job {}: {why}", job.id)).into())
        }
    }
}

fn tell_rows(job: &JobAnswer, noun: &str) {
    let progress = &job.progress;
    println!(
        "{} rows, {} {noun}, {} rows refused, {} files",
        grouped(progress.rows_done),
        grouped(progress.values + progress.events),
        grouped(progress.rejected),
        progress.files_done,
    );
}
