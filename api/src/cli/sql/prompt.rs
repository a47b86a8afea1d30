//! The prompt: lines until a semicolon, answers, and a few commands that begin with a backslash.

use super::names::Names;
use super::{Shown, answer, tell};
use crate::cli::Exit;
use crate::cli::interrupt::interrupted;
use crate::cli::output::Output;
use crate::cli::target::Asker;
use crate::error::{Failure, Kind};
use clap::ValueEnum;
use engine_sql::session::statements;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper, Highlighter, Hinter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PROMPT: &str = "beluga> ";
/// Statements that are remembered.
const REMEMBERED_MAX: usize = 10_000;

const HELP: &str = "A statement ends with `;`. Tab completes names, the arrow keys bring back earlier statements.\n\
    \\d             the tables\n\
    \\d TABLE       the columns of a table\n\
    \\f             the functions\n\
    \\o FORMAT      table, json, ndjson or csv from now on\n\
    \\h             this\n\
    \\q             ends; so does Ctrl-D. Ctrl-C ends a statement, or forgets the line";

/// Asks for statements until the end.
pub(super) fn run(asker: Box<dyn Asker>, mut shown: Shown) -> Result<(), Exit> {
    if shown.output == Output::Parquet {
        return Err(Exit::Usage("a prompt shows no Parquet: give the statement, or --file".into()));
    }
    // At the prompt the key is the editor's.
    let stop = interrupted()?;
    let config = Config::builder().max_history_size(REMEMBERED_MAX).map_err(failed)?.auto_add_history(true).build();
    let mut editor: Editor<Line, FileHistory> = Editor::with_config(config).map_err(failed)?;
    let remembered = history_file();
    if let Some(file) = &remembered {
        // None is there the first time.
        let _ = editor.load_history(file);
    }
    editor.set_helper(Some(Line { names: Names::of(&*asker, &stop) }));
    eprintln!("\\h for help, \\q to end");
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if let Some(file) = &remembered {
            remember(&mut editor, file);
        }
        stop.store(false, Ordering::Relaxed);
        let done = match line.trim().strip_prefix('\\') {
            Some(command) => match run_command(command, &*asker, &mut shown, &stop) {
                Ok(true) => return Ok(()),
                Ok(false) => Ok(()),
                Err(exit) => Err(exit),
            },
            None => statements(&line).ended.into_iter().try_for_each(|sql| answer(&*asker, sql, &shown, &stop)),
        };
        done.or_else(tell)?;
    }
}

/// Whether this was the last.
fn run_command(command: &str, asker: &dyn Asker, shown: &mut Shown, stop: &Arc<AtomicBool>) -> Result<bool, Exit> {
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let show = |sql: &str| answer(asker, sql, shown, stop).map(|()| false);
    match (name, argument.trim().trim_end_matches(';')) {
        ("q" | "quit", "") => Ok(true),
        ("d", "") => show(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_schema <> 'information_schema' ORDER BY 1, 2",
        ),
        ("d", table) => show(&format!("DESCRIBE {table}")),
        ("f", "") => show(
            "SELECT DISTINCT routine_name, description FROM information_schema.routines ORDER BY routine_name LIMIT 1000",
        ),
        ("o", format) => match Output::from_str(format, true) {
            Ok(output) if output != Output::Parquet => {
                shown.output = output;
                Ok(false)
            }
            _ => Err(Exit::Usage("\\o takes table, json, ndjson or csv".into())),
        },
        ("h" | "?" | "help", "") => {
            eprintln!("{HELP}");
            Ok(false)
        }
        _ => Err(Exit::Usage(format!("there is no command \\{command}; \\h tells those that there are"))),
    }
}

fn failed(error: ReadlineError) -> Exit {
    Failure::new(Kind::LocalFile, format!("the terminal: {error}")).into()
}

/// Where statements are remembered: `$XDG_STATE_HOME/beluga/sql_history`, or below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(folder.join("beluga").join("sql_history"))
}

/// Statements may tell of users, so only the owner may read them. Without the file the prompt works all the same.
fn remember(editor: &mut Editor<Line, FileHistory>, file: &Path) {
    if let Some(folder) = file.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = editor.append_history(file);
}

/// What the editor knows of a line.
#[derive(Helper, Highlighter, Hinter)]
struct Line {
    names: Names,
}

impl Completer for Line {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.names.complete(line, at))
    }
}

impl Validator for Line {
    /// Lines are taken together until a semicolon.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole =
            text.trim().is_empty() || text.trim_start().starts_with('\\') || statements(text).rest.is_empty();
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}
