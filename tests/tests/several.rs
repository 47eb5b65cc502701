//! Training by several processes comes to the bytes that one comes to. Here processes are threads; `processes` has real
//! ones.

use std::{fs, path::Path, sync::Arc, thread};

use serde_json::Value;
use smallfry::{
    Backbone, Encoder, Invalid, Objective,
    distributed::{Communicator, command::Command, threads::Threads},
    encoder::ImageBatch,
    experiment,
    failure::Failure,
    objective::{Buffer, Learner, Moment, Outcome, Setup},
    registry::Built,
    run::{self, Summary},
    testing::objective_faults,
    workplace::Existing,
};
use smallfry_plugins as _;
use smallfry_tests::{
    golden::repository,
    plugin::build,
    run_folder::{options, plan},
};

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

/// Runs the experiment with so many processes; the others must end well.
fn run(folder: &Path, text: &str, size: usize, existing: Existing) -> Result<Summary, Failure> {
    let plan = plan(&folder.join("several.ron"), text);
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
        Command::Leave.give(&*first);
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
        "batch: 24, clip: Some(2.0), health: (every: 1, images: 16),",
    );
    same_for_any_number(&text, &[3]);
}

#[test]
fn joint_views_attacks_and_smooth_labels_are_as_well() {
    let views = "joint: IoUPair(low: 0.05, high: 0.9, size: 32), view: [HorizontalFlip(p: 0.5)],";
    let text = experiment(
        "MoCo(queue: 48, dim: 16, groups: 2, label_smoothing: 0.2, neighbours: 3, queue_storage: Half, adversary: \
         Adversary(steps: 1, step_size: 0.01, epsilon: 0.02))",
        views,
        "batch: 48,",
    );
    same_for_any_number(&text, &[2]);
}

#[test]
fn a_distillation_is_too() {
    let text = experiment(
        "SEED(teacher: resnet18, weights: Untrained, queue: 80, dim: 16, groups: 4, teacher_temperature: 0.1)",
        "view: [RandomResizedCrop(size: 32)],",
        "batch: 40,",
    );
    same_for_any_number(&text, &[4]);
}

#[test]
fn several_parts_or_batches_a_process_come_to_nearly_the_same() {
    let log = |size| {
        let text = experiment(
            "SEED(teacher: resnet18, weights: Untrained, queue: 96, dim: 16, groups: 4, patches: 2)",
            "views: [[RandomResizedCrop(size: 40)], Repeat(2, [RandomResizedCrop(size: 24)])],",
            "batch: 24, accumulate: 2,",
        );
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &text, size, Existing::Refuse).unwrap();
        let text = came_to(folder.path()).0;
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    };
    let (alone, two) = (log(1), log(2));
    assert_eq!(alone.len(), two.len());
    // The second line is of the first step, before roundings grow.
    for key in [
        "loss",
        "acc1",
        "entropy",
        "patch_acc1",
        "patch_entropy",
        "grad_norm",
    ] {
        let [a, b] = [&alone, &two].map(|log| log[1][key].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-6 * a.abs(), "{key}: {a} {b}");
    }
}

#[test]
fn objectives_that_let_several_processes_train_them_are_checked_with_two() {
    let backbone = build::<dyn Backbone>("resnet18(width: 0.125)");
    for text in [
        "MoCo(queue: 16, dim: 16, groups: 2)",
        "MoCo(queue: 16, dim: 16, groups: 4, label_smoothing: 0.1)",
        "MoCo(queue: 16, dim: 16, groups: 2, adversary: Adversary(steps: 1, step_size: 0.01, epsilon: 0.02))",
    ] {
        let objective = build::<dyn Objective>(text);
        assert_eq!(objective.check_processes(2), Ok(()));
        assert_eq!(
            objective_faults(&*objective, &*backbone),
            Vec::<String>::new(),
            "{text}"
        );
    }
    let alone = build::<dyn Objective>("MoCo(queue: 16, dim: 16, groups: 2)");
    let faults = objective_faults(&Unaware(alone), &*backbone);
    assert!(!faults.is_empty());
    let wanted = [
        "the losses of 2 processes add up to",
        "the figures `acc",
        "the gradients of 2 processes add up to something",
        "`queue` is not the same in all processes",
        "`queue_ptr` is not what one process has",
    ];
    for fault in &faults {
        assert!(
            wanted.iter().any(|wanted| fault.starts_with(wanted)),
            "{fault}"
        );
    }
    for wanted in [wanted[0], wanted[3], wanted[4]] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(wanted)),
            "{wanted}: {faults:?}"
        );
    }
}

