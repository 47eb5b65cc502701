//! Makes a set again in memory, and compares what comes out with its record.

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;

use super::{Findings, Prepared, manifest::Manifest, write::make};
use crate::{
    failure::Failure,
    plan::{Plan, Stage, Views},
};

/// Adds to `findings` what comes out otherwise when the stage of views of `plan` that wrote `manifest` makes its files again.
///
/// # Errors
/// No stage of the plan wrote the set, or its images cannot be opened.
pub fn remake(plan: &Plan, manifest: &Manifest, findings: &mut Findings) -> Result<(), Failure> {
    let stages = plan.stages.iter().filter_map(|stage| match stage {
        Stage::Views(stage) => Some(stage),
        _ => None,
    });
    let mut differences = Vec::new();
    for stage in stages {
        let prepared = prepare(plan, stage)?;
        match difference(&prepared, manifest) {
            None => {
                compare(&prepared, manifest, findings);
                return Ok(());
            }
            Some(difference) => differences.push(format!("`{}`: {difference}", stage.name)),
        }
    }
    let wrong = "no stage of the experiment wrote this set";
    Err(Failure::mistake(wrong).help(match differences.is_empty() {
        true => "give an experiment with a stage `Views`".to_owned(),
        false => format!("they differ in: {}", differences.join("; ")),
    }))
}

fn prepare<'a>(plan: &'a Plan, stage: &'a Views) -> Result<Prepared<'a>, Failure> {
    let data = stage.data.open();
    let data = data.map_err(|invalid| Failure::from(stage.data.diagnose(&invalid)))?;
    Prepared::new(stage, plan.seed, Arc::clone(&data))
}

/// The first setting in which `stage` differs from the one that wrote the set; where its images lie does not matter.
fn difference(stage: &Prepared<'_>, manifest: &Manifest) -> Option<String> {
    let (own, written) = (&stage.header, &manifest.header);
    let say = |name: &str, own: String, written: String| {
        (own != written).then(|| format!("{name} {own}, where the set has {written}"))
    };
    say(
        "mode",
        format!("{:?}", own.mode),
        format!("{:?}", written.mode),
    )
    .or_else(|| say("seed", own.seed.to_string(), written.seed.to_string()))
    .or_else(|| {
        say(
            "per_class",
            own.per_class.to_string(),
            written.per_class.to_string(),
        )
    })
    .or_else(|| say("images", own.images.clone(), written.images.clone()))
}

fn compare(stage: &Prepared<'_>, manifest: &Manifest, findings: &mut Findings) {
    let recorded: HashMap<_, _> = manifest
        .records
        .iter()
        .map(|record| (record.source.as_str(), record))
        .collect();
    let unequal: Vec<Vec<String>> = stage
        .listing
        .samples
        .par_iter()
        .map(|sample| {
            let made = make(stage, sample, None).expect("nothing is written");
            match (made, recorded.get(stage.data.name(sample.source).as_str())) {
                (Ok(made), Some(record)) => {
                    let pairs = made.paths().zip(made.files.iter().zip(&record.files));
                    let unequal = pairs.filter(|(_, (made, recorded))| made != recorded);
                    unequal.map(|((path, _), _)| path).collect()
                }
                (Ok(made), None) => vec![made.image],
                (Err((source, reason)), Some(record)) => {
                    vec![format!("{} (`{source}` {reason})", record.image)]
                }
                (Err(_), None) => Vec::new(),
            }
        })
        .collect();
    findings.unequal = unequal.concat();
}
