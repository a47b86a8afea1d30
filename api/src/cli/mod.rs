//! The command line: a file per command.
//!
//! Commands that ask are written once, against [`target::Asker`]: a server by REST (`--url`), or a data directory that
//! the command opens itself (`--data`). What is asked for goes to standard output, talk goes to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (a flag, an expression, a file that says something impossible).

mod apply;
mod attribution;
mod audit;
mod backfill;
mod check;
mod count;
mod demo;
mod effect;
mod erase;
mod experiment;
mod explain;
mod funnel;
mod generate;
mod interrupt;
mod lookalike;
mod members;
mod movement;
mod output;
mod overlap;
mod path;
mod problem;
mod profile;
mod purpose;
mod retention;
mod sequence;
mod serve;
mod sinks;
mod sources;
mod sql;
mod steps;
mod target;
mod tenant;
mod token;
mod watch;

use crate::config::ConfigError;
use crate::error::{Failure, Kind};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Who, right now, fits this? Beluga answers audience questions over users and their tags.
#[derive(Debug, Parser)]
#[command(
    name = "beluga",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Begin with `beluga demo`. Every command has examples in its --help.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole job on example data: load, ask, keep serving
    Demo(demo::Arguments),
    /// Run the server
    Serve(Box<serve::Arguments>),
    /// Bring the catalog to what a file says
    Apply(apply::Arguments),
    /// Load files (Parquet, CSV, NDJSON) into tags
    Backfill(backfill::Arguments),
    /// Count the users that fit an expression
    Count(count::Arguments),
    /// List the users that fit an expression
    Members(members::Arguments),
    /// Tell how an audience is spread over tags, against a baseline
    Profile(profile::Arguments),
    /// Compare audiences pair by pair, or in every choice of a few
    Overlap(overlap::Arguments),
    Lookalike(lookalike::Arguments),
    /// Tell how many users did some steps in order
    Funnel(funnel::Arguments),
    /// Tell who followed a pattern of events, and how often
    Sequence(Box<sequence::Arguments>),
    /// Tell who came back, by the period in which they began
    Retention(retention::Arguments),
    /// Tell what users did next, after an event or before it
    Path(Box<path::Arguments>),
    /// Tell to which campaigns conversions are credited
    Attribution(Box<attribution::Arguments>),
    /// Tell what campaigns came to, and what one more channel adds
    Effect(Box<effect::Arguments>),
    /// Tell how groups of an experiment differ, and how sure that is
    Experiment(Box<experiment::Arguments>),
    /// Answer a SQL statement over users and facts
    Sql(sql::Arguments),
    /// Show how a question is answered, or why a user is in an audience
    Explain(explain::Arguments),
    /// Show the streaming sources and command them
    Sources(sources::Arguments),
    /// Show the sinks and command them
    Sinks(sinks::Arguments),
    /// Show who enters and who leaves a live audience
    Watch(watch::Arguments),
    /// Tell who entered and who left a live audience between two moments
    Movement(movement::Arguments),
    /// Erase users, and tell how far erasures are
    Erase(erase::Arguments),
    /// Make, list and revoke tokens
    Token(token::Arguments),
    /// Make, list and remove purposes that users agreed to
    Purpose(purpose::Arguments),
    /// Make, list and remove tenants
    Tenant(tenant::Arguments),
    /// Write an example data set to files
    Generate(generate::Arguments),
    /// Verify and show the audit log of a data directory
    Audit(audit::Arguments),
    /// Verify every checksum and invariant of a data directory
    Check(check::Arguments),
}

/// Why a command ends.
#[derive(Debug)]
enum Exit {
    /// Something failed; the expression is kept to point into it.
    Failed { failure: Failure, expression: Option<String> },
    /// A setting or a file cannot be.
    Usage(String),
    /// Already told on standard error.
    Told(u8),
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Exit {
        Exit::Failed { failure, expression: None }
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Exit {
        Exit::Usage(error.to_string())
    }
}

impl From<std::io::Error> for Exit {
    fn from(error: std::io::Error) -> Exit {
        // Whoever read our output has had enough: that is no failure.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Exit::Told(0);
        }
        match error.downcast::<Failure>() {
            Ok(failure) => failure.into(),
            Err(error) => Failure::new(Kind::LocalFile, format!("write the answer: {error}")).into(),
        }
    }
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Apply(arguments) => apply::run(&arguments),
        Command::Backfill(arguments) => backfill::run(&arguments),
        Command::Count(arguments) => count::run(&arguments),
        Command::Members(arguments) => members::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Overlap(arguments) => overlap::run(&arguments),
        Command::Lookalike(arguments) => lookalike::run(&arguments),
        Command::Funnel(arguments) => funnel::run(&arguments),
        Command::Sequence(arguments) => sequence::run(&arguments),
        Command::Retention(arguments) => retention::run(&arguments),
        Command::Path(arguments) => path::run(&arguments),
        Command::Attribution(arguments) => attribution::run(&arguments),
        Command::Effect(arguments) => effect::run(&arguments),
        Command::Experiment(arguments) => experiment::run(&arguments),
        Command::Sql(arguments) => sql::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Sinks(arguments) => sinks::run(&arguments),
        Command::Sources(arguments) => sources::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Movement(arguments) => movement::run(&arguments),
        Command::Erase(arguments) => erase::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Purpose(arguments) => purpose::run(&arguments),
        Command::Tenant(arguments) => tenant::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Told(code)) => ExitCode::from(code),
        Err(Exit::Usage(message)) => {
            problem::print(&Failure::new(Kind::InvalidField, message), None);
            ExitCode::from(2)
        }
        Err(Exit::Failed { failure, expression }) => {
            problem::print(&failure, expression.as_deref());
            ExitCode::from(if failure.kind.is_usage() { 2 } else { 1 })
        }
    }
}
