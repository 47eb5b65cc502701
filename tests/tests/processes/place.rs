//! A folder with an experiment on the shipped photographs, to run it in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;
use smallfry_tests::{golden::repository, run_folder::determined};
use tempfile::TempDir;

use crate::job::{Job, Outcome, mpirun, program};

/// Name of the experiment file.
pub const FILE: &str = "whole.ron";

/// A folder with the experiment file.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// With an experiment that as many processes as `groups` can share.
    pub fn new(groups: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), experiment(groups)).unwrap();
        Self { folder }
    }

    /// As a process sees it.
    pub fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// The run's folder.
    pub fn root(&self) -> PathBuf {
        self.path().join("runs/whole")
    }

    /// Starts `run FILE`, with further arguments, by so many processes; one has no launcher.
    pub fn start(&self, processes: usize, arguments: &[&str]) -> Job {
        let mut command = match processes {
            1 => Command::new(program("whole")),
            _ => mpirun(processes),
        };
        if processes > 1 {
            command.arg(program("whole"));
        }
        command
            .args(["run", FILE, "--threads", "1"])
            .args(arguments)
            .current_dir(self.path());
        Job::start(&mut command, &[])
    }

    /// Runs it to its end, which has to be a good one.
    pub fn run(&self, processes: usize, arguments: &[&str]) -> Outcome {
        let outcome = self.start(processes, arguments).end();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome
    }

    /// The state that was saved last within an epoch or at its end.
    pub fn state(&self) -> Option<PathBuf> {
        let states = fs::read_dir(self.root().join("checkpoints/pretrain")).ok()?;
        let paths = states.flatten().map(|entry| entry.path());
        let whole = paths.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
        whole.max()
    }

    /// What is in `receipt.json`.
    pub fn receipt(&self) -> Value {
        let text = fs::read_to_string(self.root().join("receipt.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Everything must be there that one process, never stopped, has come to.
    #[track_caller]
    pub fn assert_as_alone(&self, groups: usize) {
        let (own, alone) = (came_to(&self.root()), &alone(groups).files);
        assert_eq!(
            own.keys().collect::<Vec<_>>(),
            alone.keys().collect::<Vec<_>>()
        );
        for (name, bytes) in &own {
            assert!(*bytes == alone[name], "{} differs", name.display());
        }
    }
}

/// What one process alone has come to.
pub struct Alone {
    pub outcome: Outcome,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The run of one process alone, with so many groups.
pub fn alone(groups: usize) -> &'static Alone {
    static ALONE: [OnceLock<Alone>; 2] = [const { OnceLock::new() }; 2];
    ALONE[usize::from(groups == 4)].get_or_init(|| {
        let place = Place::new(groups);
        let outcome = place.run(1, &[]);
        let files = came_to(&place.root());
        for name in [
            "log.jsonl",
            "results.json",
            "checkpoints/pretrain/epoch-0002.safetensors",
        ] {
            assert!(files.contains_key(Path::new(name)), "{name}");
        }
        Alone { outcome, files }
    })
}

/// What a run came to, without what was asked.
fn came_to(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = determined(root);
    files.retain(|name, _| name.extension().is_none_or(|end| end != "ron"));
    files
}

/// Ten steps, the state saved after each, and an evaluation.
fn experiment(groups: usize) -> String {
    let photos = repository().join("experiments/photos");
    let data = |part: &str| format!("ImageFolder(path: {:?})", photos.join(part));
    let (train, val) = (data("train"), data("val"));
    format!(
        r#"Experiment(
    name: "whole", seed: 3,
    stages: [
        Pretrain(
            data: {train}, backbone: mobilenetv3_small,
            objective: MoCo(queue: 48, dim: 16, groups: {groups}),
            view: [RandomResizedCrop(size: 32), HorizontalFlip(p: 0.5)],
            optimizer: SGD(lr: 0.05, momentum: 0.9, weight_decay: 1e-4), schedule: Cosine,
            epochs: 2, batch: 48, save: Save(steps: 1),
        ),
        Evaluate(
            weights: Stage("pretrain"), train: {train}, test: {val}, size: 32, metrics: [BestNN(k: 5)],
        ),
    ],
)
"#
    )
}
