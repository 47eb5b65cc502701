//! Command lines of the references' programs: a table of flags, read as Python's `argparse` reads them.
//!
//! One table says which flag is which setting of a stage, both ways. What several flags make up has a function in each
//! direction beside its table; what the tables have in common (milestones, a start from a checkpoint) is here.

use std::{collections::BTreeMap, path::Path};

use smallfry::failure::Failure;

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is given or not.
    Nothing,
    /// One word.
    Word,
    /// Any number of whole numbers.
    Numbers,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The setting at this path of the stage.
    Setting(&'static str),
    /// Part of something that a function makes.
    Part,
    /// Nothing, for the reason given.
    Idle(&'static str),
    /// Only this value can be had, for the reason given.
    Only(&'static str, &'static str),
}

/// A flag: its names, the longest first; what follows it; the value where it is left out; its meaning.
pub type Flag = (&'static [&'static str], Takes, &'static str, Meaning);

// Flags that both references have from the program that both began with.

/// Threads that load.
pub const WORKERS: Flag = (
    &["--workers", "-j"],
    Takes::Word,
    "32",
    Meaning::Idle("images are loaded by as many threads as the processor has"),
);
/// Passes over the images.
pub const EPOCHS: Flag = (
    &["--epochs"],
    Takes::Word,
    "200",
    Meaning::Setting("epochs"),
);
/// Where counting starts.
pub const START_EPOCH: Flag = (
    &["--start-epoch"],
    Takes::Word,
    "0",
    Meaning::Only("0", "--resume takes the epoch from the checkpoint"),
);
/// The learning rate.
pub const RATE: Flag = (
    &["--learning-rate", "--lr"],
    Takes::Word,
    "0.03",
    Meaning::Setting("optimizer.lr"),
);
/// Epochs at whose ends the rate falls.
pub const MILESTONES: Flag = (&["--schedule"], Takes::Numbers, "120 160", Meaning::Part);
/// The optimiser's momentum.
pub const MOMENTUM: Flag = (
    &["--momentum"],
    Takes::Word,
    "0.9",
    Meaning::Setting("optimizer.momentum"),
);
/// The optimiser's weight decay.
pub const DECAY: Flag = (
    &["--weight-decay", "--wd"],
    Takes::Word,
    "1e-4",
    Meaning::Setting("optimizer.weight_decay"),
);
/// A checkpoint to start from.
pub const RESUME: Flag = (&["--resume"], Takes::Word, "", Meaning::Part);
/// The number that random streams derive from.
pub const NUMBER: Flag = (&["--seed"], Takes::Word, "", Meaning::Part);

/// Where a program looks for its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// In the folder named beside the flags.
    Positional,
    /// In the folder that this flag names.
    Flag(&'static str),
}

/// The command line of programs that share their flags.
pub struct Table {
    /// Their names; the first is meant where none is given.
    pub programs: &'static [&'static str],
    /// Their flags.
    pub flags: &'static [Flag],
    /// Where the images are.
    pub data: Data,
    /// What the folder of the images holds.
    pub holds: &'static str,
}

/// A command line that was read.
pub struct Values {
    table: &'static Table,
    /// The program that was named, or the first of the table.
    pub program: &'static str,
    /// The folder of the images.
    pub data: String,
    given: BTreeMap<&'static str, String>,
}

