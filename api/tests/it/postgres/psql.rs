//! `psql`, where it is installed: `BELUGA_POSTGRES_PROGRAMS` is the folder of PostgreSQL's programs.

use super::{address, shop};
use crate::support::{command, stderr, stdout};
use std::path::PathBuf;

/// Where `psql` is; `None` skips what needs it.
fn program() -> Option<PathBuf> {
    let folder = std::env::var_os("BELUGA_POSTGRES_PROGRAMS")?;
    let program = PathBuf::from(folder).join("psql");
    program.exists().then_some(program)
}

#[test]
fn psql_asks_and_shows() {
    let Some(program) = program() else {
        eprintln!("skipped: BELUGA_POSTGRES_PROGRAMS says where psql is");
        return;
    };
    let server = shop();
    let url = format!("postgresql://ann@{}/beluga", address(&server));
    let ask = |sql: &str| {
        let program = program.to_str().expect("a path");
        let ran =
            command(program).args([&url, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().expect("run");
        (ran.status.success(), stdout(&ran), stderr(&ran))
    };
    assert_eq!(
        ask("SELECT user_id, age FROM users ORDER BY 1"),
        (true, "u1|31\nu2|44\nu3|28\nu4|\n".into(), String::new())
    );
    let (is_well, _, told) = ask("SELECT agee FROM users");
    for (command, expected) in [
        ("\\dt", ["public|users|table|beluga\n", "public|purchase|table|beluga\n"]),
        ("\\d", ["public|users|table|beluga\n", "public|tags|table|beluga\n"]),
        ("\\dn", ["public|beluga\n", "system|beluga\n"]),
        ("SELECT version(), current_schema()", ["PostgreSQL 15.0 (Beluga", "|public\n"]),
    ] {
        let (is_well, shown, told) = ask(command);
        assert!(is_well && expected.iter().all(|line| shown.contains(line)), "{command}: {shown}{told}");
    }
    assert!(!is_well && told.contains("ERROR:") && told.contains("HINT:") && told.contains("^"), "{told}");
}
