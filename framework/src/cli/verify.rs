//! `verify FOLDER`: whether a folder of static views is what its record says.

use std::path::PathBuf;

use super::{Experiment, Refusal, load, to_json};
use crate::{failure::Failure, statics};

/// What the verb is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The folder that a stage `Views` wrote, such as `runs/first/views/views`
    folder: PathBuf,
    /// Also make every file again, as this experiment says, and compare
    #[arg(long, value_name = "EXPERIMENT")]
    remake: Option<PathBuf>,
    /// Changes to the experiment, such as `seed=1`
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "remake")]
    overrides: Vec<String>,
    /// Print what was found as JSON, also where it is nothing
    #[arg(long)]
    json: bool,
}

pub(super) fn verify(arguments: Arguments) -> Result<String, Refusal> {
    let (manifest, mut findings) = statics::verify(&arguments.folder)?;
    if let Some(file) = arguments.remake {
        let plan = load(&Experiment {
            file,
            overrides: arguments.overrides,
            output: None,
        })?;
        statics::remake(&plan, &manifest, &mut findings)?;
    }
    match (findings.are_none(), arguments.json) {
        (true, true) => Ok(to_json(&findings)),
        (false, true) => Err(Refusal::Verdict(to_json(&findings))),
        (true, false) => Ok(format!("{findings}\n")),
        (false, false) => {
            let folder = arguments.folder.display();
            let wrong = format!("{folder} is not what its record says\n{findings}");
            let help = "`smallfry run` with --resume writes what is missing or changed again";
            Err(Failure::fault(wrong).help(help).into())
        }
    }
}