impl Table {
    /// Reads `arguments`, which a program's name may precede.
    ///
    /// # Errors
    /// A flag that there is not, a value that is missing, or no data.
    pub fn parse(&'static self, arguments: &[String]) -> Result<Values, Failure> {
        let named = arguments.first().and_then(|word| self.program(word));
        let mut values = Values {
            table: self,
            program: named.unwrap_or(self.programs[0]),
            data: String::new(),
            given: BTreeMap::new(),
        };
        let mut words = arguments[usize::from(named.is_some())..]
            .iter()
            .map(String::as_str)
            .peekable();
        while let Some(word) = words.next() {
            if !word.starts_with('-') || word == "-" {
                self.positional(word, &mut values)?;
                continue;
            }
            let (name, attached) = split(word);
            let Some((names, takes, ..)) = self.flags.iter().find(|flag| flag.0.contains(&name))
            else {
                let message = format!("{} has no flag `{name}`", values.program);
                return Err(Failure::mistake(message).help(self.nearest(name)));
            };
            let value = match (takes, attached) {
                (Takes::Nothing, None) => String::new(),
                (Takes::Nothing, Some(_)) => {
                    return Err(Failure::mistake(format!("{name} takes no value")));
                }
                (_, Some(value)) => value.to_owned(),
                (Takes::Word, None) => match words.next() {
                    Some(value) => value.to_owned(),
                    None => return Err(Failure::mistake(format!("{name} needs a value"))),
                },
                (Takes::Numbers, None) => {
                    let mut numbers = Vec::new();
                    while let Some(number) = words.next_if(|word| word.parse::<usize>().is_ok()) {
                        numbers.push(number);
                    }
                    numbers.join(" ")
                }
            };
            values.given.insert(names[0], value);
        }
        if let Data::Flag(flag) = self.data {
            values.data = values.get(flag).to_owned();
        }
        if values.data.is_empty() {
            let place = match self.data {
                Data::Positional => "its path comes beside the flags".to_owned(),
                Data::Flag(flag) => format!("give its path by {flag}"),
            };
            return Err(Failure::mistake("no data folder is given")
                .help(format!("{place}; it holds {}", self.holds)));
        }
        Ok(values)
    }

    /// The program that `word` names, with or without a folder before it.
    fn program(&self, word: &str) -> Option<&'static str> {
        let name = Path::new(word).file_name()?;
        self.programs.iter().copied().find(|own| name == *own)
    }

    fn positional(&self, word: &str, values: &mut Values) -> Result<(), Failure> {
        if let Data::Flag(flag) = self.data {
            let message = format!("`{word}` is no flag of {}", values.program);
            return Err(
                Failure::mistake(message).help(format!("the data folder is given by {flag}"))
            );
        }
        if !values.data.is_empty() {
            return Err(Failure::mistake(format!(
                "`{word}`: there is a data folder already, `{}`",
                values.data
            )));
        }
        word.clone_into(&mut values.data);
        Ok(())
    }

    /// The flags that share the longest beginning with `name`.
    fn nearest(&self, name: &str) -> String {
        let common = |other: &str| {
            name.chars()
                .zip(other.chars())
                .take_while(|(a, b)| a == b)
                .count()
        };
        let names = || self.flags.iter().flat_map(|flag| flag.0.iter().copied());
        let best = names().map(common).max().unwrap_or(0);
        let near: Vec<_> = names()
            .filter(|other| best > 2 && common(other) == best)
            .collect();
        match near.is_empty() {
            true => "`--print` with no other flag shows what its defaults come to".to_owned(),
            false => format!("near it are {}", near.join(", ")),
        }
    }

    /// The flags for those `settings` of a stage that are one flag each and not its default.
    pub fn plain(&self, settings: &BTreeMap<String, String>) -> Vec<String> {
        let mut words = Vec::new();
        for (names, _, default, meaning) in self.flags {
            if let Meaning::Setting(path) = meaning
                && let Some(value) = settings.get(*path)
                && !equal(value, default)
            {
                // The form that the references' own commands use.
                let name = names
                    .iter()
                    .rev()
                    .find(|name| name.starts_with("--") || **name == "-a");
                words.push((*name.unwrap_or(&names[0])).to_owned());
                words.push(value.clone());
            }
        }
        words
    }
}

impl Values {
    /// The value of a flag, given or not; of one that takes nothing, the empty text.
    pub fn get(&self, name: &str) -> &str {
        let flags = self.table.flags;
        let default = flags.iter().find(|flag| flag.0[0] == name);
        let default = default.map_or("", |flag| flag.2);
        self.given.get(name).map_or(default, String::as_str)
    }