/// Says that several processes can train it, but its learners know nothing of each other.
struct Unaware(Built<dyn Objective>);

impl Objective for Unaware {
    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        self.0.check(setup)
    }

    fn check_processes(&self, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        Ok(Box::new(Lonely(self.0.start(setup, backbone)?)))
    }
}

struct Lonely(Box<dyn Learner>);

impl Learner for Lonely {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        self.0.loss(views, moment)
    }

    fn after_step(&mut self) {
        self.0.after_step();
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        self.0.encoders()
    }

    fn trained(&self) -> &'static [&'static str] {
        self.0.trained()
    }

    fn followers(&self) -> &'static [(&'static str, &'static str)] {
        self.0.followers()
    }

    fn evaluated(&self) -> &'static str {
        self.0.evaluated()
    }

    fn queue_batches(&self) -> Option<usize> {
        self.0.queue_batches()
    }

    fn buffers(&self) -> Vec<Buffer> {
        self.0.buffers()
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        self.0.restore(buffer)
    }
}

#[test]
fn a_run_is_gone_on_with_by_another_number_of_processes() {
    let text = experiment(
        "MoCo(queue: 48, dim: 16, groups: 2)",
        TWO,
        "batch: 24, keep: None,",
    );
    let alone = tempfile::tempdir().unwrap();
    run(alone.path(), &text, 1, Existing::Refuse).unwrap();
    for (size, then) in [(1, 2), (2, 1)] {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &text, size, Existing::Refuse).unwrap();
        let root = folder.path().join("runs/several");
        fs::remove_file(root.join("checkpoints/pretrain/epoch-0002.safetensors")).unwrap();
        fs::remove_file(root.join("results.json")).unwrap();
        run(folder.path(), &text, then, Existing::Resume).unwrap();
        assert!(
            came_to(folder.path()) == came_to(alone.path()),
            "{size}, then {then}"
        );
        let receipt = fs::read_to_string(root.join("receipt.json")).unwrap();
        assert!(
            receipt.contains(&format!("\"processes\": {then}")),
            "{receipt}"
        );
    }
}

#[test]
fn a_step_without_a_number_is_kept_as_one_process_keeps_it() {
    let text = experiment("MoCo(queue: 48, dim: 16, groups: 2)", TWO, "batch: 24,")
        .replace("lr: 0.05", "lr: 1e30");
    let kept = |size| {
        let folder = tempfile::tempdir().unwrap();
        let failure = run(folder.path(), &text, size, Existing::Refuse).unwrap_err();
        assert!(
            failure.message.contains("stopped in step 2 of epoch 1"),
            "{failure}"
        );
        let failed = folder.path().join("runs/several/failure");
        ["failure.json", "state.safetensors", "batches.safetensors"]
            .map(|name| fs::read(failed.join(name)).unwrap())
    };
    assert!(kept(1) == kept(2));
}

