//! Command lines of other programs: run as experiments here, and told for an experiment.
//!
//! Which programs there are is the caller's of [`main_with`](super::main_with): the framework knows none. A program is
//! two functions, from its flags to an experiment file and back. What the flags of an experiment do not say is found by
//! going there and back, so it can be neither forgotten nor told wrongly.

use std::{collections::BTreeMap, path::Path};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Experiment, Refusal, load};
use crate::{
    compare,
    diagnostic::Diagnostic,
    failure::Failure,
    plan::Plan,
    run::RunOptions,
    source::Source,
    workplace::{Existing, Progress},
};

/// Settings that decide what lies on the disk and no number.
const DISK: [&str; 2] = ["keep", "save"];

/// A program whose command line is understood.
#[derive(Clone, Copy)]
pub struct Foreign {
    /// The verb that takes its flags.
    pub verb: &'static str,
    /// What the verb does, in a line.
    pub about: &'static str,
    /// Its own name, such as `main_moco.py`, or those of several with the same flags.
    pub programs: &'static [&'static str],
    /// The experiment that its arguments ask for; a program's name may precede them.
    pub experiment: fn(&[String]) -> Result<Translation, Failure>,
    /// The command nearest to a training stage, the program's name first. The stage is given as its settings by their
    /// paths within it; none where the program does something else.
    pub command: fn(&BTreeMap<String, String>) -> Option<Vec<String>>,
}

/// An experiment file made of arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The experiment file.
    pub text: String,
    /// What the user should know of flags that mean something else or nothing here.
    pub notes: Vec<String>,
}

/// The verb of `foreign`, for the command line.
pub(super) fn command(foreign: &Foreign) -> Command {
    Command::new(foreign.verb)
        .about(foreign.about)
        .disable_help_flag(true)
        .arg(
            Arg::new("arguments")
                .value_name("FLAGS")
                .help(format!(
                    "Those of {}; `--print` prints the experiment file and runs nothing",
                    foreign.programs.join(" or ")
                ))
                .action(ArgAction::Append)
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
        )
}

/// Runs or prints what the flags ask for.
pub(super) fn act(foreign: &Foreign, matches: &ArgMatches) -> Result<String, Refusal> {
    let given = matches
        .get_many::<String>("arguments")
        .into_iter()
        .flatten();
    let (print, arguments): (Vec<_>, Vec<_>) = given.cloned().partition(|word| word == "--print");
    let translation = (foreign.experiment)(&arguments)?;
    if !print.is_empty() {
        let notes = translation.notes.iter().map(|note| format!("// {note}\n"));
        return Ok(notes.collect::<String>() + &translation.text);
    }
    let plan = plan(foreign, &translation.text)?;
    let options = RunOptions {
        experiment: translation.text,
        existing: Existing::Refuse,
        progress: Progress::Stderr,
        ..RunOptions::default()
    };
    for note in translation.notes {
        eprintln!("note: {note}");
    }
    let summary = crate::run::run(&plan, &options)?;
    super::run::ended(&summary, super::run::told(&summary))
}

fn plan(foreign: &Foreign, text: &str) -> Result<Plan, Vec<Diagnostic>> {
    let source = Source::new(format!("({} {}.ron)", foreign.verb, "--print"), text);
    crate::experiment::parse(source, Path::new("."), foreign.verb, &[])
}

/// The flags that each training stage of an experiment corresponds to, and what they leave unsaid.
pub(super) fn flags(experiment: &Experiment, programs: &[Foreign]) -> Result<String, Refusal> {
    let plan = load(experiment)?;
    let settings = compare::settings(&plan.resolved)?;
    let mut text = String::new();
    for stage in &plan.stages {
        let crate::plan::Stage::Pretrain(stage) = stage else {
            continue;
        };
        let within = |(path, value): &(String, String)| {
            let own = path.strip_prefix(&stage.name)?.strip_prefix('.')?;
            Some((own.to_owned(), value.clone()))
        };
        let own: BTreeMap<_, _> = settings.iter().filter_map(within).collect();
        text += &format!("{}\n", stage.name);
        let told = programs
            .iter()
            .find_map(|foreign| Some((foreign, (foreign.command)(&own)?)));
        match told {
            None => text += "  no program that is known here trains so\n",
            Some((foreign, command)) => {
                let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
                text += &format!("  {}\n", words.join(" "));
                for line in unsaid(foreign, &command, &own, plan.seed)? {
                    text += &format!("  {line}\n");
                }
            }
        }
        text.push('\n');
    }
    if text.is_empty() {
        text = "no stage of this file trains\n".to_owned();
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// What `command` gives otherwise than a stage's settings are.
fn unsaid(
    foreign: &Foreign,
    command: &[String],
    own: &BTreeMap<String, String>,
    seed: u64,
) -> Result<Vec<String>, Refusal> {
    let translation = (foreign.experiment)(command)?;
    let again = plan(foreign, &translation.text)?;
    let settings = compare::settings(&again.resolved)?;
    let given: BTreeMap<_, _> = settings
        .into_iter()
        .filter_map(|(path, value)| Some((path.strip_prefix("pretrain.")?.to_owned(), value)))
        .collect();
    let numbers = |path: &str| !DISK.contains(&path.split('.').next().unwrap_or_default());
    let mut lines: Vec<_> = own
        .iter()
        .filter(|(path, _)| numbers(path))
        .filter(|(path, value)| given.get(*path) != Some(value))
        .map(|(path, value)| match given.get(path) {
            Some(other) => format!("no flag: {path} = {value} (the flags give {other})"),
            None => format!("no flag: {path} = {value}"),
        })
        .collect();
    let missing = given
        .iter()
        .filter(|(path, _)| numbers(path) && !own.contains_key(*path));
    lines.extend(
        missing.map(|(path, value)| format!("not here: {path} = {value}, which the flags give")),
    );
    if again.seed != seed {
        lines.push(format!(
            "--seed {seed} seeds this program only: that one's workers ignore it"
        ));
    }
    Ok(lines)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=+,:@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
