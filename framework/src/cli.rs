//! The command line. A program with its own set of plugins is `fn main() -> ExitCode { smallfry::cli::main() }`.
//!
//! Results go to stdout, everything else to stderr. A verb gives its whole output as text; only this file prints it, so
//! that a closed pipe and a mistake of the user are handled in one place. Exit codes: 0 done, 1 failed, 2 bad usage or
//! bad file, 130 stopped.

mod check;
mod compare;
mod convert;
mod describe;
mod diff;
mod fmt;
mod foreign;
#[cfg(unix)]
mod isolated_metric;
mod library;
mod list;
mod manual;
mod new_plugin;
mod replay;
mod run;
mod sweep;
mod verify;
mod verify_resume;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    panic,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    diagnostic::Diagnostic,
    distributed::launch::{self, Launch},
    evaluate::cache::room,
    failure::Failure,
    registry::{self, for_each_kind},
};

pub use foreign::{Foreign, Translation};

/// Contrastive self-supervised learning of small vision models
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run an experiment file
    Run {
        #[command(flatten)]
        experiment: Experiment,
        /// Run it for each of several values, such as `pretrain.objective.temperature=0.1,0.2`; for every combination of
        /// values where given several times
        #[arg(long, value_name = "PATH=VALUE,..")]
        sweep: Vec<String>,
        /// Go on with a run that was stopped
        #[arg(long, conflicts_with = "overwrite")]
        resume: bool,
        /// A parameter that may have changed since, such as `pretrain.epochs`; can be given several times
        #[arg(long, value_name = "PATH", requires = "resume")]
        allow_change: Vec<String>,
        /// Remove what an earlier run of that name left
        #[arg(long)]
        overwrite: bool,
        /// Threads to use; all cores if left out. The results do not depend on it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        threads: Option<u16>,
        /// How results are printed
        #[arg(long, value_enum, default_value_t = run::Format::Table)]
        format: run::Format,
        /// The same as `--format json`
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// Check an experiment file and its data without running it
    Check {
        #[command(flatten)]
        experiment: Experiment,
        /// Try so many steps of every training, and estimate time and memory
        #[arg(
            long,
            value_name = "N",
            default_value_t = 0,
            conflicts_with = "resolved"
        )]
        dry_run: u16,
        /// Print the file with every default filled in
        #[arg(long)]
        resolved: bool,
        /// Print what was found as JSON
        #[arg(long, conflicts_with = "resolved")]
        json: bool,
    },
    /// Tell what differs between two experiment files once every default is filled in; exit code 1 if anything does
    Diff {
        /// The first file
        first: PathBuf,
        /// The second file
        second: PathBuf,
        /// Print the differences as JSON
        #[arg(long)]
        json: bool,
    },
    /// Lay out experiment files, keeping comments, and name those that changed
    Fmt {
        /// The files; `-` takes one from the input and prints it
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Change nothing; exit code 1 if a file would change
        #[arg(long)]
        check: bool,
    },
    /// List the plugins linked into this program
    List {
        /// Only this kind: dataset, backbone, augmentation, objective, optimizer, schedule or metric
        kind: Option<String>,
        /// Also print every parameter with its default, as RON
        #[arg(short, long)]
        verbose: bool,
        /// List the metrics of a shared library instead, which is loaded in a process of its own
        #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "verbose"])]
        library: Option<PathBuf>,
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell all about one plugin
    Describe {
        /// Its name in experiment files
        name: String,
    },
    /// Make a crate with a plugin of each kind to begin from, and a program that has them beside the stock ones
    NewPlugin {
        /// The crate's name, such as `my-plugins`
        name: String,
        /// Folder that the crate's folder is made in; the current one if left out
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Folder of smallfry's sources; that which this program was built from if left out, or its version if that was a
        /// registry's package
        #[arg(long, value_name = "DIR")]
        sources: Option<PathBuf>,
    },
    /// Convert weights: checkpoints of PyTorch, state dicts of other libraries, ONNX models
    Convert(convert::Arguments),
    /// Repeat the step that ended a run because its loss or gradient was no number, and show where the numbers end
    Replay {
        /// The run's folder, such as `runs/quickstart`
        folder: PathBuf,
    },
    /// Compare a folder of static views with its record, file by file
    Verify(verify::Arguments),
    /// Kill runs of an experiment at random moments, and see that they come to the same
    VerifyResume(verify_resume::Arguments),
    /// Tell the flags of the reference's programs that an experiment corresponds to, and what they leave unsaid
    Flags {
        #[command(flatten)]
        experiment: Experiment,
    },
    /// Compare runs: what differs in their settings, then their numbers
    Compare {
        /// The runs' folders, such as `runs/quickstart`, or that of a sweep; differences are to the first
        #[arg(required = true, value_name = "RUN")]
        folders: Vec<PathBuf>,
        /// Print the comparison as JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve a metric to another process
    #[cfg(unix)]
    #[command(hide = true)]
    IsolatedMetric {
        /// The number of that process
        parent: u32,
    },
    /// Make the report of a run again
    Report {
        /// The run's folder, such as `runs/quickstart`
        folder: PathBuf,
    },
    /// Print the script that completes this program's verbs and options in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of this program or of a verb, for `man -l -`
    Man {
        /// The verb
        verb: Option<String>,
    },
}

impl Verb {
    /// Whether it makes no sense to several processes. What one of them starts by itself is none of the launcher's.
    fn is_for_one_process(&self) -> bool {
        match self {
            Self::Run { .. } => false,
            #[cfg(unix)]
            Self::IsolatedMetric { .. } => false,
            _ => true,
        }
    }
}

#[derive(Args)]
struct Experiment {
    /// The experiment file
    file: PathBuf,
    /// Changes to the file, such as `seed=1` or `pretrain.objective.temperature=0.1`
    #[arg(value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Folder that the run's folder is made in
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Why a verb has no output.
enum Refusal {
    /// The text of the user is wrong.
    Mistakes(Vec<Diagnostic>),
    /// Anything else.
    Failure(Failure),
    /// Nothing is wrong, but the answer is no; the text is the output all the same.
    Verdict(String),
    /// A part of what was asked is there.
    Partly {
        /// What the verb has to say all the same.
        output: String,
        /// What is not there.
        failure: Failure,
    },
    /// The first of several processes, which are given the same command line, says it. Its exit code counts, and a
    /// launcher that sees another's first may end it before it has said anything.
    Elsewhere,
}

impl From<Vec<Diagnostic>> for Refusal {
    fn from(mistakes: Vec<Diagnostic>) -> Self {
        Self::Mistakes(mistakes)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Runs the program: parses the command line and does what it says.
pub fn main() -> ExitCode {
    main_with(&[])
}

/// As [`main`], with verbs that take the command lines of other programs.
pub fn main_with(programs: &[Foreign]) -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    #[cfg(unix)]
    crate::dynamic::isolated::serve_by_this_program();
    // A panic has been reported by the hook when it gets here; nothing is used afterwards.
    let ending = panic::catch_unwind(|| {
        for check in for_each_kind!(check_names()) {
            check?;
        }
        let matches = match command(programs).try_get_matches() {
            Ok(matches) => matches,
            Err(_) if assistant().is_some() => return Err(Refusal::Elsewhere),
            Err(error) => error.exit(),
        };
        smallfry_nn::kernel::simd::Level::detect()
            .map_err(|message| Failure::mistake(message).help("unset SMALLFRY_SIMD"))?;
        room::limit().map_err(|message| {
            Failure::mistake(message).help(format!("unset {}", room::VARIABLE))
        })?;
        if let Some((verb, matches)) = matches.subcommand()
            && let Some(program) = programs.iter().find(|program| program.verb == verb)
        {
            only_process(verb)?;
            return foreign::act(program, matches);
        }
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let Some((verb, _)) = matches.subcommand()
            && cli.verb.is_for_one_process()
        {
            only_process(verb)?;
        }
        act(cli.verb, programs)
    });
    match ending {
        Ok(Ok(output)) => print(&output),
        Ok(Err(Refusal::Failure(failure))) => {
            complain(&match assistant() {
                None => failure.to_string(),
                Some(Launch { rank, size, .. }) => {
                    thread::sleep(FIRST);
                    format!("process {rank} of {size}: {failure}")
                }
            });
            ExitCode::from(failure.exit_code())
        }
        Ok(Err(Refusal::Elsewhere)) => ExitCode::SUCCESS,
        Ok(Err(Refusal::Verdict(output))) => {
            print(&output);
            ExitCode::FAILURE
        }
        Ok(Err(Refusal::Partly { output, failure })) => {
            print(&output);
            complain(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
        Ok(Err(Refusal::Mistakes(mistakes))) => {
            complain_all(&mistakes);
            ExitCode::from(2)
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// How long a process that assists the first keeps to itself what it fails by. What all of them fail by, such as a
/// variable that is wrong, the first says, and launchers then end the others; what this one alone fails by nobody else
/// says.
const FIRST: Duration = Duration::from_secs(3);

/// How this process was started, if as one of several and not the first.
fn assistant() -> Option<Launch> {
    launch::detect().filter(|launch| launch.rank > 0)
}

/// Refuses a verb that several processes cannot share.
fn only_process(verb: &str) -> Result<(), Refusal> {
    match launch::detect() {
        Some(launch) if launch.rank > 0 => Err(Refusal::Elsewhere),
        Some(launch) if launch.size > 1 => Err(Failure::mistake(format!(
            "`{verb}` is for one process, but {} started {}",
            launch.launcher, launch.size
        ))
        .help("call it without a launcher; only `run` is for several processes")
        .into()),
        _ => Ok(()),
    }
}

/// The command line with the verbs of other programs.
fn command(programs: &[Foreign]) -> clap::Command {
    Cli::command().subcommands(programs.iter().map(foreign::command))
}

fn check_names<K: registry::Kind + ?Sized>() -> Result<(), Refusal> {
    registry::check::<K>().map_err(|message| {
        Refusal::Failure(Failure::fault(message).help("link only one of the two crates"))
    })
}

fn act(verb: Verb, programs: &[Foreign]) -> Result<String, Refusal> {
    match verb {
        Verb::Run {
            experiment,
            sweep,
            resume,
            allow_change,
            overwrite,
            threads,
            format,
            json,
        } => {
            let existing = match (resume, overwrite) {
                (true, _) => crate::workplace::Existing::Resume,
                (_, true) => crate::workplace::Existing::Overwrite,
                _ => crate::workplace::Existing::Refuse,
            };
            let options = run::Options {
                existing,
                allow: allow_change,
                threads,
                format: match json {
                    true => run::Format::Json,
                    false => format,
                },
            };
            run::run(&experiment, &sweep, options)
        }
        Verb::Check {
            experiment,
            dry_run,
            resolved,
            json,
        } => check::check(&experiment, usize::from(dry_run), resolved, json),
        Verb::List {
            library: Some(library),
            json,
            ..
        } => library::list(&library, json),
        Verb::List {
            kind,
            verbose,
            library: None,
            json,
        } => list::list(kind.as_deref(), verbose, json),
        Verb::Diff {
            first,
            second,
            json,
        } => diff::diff(&first, &second, json),
        Verb::Fmt { files, check } => fmt::fmt(&files, check),
        Verb::Completions { shell } => Ok(manual::completions(shell, command(programs))),
        Verb::Man { verb } => manual::manual(command(programs), verb.as_deref()),
        Verb::Describe { name } => describe::describe(&name),
        Verb::NewPlugin {
            name,
            folder,
            sources,
        } => new_plugin::new_plugin(&name, folder.as_deref(), sources.as_deref()),
        Verb::Convert(arguments) => convert::convert(arguments),
        Verb::Replay { folder } => replay::replay(&folder),
        Verb::Verify(arguments) => verify::verify(arguments),
        Verb::VerifyResume(arguments) => verify_resume::verify_resume(&arguments),
        Verb::Flags { experiment } => foreign::flags(&experiment, programs),
        Verb::Compare { folders, json } => compare::compare(&folders, json),
        #[cfg(unix)]
        Verb::IsolatedMetric { parent } => isolated_metric::serve(parent),
        Verb::Report { folder } => {
            let page = crate::report::report(&folder)?;
            Ok(format!("{}\n", page.display()))
        }
    }
}

/// Reads an experiment file as the command line says.
fn load(experiment: &Experiment) -> Result<crate::plan::Plan, Vec<Diagnostic>> {
    let mut plan = crate::experiment::load(&experiment.file, &experiment.overrides)?;
    if let Some(output) = &experiment.output {
        plan.output.clone_from(output);
    }
    Ok(plan)
}

/// A value as indented JSON with a final line break.
fn to_json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("results are plain data");
    text.push('\n');
    text
}

/// Prints a verb's output. A reader that has read enough, such as `head`, is no error.
fn print(output: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write the output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain_all(mistakes: &[Diagnostic]) {
    let mut text = String::new();
    for mistake in mistakes {
        let _ = writeln!(text, "{} {mistake}\n", prefix());
    }
    if mistakes.len() > 1 {
        let _ = writeln!(text, "{} mistakes", mistakes.len());
    }
    let _ = io::stderr().write_all(text.trim_end().as_bytes());
    let _ = io::stderr().write_all(b"\n");
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{} {message}", prefix());
}

fn prefix() -> &'static str {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    match io::stderr().is_terminal() && !plain {
        true => "\x1b[1;31merror:\x1b[0m",
        false => "error:",
    }
}

/// Tells of a panic, which is never the user's doing.
fn report_panic(panic: &panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    let place = panic
        .location()
        .map_or(String::new(), |place| format!(" ({place})"));
    complain(&format!(
        "this is a bug in the program: {message}{place}\n  = help: please report it, with the experiment file"
    ));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        let _ = writeln!(
            io::stderr(),
            "{}",
            std::backtrace::Backtrace::force_capture()
        );
    }
}
