//! `completions SHELL` and `man`: what shells and `man` want to know of the command line, made from its definition.

use clap::Command;
use clap_complete::Shell;

use super::Refusal;
use crate::failure::Failure;

/// The script that completes the program's verbs and options in `shell`.
pub(super) fn completions(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of one verb, as roff.
pub(super) fn manual(mut command: Command, verb: Option<&str>) -> Result<String, Refusal> {
    command.build();
    let (title, command) = match verb {
        None => (command.get_name().to_owned(), command),
        Some(verb) => match command.find_subcommand(verb) {
            Some(found) => (format!("{}-{verb}", command.get_name()), found.clone()),
            None => {
                let failure = Failure::mistake(format!("there is no verb `{verb}`"));
                return Err(failure.help("`--help` shows those there are").into());
            }
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .title(title)
        .render(&mut page)
        .map_err(|error| Failure::fault(format!("cannot write the page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
