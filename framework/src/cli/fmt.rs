//! `fmt FILE ..`: lays out experiment files.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::Refusal;
use crate::{
    checkpoint::write_atomically,
    diagnostic::Diagnostic,
    failure::Failure,
    source::{self, Source},
};

/// Lays out the files in place and names those that changed; with `check` changes none. `-` is what is typed, and goes to
/// stdout.
pub(super) fn fmt(files: &[PathBuf], check: bool) -> Result<String, Refusal> {
    let (mut output, mut mistakes) = (String::new(), Vec::new());
    for file in files {
        let (text, laid_out) = match laid_out(file)? {
            Ok(texts) => texts,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        if file == Path::new("-") && !check {
            output += &laid_out;
        } else if text != laid_out {
            if !check {
                write_atomically(file, laid_out.as_bytes())?;
            }
            output += &format!("{}\n", file.display());
        }
    }
    match (mistakes.is_empty(), check && !output.is_empty()) {
        (false, _) => Err(mistakes.into()),
        (true, true) => Err(Refusal::Verdict(output)),
        (true, false) => Ok(output),
    }
}

/// What a file holds, and how it should look.
fn laid_out(file: &Path) -> Result<Result<(String, String), Diagnostic>, Failure> {
    let source = match file == Path::new("-") {
        true => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::mistake(format!("cannot read the input: {error}")))?;
            Ok(Source::new("-", text))
        }
        false => Source::read(file),
    };
    Ok(source.and_then(|source| {
        let laid_out = source::format(&source)?;
        // As it is on the disk: a byte order mark is no part of the source.
        let text = match file == Path::new("-") {
            true => source.original().to_owned(),
            false => fs::read_to_string(file).unwrap_or_default(),
        };
        Ok((text, laid_out))
    }))
}
