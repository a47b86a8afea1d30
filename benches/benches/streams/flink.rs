//! Against Flink, which counts by key and minute and does nothing else.

use crate::events::Expected;
use crate::intake::{CHECKPOINT_SECONDS, take};
use crate::median;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Ways to run it: title, arguments. Few keys are the easier ones: most of the counting is done where the file is read.
const WAYS: [(&str, &[&str]); 4] = [
    ("by user, state kept exactly once", &["--key", "user_id", "--checkpoint"]),
    ("by user, nothing kept", &["--key", "user_id"]),
    ("by category, state kept exactly once", &["--key", "category", "--checkpoint"]),
    ("by category, nothing kept", &["--key", "category"]),
];

pub(crate) fn run(file: &Path, expected: &Expected, rounds: u64) {
    let Ok(python) = std::env::var("BELUGA_PYTHON") else {
        println!("flink: BELUGA_PYTHON does not say which Python has apache-flink");
        return;
    };
    let folder = file.parent().expect("a file is in a folder");
    let source = json!({"files": {"paths": file}, "into": "purchase"});
    let mut results = [const { (Vec::new(), Vec::new(), Vec::new()) }; WAYS.len()];
    for _ in 0..rounds {
        let ours = take(&source, folder, expected);
        println!("beluga, rows and activity: {}", ours.describe(expected));
        for ((title, arguments), (rates, times, costs)) in WAYS.iter().zip(&mut results) {
            let (rate, cpu) = count(&python, file, arguments, expected);
            let each = cpu * 1e6 / expected.events as f64;
            println!("flink, {title}: {:.0} thousand events a second, {each:.2} µs of processor time each", rate / 1e3);
            rates.push(rate);
            times.push(ours.rate(expected) / rate);
            costs.push(cpu / ours.cpu.as_secs_f64());
        }
    }
    for ((title, _), (rates, times, costs)) in WAYS.iter().zip(&mut results) {
        println!(
            "against flink {title:<38} {:>5.0} thousand a second {:>7.2}x, {:>6.2}x by processor time",
            median(rates) / 1e3,
            median(times),
            median(costs)
        );
    }
}

/// Events a second of its job, without what starts before it, and the processor time in seconds.
fn count(python: &str, file: &Path, arguments: &[&str], expected: &Expected) -> (f64, f64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/flink.py");
    let mut command = Command::new(python);
    command.arg(script).arg(file).args(arguments);
    if arguments.last() == Some(&"--checkpoint") {
        command.arg(CHECKPOINT_SECONDS.to_string());
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("python starts");
    assert!(output.status.success(), "flink: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a line of JSON");
    assert_eq!(answer["events"].as_u64(), Some(expected.events), "flink counts every event: {answer}");
    if arguments.contains(&"user_id") {
        assert_eq!(answer["windows"].as_u64(), Some(expected.windows), "flink counts users and minutes: {answer}");
    }
    let seconds = |name: &str| answer[name].as_f64().expect("seconds");
    (expected.events as f64 / seconds("job_seconds"), seconds("cpu_seconds"))
}