#[test]
fn what_cannot_be_shared_out_is_refused_before_anything_is_written() {
    let refused = |text: &str, size| {
        let folder = tempfile::tempdir().unwrap();
        let failure = run(folder.path(), text, size, Existing::Refuse).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(!folder.path().join("runs").exists());
        failure.to_string()
    };
    let text = experiment("MoCo(queue: 48, dim: 16)", TWO, "batch: 24,");
    let told = refused(&text, 2);
    assert!(
        told.contains("1 cannot be shared out among 2 processes"),
        "{told}"
    );
    assert!(told.contains("give `groups: 2`"), "{told}");
    let told = refused(&text, 5);
    assert!(
        told.contains("a batch of 24 cannot be shared out among 5 processes"),
        "{told}"
    );
    assert!(told.contains("`batch: 25`"), "{told}");
}

#[test]
fn processes_with_something_else_before_them_are_refused() {
    let text = experiment("MoCo(queue: 48, dim: 16, groups: 2)", TWO, "batch: 24,");
    let refused = |other: &str| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&folder.path().join("several.ron"), &text);
        fs::write(folder.path().join("other.ron"), other).unwrap();
        thread::scope(|scope| {
            let [first, second] = <[Threads; 2]>::try_from(Threads::of(2)).ok().unwrap();
            let (first, second): (Arc<dyn Communicator>, Arc<dyn Communicator>) =
                (Arc::new(first), Arc::new(second));
            let load = || {
                let loaded = experiment::load(&folder.path().join("other.ron"), &[]);
                loaded.map_err(|mistakes| mistakes[0].to_string())
            };
            let other = scope.spawn(move || run::assist(load, &second));
            let failure = run::run_with(&plan, &options(Existing::Refuse), &first).unwrap_err();
            Command::Leave.give(&*first);
            other.join().unwrap().unwrap();
            assert_eq!(failure.exit_code(), 2);
            assert!(!folder.path().join("runs").exists());
            failure.to_string()
        })
    };
    let told = refused(&text.replace("seed: 3", "seed: 4"));
    assert!(
        told.contains("process 1 of 2 has other data or another experiment file"),
        "{told}"
    );
    let told = refused(&text.replace("train", "nowhere"));
    assert!(
        told.contains("process 1 of 2 is not ready") && told.contains("nowhere"),
        "{told}"
    );
    let told = refused("Experiment(");
    assert!(told.contains("process 1 of 2 is not ready"), "{told}");
}

#[test]
fn features_are_the_same_for_any_number_and_so_is_what_follows() {
    let pictures = tempfile::tempdir().unwrap();
    let photos = repository().join("experiments/photos/val");
    for class in fs::read_dir(photos).unwrap() {
        let class = class.unwrap();
        let to = pictures.path().join(class.file_name());
        fs::create_dir(&to).unwrap();
        fs::write(to.join("0.jpg"), "no picture").unwrap();
        for picture in fs::read_dir(class.path()).unwrap().take(3) {
            let picture = picture.unwrap();
            fs::copy(picture.path(), to.join(picture.file_name())).unwrap();
        }
    }
    let text = format!(
        r#"Experiment(
            name: "several", seed: 3,
            stages: [
                Evaluate(
                    name: "judged", backbone: mobilenetv3_small, weights: Untrained, size: 64, batch: 4,
                    train: ImageFolder(path: {0:?}), test: ImageFolder(path: {0:?}),
                    metrics: [BestNN(k: 3), FeatureStatistics],
                ),
                Map(
                    name: "drawn", backbone: mobilenetv3_small, weights: Untrained, size: 64, batch: 4,
                    data: ImageFolder(path: {0:?}), samples: 18, perplexity: 3, iterations: 20,
                ),
            ],
        )"#,
        pictures.path()
    );
    let results = |size| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &text, size, Existing::Refuse).unwrap();
        let root = folder.path().join("runs/several");
        let points = fs::read(root.join("maps/drawn/Y0.npy")).unwrap();
        (
            fs::read_to_string(root.join("results.json")).unwrap(),
            points,
        )
    };
    let alone = results(1);
    assert!(alone.0.contains("0.jpg"), "{}", alone.0);
    for size in [2, 3] {
        assert_eq!(results(size), alone, "{size} processes");
    }
}