    /// Whether a flag is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value of a flag as a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str) -> Result<f64, Failure> {
        let value = self.get(name);
        let number = value.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| Failure::mistake(format!("{name}: `{value}` is no number")))
    }

    /// The value of the flag for the setting at `path`.
    pub fn setting(&self, path: &str) -> &str {
        let flags = self.table.flags;
        let flag = flags
            .iter()
            .find(|flag| matches!(flag.3, Meaning::Setting(own) if own == path));
        flag.map_or("", |flag| self.get(flag.0[0]))
    }

    /// What is to be known of flags that mean nothing here.
    ///
    /// # Errors
    /// A value that cannot be had, or one that should be a number and is none.
    pub fn notes(&self) -> Result<Vec<String>, Failure> {
        let mut notes = Vec::new();
        for (names, _, default, meaning) in self.table.flags {
            let name = names[0];
            match (meaning, self.given.get(name)) {
                (Meaning::Idle(reason), Some(_)) => notes.push((*reason).to_owned()),
                (Meaning::Only(value, reason), Some(given))
                    if given != value && given != default =>
                {
                    return Err(
                        Failure::mistake(format!("{name} {given} cannot be had")).help(*reason)
                    );
                }
                // All other settings are numbers.
                (Meaning::Setting(path), _) if *path != "backbone" => drop(self.number(name)?),
                _ => {}
            }
        }
        notes.dedup();
        Ok(notes)
    }

    /// The line of an experiment file for a seed, where one is given.
    pub fn seed(&self) -> String {
        match self.get("--seed") {
            "" => String::new(),
            seed => format!("    seed: {seed},\n"),
        }
    }

    /// The line for the folder of results, where `flag` gives one.
    pub fn output(&self, flag: &str) -> String {
        match self.has(flag) {
            true => format!("    output: {:?},\n", self.get(flag)),
            false => String::new(),
        }
    }

    /// The schedule of `--cos` and `--schedule`.
    pub fn schedule(&self, cosine: bool) -> String {
        match cosine {
            true => "Cosine".to_owned(),
            false => {
                let milestones = self.get("--schedule").replace(' ', ", ");
                format!("Step(milestones: [{milestones}])")
            }
        }
    }
}

/// `--schedule` for the `milestones` of a resolved file, unless they are its default.
pub fn milestones(milestones: &str) -> Vec<String> {
    let numbers = milestones.replace(['(', ')', '[', ']', ','], " ");
    let numbers: Vec<_> = numbers.split_whitespace().collect();
    match numbers == ["120", "160"] {
        true => Vec::new(),
        false => std::iter::once("--schedule")
            .chain(numbers)
            .map(str::to_owned)
            .collect(),
    }
}

/// The path in `written`, which is `File(..)` or `Stage(..)` as resolved; a stage is named by what it is made into.
pub fn path(written: &str) -> Option<String> {
    let named = inside("File", written).map(str::to_owned).or_else(|| {
        let stage = inside("Stage", written)?;
        Some(format!("{}.pth.tar", stage.trim_matches('"')))
    });
    Some(named?.trim_matches('"').to_owned())
}

/// What stands between the parentheses of `word(..)`.
pub fn inside<'a>(word: &str, text: &'a str) -> Option<&'a str> {
    text.strip_prefix(word)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

/// The text of a quoted setting.
pub fn unquoted(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// A flag and what is attached to it, as in `--lr=0.06` and `-b256`.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
    }
    match word.char_indices().nth(2) {
        Some((at, _)) => (&word[..at], Some(word[at..].trim_start_matches('='))),
        None => (word, None),
    }
}

/// Whether two texts are the same number, or the same text.
fn equal(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b || a.split('(').next() == Some(b),
    }
}

#[cfg(test)]
pub mod tests;
