//! `receipt.json`: what produced a run, for whoever wants to know why two differ.
//!
//! The only file of a run folder, beside the timings, with facts about time and machine.

use std::{
    env, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{change::Changed, plan::Plan, registry::Used};

/// The contents of `receipt.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    /// Name of the experiment.
    pub experiment: String,
    /// Version of smallfry.
    pub version: &'static str,
    /// Whether the program was built with optimisation, and for which system.
    pub build: String,
    /// The plugins in use, with crate and version.
    pub plugins: Vec<Used>,
    /// The plan's seed.
    pub seed: u64,
    /// Hash of the resolved experiment file.
    pub resolved_hash: String,
    /// The stages' fingerprints: data manifest, configuration, and their hash.
    pub stages: Vec<StageReceipt>,
    /// Processes that trained.
    pub processes: usize,
    /// Threads that computed, in each.
    pub threads: usize,
    /// Kind of processor, as the system names it.
    pub processor: String,
    /// Begin of this process's part of the run, in seconds since 1970.
    pub begin_unix_seconds: u64,
    /// Whether an earlier, stopped run was gone on with.
    pub resumed: bool,
    /// Parameters that changed on the way, by the user's leave.
    pub changes: Vec<Changed>,
}

/// The changes that the receipt at `path`, of the run that is gone on with, tells of; none where it cannot be read.
pub fn earlier_changes(path: &Path) -> Vec<Changed> {
    #[derive(Deserialize)]
    struct Earlier {
        #[serde(default)]
        changes: Vec<Changed>,
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).map_or(Vec::new(), |earlier: Earlier| earlier.changes)
}

/// What a stage depended on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReceipt {
    /// Name of the stage.
    pub stage: String,
    /// Hash of `fingerprint`.
    pub hash: String,
    /// Everything the result depends on, as text.
    pub fingerprint: String,
}

impl Receipt {
    /// The receipt of a run of `plan` that begins now.
    pub fn new(plan: &Plan, resumed: bool) -> Self {
        Self {
            experiment: plan.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            build: format!(
                "{} {} {}",
                env::consts::ARCH,
                env::consts::OS,
                if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                }
            ),
            plugins: plan.plugins.clone(),
            seed: plan.seed,
            resolved_hash: super::fingerprint::hash(&plan.resolved),
            stages: Vec::new(),
            processes: 1,
            threads: rayon::current_num_threads(),
            processor: processor(),
            begin_unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            resumed,
            changes: Vec::new(),
        }
    }

    /// Adds a stage.
    pub fn stage(&mut self, stage: &str, fingerprint: &str) {
        self.stages.retain(|known| known.stage != stage);
        self.stages.push(StageReceipt {
            stage: stage.to_owned(),
            hash: super::fingerprint::hash(fingerprint),
            fingerprint: fingerprint.to_owned(),
        });
    }
}

fn processor() -> String {
    let text = fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = model.and_then(|line| line.split_once(':'));
    name.map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
