//! Maps features from a file by t-SNE and tells how long it took: the timed program of `tests/bench/tsne.py`.
//!
//! Options: `--features FILE` of single-precision numbers, `--width`, `--algorithm exact|tree`, `--initial normal|principal`,
//! `--perplexity`, `--iterations`, `--seed`, and `--map FILE` for where the map goes, in double precision. Prints one line of
//! JSON: seconds until the first step, seconds of all steps, and the divergence.

use std::{fs, ops::ControlFlow, process::ExitCode, time::Instant};

use smallfry::{
    metric::Watch,
    tsne::{Algorithm, Initial, Settings, THETA, embed},
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let (mut features, mut map, mut width) = (String::new(), None, 0);
    let mut settings = Settings::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("`{option}` needs a value"))?;
        let number = || {
            let number = value.parse::<f64>();
            number.map_err(|_| format!("`{option}` takes a number, not `{value}`"))
        };
        match option.as_str() {
            "--features" => features = value,
            "--map" => map = Some(value),
            "--width" => width = number()? as usize,
            "--perplexity" => settings.perplexity = number()?,
            "--iterations" => settings.iterations = number()? as usize,
            "--seed" => settings.seed = number()? as u64,
            "--algorithm" => {
                settings.algorithm = match value.as_str() {
                    "exact" => Algorithm::Exact,
                    "tree" => Algorithm::BarnesHut { theta: THETA },
                    _ => return Err(format!("`{value}` is neither `exact` nor `tree`")),
                }
            }
            "--initial" => {
                settings.initial = match value.as_str() {
                    "normal" => Initial::Normal,
                    "principal" => Initial::Principal,
                    _ => return Err(format!("`{value}` is neither `normal` nor `principal`")),
                }
            }
            _ => return Err(format!("there is no option `{option}`")),
        }
    }
    let bytes = fs::read(&features).map_err(|error| format!("{features}: {error}"))?;
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes(word.try_into().expect("chunks have 4 bytes")))
        .collect();
    if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
        return Err(format!("{features} holds no rows of {width}"));
    }
    let start = Instant::now();
    let mut ready = start;
    let found = embed(&values, width, &settings, Watch::default(), &mut |step| {
        if step == 0 {
            ready = Instant::now();
        }
        ControlFlow::Continue(())
    })
    .expect("nobody breaks off");
    let end = Instant::now();
    if let Some(path) = map {
        let bytes: Vec<u8> = found
            .points
            .iter()
            .flatten()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        fs::write(&path, bytes).map_err(|error| format!("{path}: {error}"))?;
    }
    println!(
        "{{\"setup\": {:.3}, \"steps\": {:.3}, \"divergence\": {:.5}}}",
        (ready - start).as_secs_f64(),
        (end - ready).as_secs_f64(),
        found.divergence
    );
    Ok(())
}
