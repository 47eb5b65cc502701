//! `check FILE`: everything that can be known about a run without running it.

use super::{Experiment, Refusal, load, to_json};
use crate::preflight::{self, Facts};

pub(super) fn check(
    experiment: &Experiment,
    resolved: bool,
    json: bool,
) -> Result<String, Refusal> {
    let plan = load(experiment)?;
    let stages = preflight::check(&plan)?;
    if resolved {
        return Ok(plan.resolved);
    }
    if json {
        return Ok(to_json(&serde_json::json!({
            "name": plan.name,
            "seed": plan.seed,
            "output": plan.output,
            "stages": stages,
        })));
    }
    let folder = plan.output.join(&plan.name);
    let mut text = format!(
        "{} with seed {}, into {}\n",
        plan.name,
        plan.seed,
        folder.display()
    );
    for stage in &stages {
        text += &section(stage);
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
