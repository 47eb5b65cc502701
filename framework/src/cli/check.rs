//! `check FILE`: everything that can be known about a run without running it.

use super::{Experiment, Refusal, load, to_json};
use crate::{
    doctor,
    preflight::{self, Facts},
};

pub(super) fn check(
    experiment: &Experiment,
    steps: usize,
    resolved: bool,
    json: bool,
) -> Result<String, Refusal> {
    let plan = load(experiment)?;
    let (facts, opened) = preflight::examine(&plan)?;
    if resolved {
        return Ok(plan.resolved);
    }
    let report = doctor::report(&plan, facts, &opened, steps)?;
    if json {
        return Ok(to_json(&serde_json::json!({
            "name": plan.name,
            "seed": plan.seed,
            "output": plan.output,
            "stages": report.stages,
            "findings": report.findings,
        })));
    }
    let folder = plan.output.join(&plan.name);
    let mut text = format!(
        "{} with seed {}, into {}\n",
        plan.name,
        plan.seed,
        folder.display()
    );
    for stage in &report.stages {
        text += &section(stage);
    }
    for finding in &report.findings {
        text += &format!("\n{finding}\n");
    }
    Ok(text)
}

/// The facts of a stage under its name, aligned.
fn section(facts: &Facts) -> String {
    let title = match facts.stage == facts.kind.to_lowercase() {
        true => facts.stage.clone(),
        false => format!("{} ({})", facts.stage, facts.kind.to_lowercase()),
    };
    let mut text = format!("\n{title}\n");
    for (heading, value) in &facts.lines {
        text += &format!("  {heading:<10} {value}\n");
    }
    text
}
