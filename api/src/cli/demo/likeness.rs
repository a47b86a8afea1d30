//! Users like others in the demo: vectors made of what they bought by a job of the server, and a question about them.

use super::Failure;
use crate::cli::output::{duration, grouped};
use crate::error::Kind;
use crate::jobs::JobState;
use crate::rest::v1::jobs::JobAnswer;
use crate::rest::v1::lookalike::LookalikeAnswer;
use crate::server::Server;
use datasets::{LikenessQuestion, PURCHASE};
use engine::catalog::{Catalog, Metric};
use reqwest::blocking::{Client, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The space of the demo.
pub(super) const SPACE: &str = "taste";
/// How often the job is asked about.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Declares the space, where there is something to make vectors of.
pub(super) fn declare(catalog: &mut Catalog, question: Option<LikenessQuestion>) {
    if let Some(question) = question {
        catalog.declare_space(SPACE, question.dimension, Metric::Cosine).expect("a new catalog takes a new space");
    }
}

/// Makes the vectors, and tells how many and how long it took; false if there is too little to make them of.
pub(super) fn make_vectors(server: &Server, question: &LikenessQuestion) -> Result<bool, Failure> {
    let began = Instant::now();
    let job = json!({"backfill": {"name": "taste", "into": format!("spaces/{SPACE}"),
        "from_fact": {"fact": PURCHASE, "item": question.item}}});
    let client = client()?;
    let mut job: JobAnswer = read(client.post(format!("{}/v1/jobs", server.url())).json(&job).send())?;
    while !job.state.is_final() {
        std::thread::sleep(LOOK_INTERVAL);
        job = read(client.get(format!("{}/v1/jobs/{}", server.url(), job.id)).send())?;
    }
    match (&job.state, &job.made) {
        (JobState::Done, Some(made)) => println!(
            "Made {} vectors of {} numbers of who bought what, in {:.1} s.",
            grouped(made.vectors),
            question.dimension,
            began.elapsed().as_secs_f64()
        ),
        _ => println!("No vectors were made: {}.", job.error.as_deref().unwrap_or("the job ended early")),
    }
    Ok(job.state == JobState::Done)
}

/// Asks for users like others.
pub(super) fn ask(server: &Server, question: &LikenessQuestion) -> Result<(), Failure> {
    let asked = |more: Value| -> Result<LookalikeAnswer, Failure> {
        let mut request = json!({"space": SPACE, "seed": question.seed, "share": 0.01, "limit": 0});
        request.as_object_mut().into_iter().zip(more.as_object()).for_each(|(all, more)| all.extend(more.clone()));
        read(client()?.post(format!("{}/v1/lookalike", server.url())).json(&request).send())
    };
    // What hiding takes is no part of the time that is told, nor is the first look at the vectors.
    let measured = match asked(json!({"holdout": true})) {
        Ok(measured) => measured,
        Err(failure) => {
            println!("{}: {}", question.title, failure.detail);
            return Ok(());
        }
    };
    let answer = asked(json!({}))?;
    let found = measured.holdout.as_ref().and_then(|holdout| Some((holdout, holdout.lift?)));
    let quality = found.map_or_else(
        || "the seed is too small to hide some of it".to_owned(),
        |(holdout, lift)| {
            format!("{lift:.1} times as many hidden ones among them as by chance ({} hidden)", grouped(holdout.hidden))
        },
    );
    println!(
        "{}: {} of {} users with a vector in {}; {quality}.",
        question.title,
        grouped(answer.count),
        grouped(answer.candidates.unwrap_or_default()),
        duration(answer.elapsed_us),
    );
    Ok(())
}

fn client() -> Result<Client, Failure> {
    Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().map_err(failed)
}

fn read<T: DeserializeOwned>(answer: Result<Response, reqwest::Error>) -> Result<T, Failure> {
    let answer = answer.map_err(failed)?;
    if !answer.status().is_success() {
        let told: Value = answer.json().map_err(failed)?;
        let detail = told["detail"].as_str().unwrap_or("the server refused").to_owned();
        return Err(Failure::new(Kind::LocalFile, detail));
    }
    answer.json().map_err(failed)
}

fn failed(error: reqwest::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("ask the server: {error}"))
}
