//! Commands that ask: the same answer from a server and from its directory, in every output; and words that help when
//! there is none.

use crate::support::{BELUGA, TestServer, beluga, command, stderr, stdout};
use crate::victim::free_port;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpListener;
use std::process::{Output, Stdio};

/// What a command prints, which must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = beluga(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn assert_ends(output: &Output, code: i32, words: &[&str]) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(stdout(output), "", "nothing is printed for programs");
    for word in words {
        assert!(told.contains(word), "`{word}` is missing: {told}");
    }
}

fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect()).collect()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Takes out what differs from run to run.
fn without_time(mut answer: Value) -> Value {
    let fields = answer.as_object_mut().expect("an object");
    assert!(fields.remove("elapsed_us").is_some() && fields.remove("epoch").is_some());
    answer
}

#[test]
fn programs_get_the_same_from_a_server_and_from_its_directory() {
    let mut server = TestServer::with_people();
    let url = server.url("").trim_end_matches('/').to_owned();
    let data = server.data().to_str().expect("text").to_owned();
    let questions: [&[&str]; 7] = [
        &["count", "gender = 'f'"],
        &["members", "gender = 'f'"],
        &["profile", "gender = 'f'", "--by", "interest,age", "--against", "age > 0"],
        &["overlap", "women=gender = 'f'", "yoga=interest = 'yoga'"],
        &["explain", "gender = 'f' AND age < 30"],
        &["profile", "gender = 'f'", "--distinguish", "5"],
        &["overlap", "--regions", "women=gender = 'f'", "yoga=interest = 'yoga'"],
    ];
    let ask = |target: [&str; 2]| -> Vec<[String; 3]> {
        let print = |question: &&[&str], output| printed(&[question, &["--output", output][..], &target].concat());
        questions.iter().map(|question| ["json", "csv", "ndjson"].map(|output| print(question, output))).collect()
    };
    let remote = ask(["--url", &url]);
    server.stop();
    let local = ask(["--data", &data]);
    for (remote, local) in remote.iter().zip(&local) {
        let parse = |text: &str| without_time(serde_json::from_str(text).expect("JSON"));
        assert_eq!(parse(&remote[0]), parse(&local[0]));
        assert_eq!(remote[1..], local[1..]);
    }

    let [count, members, profile, overlap, explain, distinguish, regions] = &remote[..] else {
        panic!("seven questions")
    };
    assert_eq!(regions[1], "only_in,users\nwomen,0\nyoga,0\n\"women, yoga\",2\n");
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(parse(&count[0])["count"], 2);
    assert_eq!((count[1].as_str(), objects(&count[2])), ("count\n2\n", vec![json!({"count": 2})]));
    let mut users = csv_rows(&members[1]).concat();
    users.sort();
    assert_eq!(users, ["u1", "u3", "user_id"]);
    let ids = objects(&members[2]).into_iter().map(|row| row["user_id"].clone());
    assert_eq!(json!(ids.collect::<Vec<_>>()), parse(&members[0])["users"]);
    assert_eq!(csv_rows(&distinguish[1])[0][..2], ["expression", "count"]);
    let rows = csv_rows(&profile[1]);
    assert_eq!(rows[0], ["tag", "value", "count", "share", "baseline_count", "index", "q_value", "distinction"]);
    // Both women do yoga, and so do two of the three with an age: 100 × (2 / 2) / (2 / 3).
    assert_eq!(rows[1][..6], ["interest", "yoga", "2", "1", "2", "150"]);
    assert_eq!(objects(&profile[2]).len(), rows.len() - 1);
    assert_eq!(objects(&profile[2])[0]["index"], 150.0);
    assert_eq!(csv_rows(&overlap[1])[2], ["women", "yoga", "2", "1"]);
    let operators: Vec<String> = csv_rows(&explain[1]).into_iter().skip(1).map(|row| row[0].clone()).collect();
    assert_eq!(operators, ["0", "1", "1"], "a root and its two operands");
}

