//! The binary: the demo, and generated data.

use crate::facts::now;
use crate::support::{beluga, stderr, stdout};

#[test]
fn the_demo_loads_asks_and_ends() {
    let demo = beluga(&[
        "demo",
        "--once",
        "--users",
        "20000",
        "--events",
        "5000",
        "--http",
        "127.0.0.1:0",
        "--flight",
        "127.0.0.1:0",
    ]);
    let told = stdout(&demo);
    assert!(demo.status.success(), "{}", stderr(&demo));
    assert!(told.contains("Loaded") && told.contains("All of 20,000 users were asked"), "{told}");
    assert!(told.contains("beluga count") && told.contains("beluga lookalike"), "{told}");
    assert!(told.contains("vectors of 32 numbers of who bought what"), "{told}");
    assert!(told.contains("The 1 % most like those who bought sportswear:"), "{told}");
    assert!(told.contains("Streamed 5,000 events") && told.contains("seen by questions after"), "{told}");

    let wrong = beluga(&["demo", "--dataset", "online-retial", "--once"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("did you mean `online-retail`"), "{}", stderr(&wrong));
}

#[test]
fn the_demo_takes_a_real_file() {
    let Some(file) = datasets::public_data("online-retail/online-retail.csv.gz") else { return };
    let file = file.to_str().expect("text");
    let arguments = [
        "demo",
        "--once",
        "--dataset",
        "online-retail",
        "--file",
        file,
        "--http",
        "127.0.0.1:0",
        "--flight",
        "127.0.0.1:0",
    ];
    let demo = beluga(&[&arguments[..], &["--rate", "1000000"]].concat());
    assert!(demo.status.success(), "{}", stderr(&demo));
    // As many as lines with a customer are published.
    assert!(stdout(&demo).contains("Streamed 406,829 events"), "{}", stdout(&demo));
    assert!(stdout(&demo).contains("All of 4,372 users were asked"), "{}", stdout(&demo));
    assert!(stdout(&demo).contains("times as many hidden ones among them as by chance"), "{}", stdout(&demo));
}

#[test]
fn what_was_generated_is_loaded_by_a_backfill() {
    // What is generated ends today, which is to be the same day for both.
    now(0);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (out, data) = (path("people"), path("data"));
    let run = |arguments: &[&str]| {
        let output = beluga(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let mut answers = Vec::new();
    for format in ["parquet", "ndjson"] {
        let (out, data) = (format!("{out}-{format}"), format!("{data}-{format}"));
        let options = ["--scale", "3000", "--events", "2000", "--days", "10", "--format", format];
        run(&[&["generate", "population", "--out", &out][..], &options].concat());
        run(&["apply", "-f", &format!("{out}/catalog.yaml"), "--data", &data]);
        run(&["backfill", "-f", &format!("{out}/job.yaml"), "--data", &data]);
        let loaded = run(&["backfill", "-f", &format!("{out}/purchases.yaml"), "--data", &data]);
        assert!(loaded.contains("2,000"), "{loaded}");
        assert!(run(&["count", "TRUE", "--data", &data]).contains("3,000"));
        // All of them are of known users and of these days.
        let question = |days| format!("did('purchase', sum(amount) >= 50, within => '{days} days')");
        let count = |days| {
            let answer = run(&["count", &question(days), "--data", &data, "--output", "json"]);
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            answer["count"].as_u64().expect("a count")
        };
        assert_eq!(count(11), count(300));
        answers.push([2, 5, 11].map(count));
    }
    assert_eq!(answers[0], answers[1]);
    assert_ne!(answers[0][0], answers[0][2]);
}
