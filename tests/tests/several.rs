//! Training by several processes comes to the bytes that one comes to. Here processes are threads; `processes.rs` has real
//! ones.

use std::{fs, path::Path, sync::Arc, thread};

use smallfry::{
    distributed::{Communicator, threads::Threads},
    experiment,
    failure::Failure,
    plan::Plan,
    run::{self, RunOptions, Summary},
    workplace::Existing,
};
use smallfry_plugins as _;
use smallfry_tests::golden::repository;

/// An experiment on the shipped photographs, whose training has `objective` and `more`.
fn experiment(objective: &str, views: &str, more: &str) -> String {
    let photos = repository().join("experiments/photos/train");
    format!(
        r#"Experiment(
            name: "several", seed: 3,
            stages: [Pretrain(
                data: ImageFolder(path: {photos:?}), backbone: mobilenetv3_small,
                objective: {objective}, {views}
                optimizer: SGD(lr: 0.05, momentum: 0.9, weight_decay: 1e-4), schedule: Cosine, epochs: 2, {more}
            )],
        )"#
    )
}

/// Two views of 32 × 32 pixels.
const TWO: &str = "view: [RandomResizedCrop(size: 32), HorizontalFlip(p: 0.5)],";

fn plan(folder: &Path, text: &str) -> Plan {
    let file = folder.join("several.ron");
    fs::write(&file, text).unwrap();
    let mut plan = experiment::load(&file, &[]).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    plan.output = folder.join("runs");
    plan
}

fn options(existing: Existing) -> RunOptions {
    RunOptions {
        existing,
        ..RunOptions::default()
    }
}

/// Runs the experiment with so many processes; the others must end well.
fn run(folder: &Path, text: &str, size: usize, existing: Existing) -> Result<Summary, Failure> {
    let plan = plan(folder, text);
    if size == 1 {
        return run::run(&plan, &options(existing));
    }
    thread::scope(|scope| {
        let mut processes = Threads::of(size).into_iter();
        let first: Arc<dyn Communicator> = Arc::new(processes.next().unwrap());
        let others: Vec<_> = processes
            .map(|process| {
                let process: Arc<dyn Communicator> = Arc::new(process);
                let load = || {
                    let loaded = experiment::load(&folder.join("several.ron"), &[]);
                    loaded.map_err(|mistakes| mistakes[0].to_string())
                };
                scope.spawn(move || run::assist(load, &process))
            })
            .collect();
        let outcome = run::run_with(&plan, &options(existing), &first);
        for other in others {
            other.join().unwrap().unwrap();
        }
        outcome
    })
}

/// What of a run must be the same: its log and its last state.
fn came_to(folder: &Path) -> (String, Vec<u8>) {
    let run = folder.join("runs/several");
    (
        fs::read_to_string(run.join("log.jsonl")).unwrap(),
        fs::read(run.join("checkpoints/pretrain/epoch-0002.safetensors")).unwrap(),
    )
}

fn same_for_any_number(text: &str, sizes: &[usize]) {
    let alone = tempfile::tempdir().unwrap();
    run(alone.path(), text, 1, Existing::Refuse).unwrap();
    let (log, state) = came_to(alone.path());
    for &size in sizes {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), text, size, Existing::Refuse).unwrap();
        let (own_log, own_state) = came_to(folder.path());
        assert_eq!(own_log, log, "{size} processes");
        assert!(own_state == state, "{size} processes");
    }
}

#[test]
fn a_contrast_is_the_same_to_the_byte() {
    let text = experiment(
        "MoCo(queue: 48, dim: 16, groups: 3)",
        TWO,
        "batch: 24, clip: Some(2.0),",
    );
    same_for_any_number(&text, &[3]);
}