#[test]
fn all_members_are_listed_for_programs_and_a_few_for_people() {
    let server = TestServer::start();
    server.put_catalog(&crate::support::catalog());
    let lines: String = (0..2_500).map(|n| format!("{{\"user_id\":\"user,{n}\",\"set\":{{\"age\":{n}}}}}\n")).collect();
    server.post_tags(&lines);
    server.settle();
    let url = server.url("");
    let list = |more: &[&str]| printed(&[&["members", "age >= 0", "--url", &url], more].concat());
    assert_eq!(csv_rows(&list(&["--output", "csv"])).len(), 2_501);
    assert_eq!(objects(&list(&["--output", "ndjson"])).len(), 2_500);
    assert_eq!(csv_rows(&list(&["--output", "csv", "--limit", "7"])).len(), 8);
    assert_eq!(list(&[]).matches("user,").count(), 20);
    let json: Value = serde_json::from_str(&list(&["--output", "json"])).expect("JSON");
    assert_eq!(json["users"].as_array().map(Vec::len), Some(1_000));
    let parquet = beluga(&["members", "age >= 0", "--output", "parquet", "--url", &url]).stdout;
    let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet));
    let rows = rows.expect("a Parquet file").build().expect("rows");
    assert_eq!(rows.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>(), 2_500);
}

#[test]
fn an_expression_is_read_from_standard_input_too() {
    let server = TestServer::with_people();
    for expression in
        ["gender = 'f'\n  AND age < 30", "{\"all\":[{\"tag\":\"gender\",\"is\":\"f\"},{\"tag\":\"age\",\"is\":28}]}"]
    {
        let mut asked = command(BELUGA);
        asked.args(["count", "-", "--output", "csv", "--url", &server.url("")]);
        let mut asked = asked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start beluga");
        asked.stdin.take().expect("standard input").write_all(expression.as_bytes()).expect("write");
        let output = asked.wait_with_output().expect("wait");
        assert_eq!(stdout(&output), "count\n1\n", "{expression}");
    }
}

#[test]
fn what_cannot_be_reached_is_told_with_what_to_do() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let questions: [&[&str]; 4] = [
        &["count", "TRUE"],
        &["members", "TRUE", "--output", "csv"],
        &["profile", "TRUE", "--by", "x"],
        &["explain", "TRUE"],
    ];
    for question in questions {
        let asked = beluga(&[question, &["--url", &url]].concat());
        assert_ends(&asked, 1, &[&url, "no server answers there", "beluga serve --data DIR", "--data"]);
    }
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", other.local_addr().expect("an address"));
    let answering = std::thread::spawn(move || {
        use std::io::Read;
        let (mut connection, _) = other.accept().expect("a connection");
        let _ = connection.read(&mut [0; 65_536]).expect("a request");
        connection.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\noops!").expect("answer");
    });
    assert_ends(&beluga(&["count", "TRUE", "--url", &url]), 1, &["502", "is it a Beluga server?"]);
    answering.join().expect("the other server ends well");
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_is_right() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    std::fs::write(path("settings.yaml"), "htp: 127.0.0.1:0").expect("write");
    std::fs::write(path("catalog.yaml"), "tags: { gender: { typ: enum } }").expect("write");
    let (settings, catalog, data) = (path("settings.yaml"), path("catalog.yaml"), path("data"));
    let cases: [(&[&str], &[&str]); 14] = [
        (&[], &["Usage"]),
        (&["cuont", "TRUE"], &["cuont", "count"]),
        (&["count"], &["EXPR"]),
        (&["count", "TRUE", "--ouput", "json"], &["--ouput", "--output"]),
        (&["count", "TRUE", "--output", "xml"], &["xml", "ndjson"]),
        (&["count", "TRUE", "--url", "http://x", "--data", "y"], &["--url", "--data"]),
        (&["count", "TRUE", "--url", "ftp://x"], &["http://HOST:PORT"]),
        (&["members", "TRUE", "--limit", "0"], &["1..=100000"]),
        (&["explain"], &["EXPR"]),
        (&["overlap", "gender"], &["NAME=EXPR"]),
        (&["count", "{\"tag\":"], &["JSON"]),
        (&["serve", "--set", "htp=1"], &["did you mean `http`?"]),
        (&["serve", "--config", &settings], &["did you mean `http`?"]),
        (&["apply", "-f", &catalog, "--data", &data], &["typ"]),
    ];
    for (arguments, words) in cases {
        assert_ends(&beluga(arguments), 2, words);
    }
    let server = TestServer::with_people();
    let wrong = beluga(&["count", "age > 30 AND gendr = 'f'", "--url", &server.url("")]);
    assert_ends(&wrong, 2, &["  age > 30 AND gendr = 'f'\n               ^^^^^^^^^^^\n", "did you mean `gender`?"]);
    let baseline = beluga(&["profile", "TRUE", "--by", "age", "--against", "agee > 1", "--url", &server.url("")]);
    assert_ends(&baseline, 2, &["  agee > 1\n  ^^^^^^^^\n"]);
}
