//! The binary: commands, exit codes, the demo.

use crate::support::{TestServer, beluga, stderr, stdout};

#[test]
fn commands_ask_a_server_or_open_a_directory() {
    let mut server = TestServer::with_people();
    let url = server.url("");
    let url = url.trim_end_matches('/');
    let counted = beluga(&["count", "gender = 'f'", "--url", url]);
    assert!(counted.status.success() && stdout(&counted).contains('2'), "{}", stderr(&counted));
    let wrong = beluga(&["count", "gendr = 'f'", "--url", url]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("did you mean `gender`"), "{}", stderr(&wrong));
    let data = server.data();
    let data = data.to_str().expect("text");
    let taken = beluga(&["serve", "--data", data, "--http", "127.0.0.1:0"]);
    assert_eq!(taken.status.code(), Some(1), "two servers on one directory are refused");
    assert!(stderr(&taken).contains("in use"), "{}", stderr(&taken));
    server.stop();
    let counted = beluga(&["count", "TRUE", "--data", data]);
    assert!(counted.status.success() && stdout(&counted).contains('4'), "{}", stderr(&counted));
    for command in [&["profile", "TRUE", "--by", "gender"][..], &["members", "TRUE"], &["explain", "gender = 'f'"]] {
        let told = beluga(&[command, &["--data", data]].concat());
        assert!(told.status.success(), "{command:?}: {}", stderr(&told));
    }
    let checked = beluga(&["check", "--data", data]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let missing = beluga(&["count", "TRUE", "--data", "/nowhere/at/all"]);
    assert!(!missing.status.success());
}

#[test]
fn the_demo_loads_asks_and_ends() {
    let demo = beluga(&["demo", "--once", "--users", "20000", "--http", "127.0.0.1:0"]);
    let told = stdout(&demo);
    assert!(demo.status.success(), "{}", stderr(&demo));
    assert!(told.contains("Loaded") && told.contains("All of 20,000 users were asked"), "{told}");
    assert!(told.contains("beluga count"), "{told}");
    let wrong = beluga(&["demo", "--dataset", "online-retial", "--once"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("did you mean `online-retail`"), "{}", stderr(&wrong));
}

#[test]
fn the_demo_takes_a_real_file() {
    let Some(file) = datasets::public_data("online-retail/online-retail.csv.gz") else { return };
    let file = file.to_str().expect("text");
    let demo = beluga(&["demo", "--once", "--dataset", "online-retail", "--file", file, "--http", "127.0.0.1:0"]);
    assert!(demo.status.success(), "{}", stderr(&demo));
    assert!(stdout(&demo).contains("All of 4,372 users were asked"), "{}", stdout(&demo));
}

#[test]
fn what_was_generated_is_loaded_by_a_backfill() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (out, data) = (path("people"), path("data"));
    let run = |arguments: &[&str]| {
        let output = beluga(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    run(&["generate", "population", "--out", &out, "--scale", "3000"]);
    run(&["apply", "-f", &format!("{out}/catalog.yaml"), "--data", &data]);
    run(&["backfill", "-f", &format!("{out}/job.yaml"), "--data", &data]);
    assert!(run(&["count", "TRUE", "--data", &data]).contains("3,000"));
}
