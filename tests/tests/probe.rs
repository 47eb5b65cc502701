//! Stages of classifiers as a whole: what they leave behind, kills at any step, threads, and what cannot be.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::{Arc, MutexGuard},
};

use smallfry::{
    Backbone, DataSet, Encoder, Head, Schedule,
    backbone::Preprocessing,
    checkpoint::{self, Values, Weights, cadence::Save},
    convert::{self, Request, Target},
    encoder::ImageBatch,
    executed::{Classifier, Executed, with_head},
    experiment,
    failure::{Cause, Failure},
    nn::{
        Network, Parameters,
        init::Init,
        network::{Activation, Block, ConvNorm, Convolution, Norm, Padding},
    },
    plan::{
        FeatureSource as Features, Images, Normalize, Plan, Probe, ProbeMode, Seeds, Stage,
        Subject, TrainMode,
    },
    registry::Built,
    results::{StageOutcome, probe::Outcome},
    run::{self, RunOptions},
    schedule::Progress,
    source::{Site, Source},
    tensor::{Features as Rows, Plain, Traced},
    workplace::Existing,
};
use smallfry_formats::torch::{self, Limits};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    golden::repository,
    run_folder::determined,
    small::{self, Cut, Matrix, Noise, Shape},
};

/// A course of the rate that ends the process before a step, as a power cut would.
#[derive(Clone, Copy, Debug)]
struct Ending {
    kill: Option<usize>,
}

impl Schedule for Ending {
    fn factor(&self, epoch: usize, _: usize) -> f64 {
        0.5f64.powi(epoch as i32)
    }

    fn factor_at(&self, progress: Progress) -> f64 {
        if self.kill == Some(progress.epoch * progress.steps + progress.step) {
            std::process::abort();
        }
        self.factor(progress.epoch, progress.epochs)
    }
}

/// What a small stage of classifiers is made of.
#[derive(Clone, Debug)]
struct Try {
    mode: ProbeMode,
    normalize: Normalize,
    rates: Vec<f64>,
    seeds: Seeds,
    bad: Vec<usize>,
    epochs: usize,
    save: Option<u64>,
    kill: Option<usize>,
}

impl Default for Try {
    fn default() -> Self {
        Self {
            mode: ProbeMode::Linear(Features::Fresh),
            normalize: Normalize::Both,
            rates: vec![0.5, 0.05],
            seeds: Seeds::Repeats(2),
            bad: Vec::new(),
            epochs: 3,
            save: None,
            kill: None,
        }
    }
}

impl Try {
    fn of(mode: ProbeMode) -> Self {
        let normalize = match mode {
            ProbeMode::Linear(_) => Normalize::Both,
            ProbeMode::Finetune(_) => Normalize::Yes,
        };
        Self {
            mode,
            normalize,
            ..Self::default()
        }
    }
}

fn noise(samples: usize, bad: &[usize]) -> Images {
    let set: Built<dyn DataSet> = Built::direct(
        Box::new(Noise::new(samples, bad)),
        "Noise",
        format!("Noise(samples: {samples})"),
    );
    Images::Set(set)
}

/// A convolution with a batch norm, and a mean with dropout.
#[derive(Clone, Copy, Debug)]
struct Tiny;

impl Backbone for Tiny {
    fn width(&self) -> usize {
        6
    }

    fn preprocessing(&self) -> Preprocessing {
        Matrix.preprocessing()
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let network = self.network(head).expect("it is described by blocks");
        Box::new(Executed::of(network, seed))
    }

    fn network(&self, head: &Head) -> Option<Network> {
        let conv = ConvNorm {
            convolution: Convolution {
                name: "conv".into(),
                input: 3,
                output: 6,
                kernel: 3,
                stride: 2,
                padding: Padding::even(1),
                groups: 1,
                init: Init::FanOut,
            },
            norm: Norm::new("bn"),
            activation: Activation::Swish,
        };
        let classifier = Classifier {
            weight: Init::Normal(0.1),
            bias: Init::Constant(0.0),
        };
        let blocks = vec![
            Block::ConvNorm(conv),
            Block::GlobalAveragePool { dropout: 0.2 },
        ];
        Some(with_head(Network { blocks }, classifier, head))
    }
}

fn backbone(mode: ProbeMode) -> Built<dyn Backbone> {
    match mode {
        ProbeMode::Linear(_) => Built::direct(Box::new(Matrix), "Matrix", "Matrix()"),
        ProbeMode::Finetune(_) => Built::direct(Box::new(Tiny), "Tiny", "Tiny()"),
    }
}

fn probe(shape: &Try) -> Probe {
    let view = match shape.mode {
        ProbeMode::Linear(Features::Centre) => Vec::new(),
        _ => vec![Built::direct(Box::new(Cut) as Box<_>, "Cut", "Cut()")],
    };
    Probe {
        name: "probe".to_owned(),
        subject: Subject {
            backbone: backbone(shape.mode),
            weights: Weights::Untrained,
            encoder: None,
            site: Site::nowhere(),
        },
        // 26 images in batches of 8: the last is smaller.
        train: noise(26, &shape.bad),
        test: noise(18, &[]),
        mode: shape.mode,
        normalize: shape.normalize,
        learning_rates: shape.rates.clone(),
        momentum: 0.9,
        weight_decay: 1e-4,
        schedule: Built::direct(Box::new(Ending { kill: shape.kill }), "Ending", "Ending()"),
        view,
        size: None,
        resize: None,
        bicubic: Some(true),
        seeds: shape.seeds.clone(),
        batch: 8,
        epochs: shape.epochs,
        save: Save {
            steps: shape.save,
            minutes: None,
        },
        site: Site::nowhere(),
    }
}

fn plan(folder: &Path, shape: &Try) -> Plan {
    Plan {
        stages: vec![Stage::Probe(probe(shape))],
        resolved: "resolved".to_owned(),
        ..small::plan(folder, &Shape::default())
    }
}

fn go(folder: &Path, shape: &Try, existing: Existing) -> Result<run::Summary, Failure> {
    let options = RunOptions {
        existing,
        ..RunOptions::default()
    };
    run::run(&plan(folder, shape), &options)
}

fn outcome(summary: &run::Summary) -> &Outcome {
    match &summary.results.stages[0].outcome {
        StageOutcome::Probe(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (determined(a), determined(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{} differs", name.display());
    }
}

const MODES: [ProbeMode; 5] = [
    ProbeMode::Linear(Features::Fresh),
    ProbeMode::Linear(Features::Centre),
    ProbeMode::Linear(Features::Passes(2)),
    ProbeMode::Finetune(TrainMode::Reference),
    ProbeMode::Finetune(TrainMode::Proper),
];

#[test]
fn a_stage_leaves_everything_behind() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Try {
        bad: vec![3, 11],
        ..Try::default()
    };
    let summary = go(folder.path(), &shape, Existing::Refuse).unwrap();
    let outcome = outcome(&summary);
    // Two rates, two kinds of features, two seeds.
    assert_eq!(outcome.classifiers.len(), 8);
    assert_eq!((outcome.train.samples, outcome.test.samples), (26, 18));
    let names: Vec<_> = outcome
        .train
        .left_out
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["11.png", "3.png"]);
    let scores = outcome.scores();
    assert_eq!(scores.len(), 4 * 3);
    assert!(
        scores
            .iter()
            .all(|score| score.value.is_some() && score.error.is_some())
    );
    let run = folder.path().join("small");
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 1 + 3);
    assert!(log.contains(r#""event":"classifiers""#) && log.contains("acc5 lr 0.05, raw, seed 8"));
    assert!(
        log.contains(r#""step":12"#) && log.contains(r#""steps_per_epoch":4"#),
        "{log}"
    );
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        report.contains("Classifiers <em>probe</em>") && report.contains("lr 0.5, unit length")
    );
    let table = summary.results.to_string();
    assert!(
        table.contains("Acc@1") && table.contains("2 seeds"),
        "{table}"
    );
    let best = checkpoint::read(&run.join(&outcome.best[0])).unwrap();
    assert!(best.tensors.contains_key("conv.weight"));
    assert!(best.tensors.contains_key("heads.7.fc.1.weight"));
    assert!(run.join(&outcome.checkpoint).is_file());
}

/// What is said of the last epoch and the best one agrees with the weights on disk.
#[test]
fn a_single_classifier_is_a_state_dict() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Try {
        normalize: Normalize::No,
        rates: vec![0.5],
        seeds: Seeds::Given(vec![3]),
        ..Try::default()
    };
    let summary = go(folder.path(), &shape, Existing::Refuse).unwrap();
    let outcome = outcome(&summary);
    let best = checkpoint::read(&summary.folder.join(&outcome.best[0])).unwrap();
    let last = checkpoint::read(&summary.folder.join(&outcome.checkpoint)).unwrap();
    assert_eq!(best.tensors["fc.weight"].shape, [4, 4]);
    assert_eq!(
        best.number("epoch"),
        Some(outcome.classifiers[0].best_epoch as u64)
    );
    if outcome.classifiers[0].best_epoch == outcome.epochs {
        assert_eq!(best.tensors["fc.weight"], last.tensors["heads.0.fc.weight"]);
    }
    let Values::Float(bias) = &best.tensors["fc.bias"].values else {
        panic!("biases are numbers");
    };
    assert!(bias.iter().any(|bias| *bias != 0.0));
}

#[test]
fn classifiers_learn_in_every_mode() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let shape = Try {
            rates: vec![0.5],
            seeds: Seeds::Repeats(1),
            epochs: 6,
            ..Try::of(mode)
        };
        let summary = go(folder.path(), &shape, Existing::Refuse).unwrap();
        let log = fs::read_to_string(summary.folder.join("log.jsonl")).unwrap();
        let loss = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let line = line.as_object().unwrap();
            let found = line.iter().find(|(name, _)| name.starts_with("loss"));
            found.unwrap().1.as_f64().unwrap()
        };
        let losses: Vec<_> = log.lines().skip(1).map(loss).collect();
        assert!(losses[5] < 0.95 * losses[0], "{mode:?}: {losses:?}");
    }
}

/// From the second epoch on the reference's statistics stand still.
#[test]
fn statistics_follow_batches_as_the_mode_says() {
    let batches = |mode, epochs| {
        let folder = tempfile::tempdir().unwrap();
        let shape = Try {
            rates: vec![0.01],
            seeds: Seeds::Repeats(1),
            epochs,
            ..Try::of(ProbeMode::Finetune(mode))
        };
        let summary = go(folder.path(), &shape, Existing::Refuse).unwrap();
        let last = outcome(&summary).checkpoint.clone();
        let last = checkpoint::read(&summary.folder.join(last)).unwrap();
        let name = "heads.0.bn.num_batches_tracked";
        match &last.tensors[name].values {
            Values::Integer(values) => values[0],
            Values::Float(_) => panic!("a counter is an integer"),
        }
    };
    assert_eq!(batches(TrainMode::Reference, 1), 4);
    assert_eq!(batches(TrainMode::Reference, 3), 4);
    assert_eq!(batches(TrainMode::Proper, 3), 12);
}

#[test]
fn threads_do_not_show() {
    for mode in MODES {
        let run = |threads| {
            let folder = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| go(folder.path(), &Try::of(mode), Existing::Refuse))
                .unwrap();
            determined(&folder.path().join("small"))
        };
        assert!(run(1) == run(3), "{mode:?}");
    }
}

/// Runs a stage in a process of its own, which dies before step `kill`.
fn die(folder: &Path, mode: usize, kill: usize, save: u64, existing: &str) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--include-ignored", "--nocapture"])
        .env("SMALLFRY_TEST_FOLDER", folder)
        .env("SMALLFRY_TEST_MODE", mode.to_string())
        .env("SMALLFRY_TEST_KILL", kill.to_string())
        .env("SMALLFRY_TEST_SAVE", save.to_string())
        .env("SMALLFRY_TEST_EXISTING", existing)
        .output()
        .unwrap()
        .status;
    assert!(!status.success(), "it lived beyond step {kill}");
}

/// Not a test by itself: the process that [`die`] starts.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(folder) = env::var_os("SMALLFRY_TEST_FOLDER") else {
        return;
    };
    let number = |name: &str| env::var(name).unwrap().parse::<usize>().unwrap();
    let shape = Try {
        kill: Some(number("SMALLFRY_TEST_KILL")),
        save: Some(number("SMALLFRY_TEST_SAVE") as u64).filter(|&steps| steps > 0),
        ..Try::of(MODES[number("SMALLFRY_TEST_MODE")])
    };
    let existing = match env::var("SMALLFRY_TEST_EXISTING").unwrap().as_str() {
        "resume" => Existing::Resume,
        _ => Existing::Refuse,
    };
    go(Path::new(&folder), &shape, existing).unwrap();
}

#[test]
fn killed_in_any_step_and_gone_on_with() {
    for (number, mode) in MODES.into_iter().enumerate() {
        let whole = tempfile::tempdir().unwrap();
        go(whole.path(), &Try::of(mode), Existing::Refuse).unwrap();
        // Three epochs of four steps: first, within, at borders, last; states within epochs or only at their ends.
        for (kills, save) in [(&[0, 3, 4, 11][..], 0), (&[2, 5, 9], 1), (&[7], 3)] {
            let folder = tempfile::tempdir().unwrap();
            let mut existing = "refuse";
            for &kill in kills {
                die(folder.path(), number, kill, save, existing);
                existing = "resume";
            }
            go(folder.path(), &Try::of(mode), Existing::Resume).unwrap();
            assert_same(&folder.path().join("small"), &whole.path().join("small"));
        }
    }
}

#[test]
fn a_damaged_state_is_told_and_left_alone() {
    let whole = tempfile::tempdir().unwrap();
    go(whole.path(), &Try::default(), Existing::Refuse).unwrap();
    let folder = tempfile::tempdir().unwrap();
    die(folder.path(), 0, 6, 0, "refuse");
    let run = folder.path().join("small");
    let last = run.join("checkpoints/probe/last.safetensors");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let failure = go(folder.path(), &Try::default(), Existing::Resume).unwrap_err();
    assert_eq!(failure.cause, Cause::Mistake);
    assert!(failure.message.contains("last.safetensors"), "{failure}");
    assert!(failure.help.unwrap().contains("--overwrite"));
    assert_eq!(fs::read(&last).unwrap().len(), bytes.len() / 2);
    fs::write(&last, &bytes).unwrap();
    go(folder.path(), &Try::default(), Existing::Resume).unwrap();
    assert_same(&run, &whole.path().join("small"));
}

#[test]
fn going_on_with_another_stage_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Try::default();
    go(folder.path(), &shape, Existing::Refuse).unwrap();
    let other = Try {
        rates: vec![0.5, 0.07],
        ..shape
    };
    let failure = go(folder.path(), &other, Existing::Resume).unwrap_err();
    assert_eq!(failure.cause, Cause::Mistake);
    assert!(failure.message.contains("- learning_rates"), "{failure}");
}

#[test]
fn a_rate_that_diverges_is_named_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Try {
        normalize: Normalize::No,
        rates: vec![0.05, 1e38],
        seeds: Seeds::Repeats(1),
        ..Try::default()
    };
    let summary = go(folder.path(), &shape, Existing::Refuse).unwrap();
    let [good, wild] = &outcome(&summary).classifiers[..] else {
        panic!("two classifiers");
    };
    assert_eq!((good.diverged, wild.diverged), (None, Some(1)));
    assert!(good.acc1.is_some() && wild.acc1.is_none());
    let told = summary
        .notes
        .iter()
        .any(|note| note.contains("lr 1000") && note.contains("epoch 1"));
    assert!(told, "{:?}", summary.notes);
    let table = summary.results.to_string();
    assert!(table.contains("diverged in epoch 1"), "{table}");
    let every = Try {
        rates: vec![1e38],
        ..shape
    };
    let folder = tempfile::tempdir().unwrap();
    let failure = go(folder.path(), &every, Existing::Refuse).unwrap_err();
    assert!(
        failure.message.contains("every classifier diverged"),
        "{failure}"
    );
}

/// A network that follows its batches even where it only embeds.
#[derive(Clone, Copy, Debug)]
struct Leaky;

impl Backbone for Leaky {
    fn width(&self) -> usize {
        Matrix.width()
    }

    fn preprocessing(&self) -> Preprocessing {
        Matrix.preprocessing()
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        Box::new(Leaking(Matrix.encoder(head, seed)))
    }
}

struct Leaking(Box<dyn Encoder>);

impl Encoder for Leaking {
    fn width(&self) -> usize {
        self.0.width()
    }

    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Rows> {
        self.0.train(images, draw)
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Rows> {
        self.0.momentum(images, draw)
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Rows> {
        self.0.parameters().statistics_mut()[0] += 0.1;
        self.0.embed(images)
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.0.parameters()
    }
}

#[test]
fn a_backbone_that_does_not_stay_frozen_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = probe(&Try::default());
    stage.subject.backbone = Built::direct(Box::new(Leaky), "Leaky", "Leaky()");
    let plan = Plan {
        stages: vec![Stage::Probe(stage)],
        ..plan(folder.path(), &Try::default())
    };
    let failure = run::run(&plan, &RunOptions::default()).unwrap_err();
    assert_eq!(failure.cause, Cause::Fault);
    assert!(failure.message.contains("though it is frozen"), "{failure}");
}

/// A run of `fields` on photographs of 32 pixels.
fn photographs(folder: &Path, fields: &str) -> run::Summary {
    let photos = repository().join("experiments/photos/val");
    let text = format!(
        "Probe(weights: Untrained, backbone: resnet18, train: ImageFolder(path: {photos:?}), \
         test: ImageFolder(path: {photos:?}), size: 32, schedule: Constant, epochs: 1, {fields})"
    );
    let source = Source::new("probe.ron", text);
    let mut plan = experiment::parse(source, folder, "probe", &[])
        .unwrap_or_else(|errors| panic!("{}", errors[0]));
    plan.output = folder.to_owned();
    run::run(&plan, &RunOptions::default()).unwrap()
}

fn to_reference(summary: &run::Summary, output: &Path) -> Result<convert::Report, Failure> {
    convert::convert(&Request {
        input: summary.folder.join(&outcome(summary).best[0]),
        output: output.to_owned(),
        target: Target::Classifier,
        backbone: None,
        encoder: None,
        overwrite: false,
    })
}

/// The layout of `main_lincls.py` and `main_transfer.py`: names, order, and what of it learns.
#[test]
fn a_classifier_goes_to_the_reference() {
    let whole = "mode: Finetune, normalize: true, view: [Resize(size: 36), CenterCrop(size: 32)]";
    for (fields, layer, trained) in [
        ("features: Centre, learning_rates: [0.5]", "fc", 2),
        (&format!("{whole}, learning_rates: [0.5]"), "fc.1", 62),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let summary = photographs(folder.path(), fields);
        let path = folder.path().join("model_best.pth.tar");
        to_reference(&summary, &path).unwrap();
        let file = torch::read(&path, &Limits::default()).unwrap();
        let state = file.get("state_dict").unwrap().entries().unwrap();
        let names: Vec<_> = state
            .iter()
            .map(|(name, _)| name.as_text().unwrap())
            .collect();
        assert_eq!(names.len(), 120 + 2);
        assert_eq!(names[0], "module.conv1.weight");
        assert_eq!(names[120], format!("module.{layer}.weight"));
        assert_eq!(names[121], format!("module.{layer}.bias"));
        assert_eq!(file.get("arch").unwrap().as_text(), Some("resnet18"));
        assert_eq!(file.get("epoch").unwrap().as_integer(), Some(1));
        let best = outcome(&summary).classifiers[0].best_acc1;
        assert_eq!(file.get("best_acc1").unwrap().as_float(), best);
        let groups = file.get("optimizer").unwrap().get("param_groups").unwrap();
        let group = &groups.elements().unwrap()[0];
        assert_eq!(group.get("lr").unwrap().as_float(), Some(0.5));
        assert_eq!(group.get("momentum").unwrap().as_float(), Some(0.9));
        let parameters = group.get("params").unwrap().elements().unwrap();
        assert_eq!(parameters.len(), trained);
    }
    let folder = tempfile::tempdir().unwrap();
    let several = photographs(
        folder.path(),
        "features: Centre, learning_rates: [0.5, 1.0]",
    );
    let failure = to_reference(&several, &folder.path().join("best.pth.tar")).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.message.contains("holds 2 classifiers"), "{failure}");
}

/// A set whose classes are the given ones.
fn classes(names: &[&str]) -> Images {
    let mut set = Noise::new(26, &[]);
    set.classes = names.iter().map(|&name| name.to_owned()).collect();
    let name = format!("Noise(classes: {names:?})");
    let set: Built<dyn DataSet> = Built::direct(Box::new(set), "Noise", name);
    Images::Set(set)
}

#[test]
fn sets_that_cannot_be_learnt_from_are_refused() {
    let four = ["a", "b", "c", "d"];
    for (train, test, part) in [
        (
            &[][..],
            &four[..],
            "`train` of Probe: the images have no classes",
        ),
        (&four, &[], "`test` of Probe: the images have no classes"),
        (&["a"], &four, "all images are of one class"),
        (&["a", "b", "c"], &four, "`3.png` has no class"),
        (
            &four,
            &["a", "b", "c", "d", "e"],
            "are of 5 classes, the training images of 4",
        ),
        (
            &four,
            &["a", "b", "d", "c"],
            "class `d` of the test images is `c`",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let stage = Probe {
            train: classes(train),
            test: classes(test),
            ..probe(&Try::default())
        };
        let plan = Plan {
            stages: vec![Stage::Probe(stage)],
            ..plan(folder.path(), &Try::default())
        };
        let failure = run::run(&plan, &RunOptions::default()).unwrap_err();
        assert_eq!(failure.cause, Cause::Mistake, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
        assert!(!folder.path().join("small").exists());
    }
}

/// A network whose features are no numbers.
#[derive(Clone, Copy, Debug)]
struct Broken;

impl Backbone for Broken {
    fn width(&self) -> usize {
        Matrix.width()
    }

    fn preprocessing(&self) -> Preprocessing {
        Matrix.preprocessing()
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let encoder = Matrix.encoder(head, seed);
        encoder.parameters().values_mut()[5] = f32::NAN;
        encoder
    }
}

#[test]
fn features_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = probe(&Try::default());
    stage.subject.backbone = Built::direct(Box::new(Broken), "Broken", "Broken()");
    let plan = Plan {
        stages: vec![Stage::Probe(stage)],
        ..plan(folder.path(), &Try::default())
    };
    let failure = run::run(&plan, &RunOptions::default()).unwrap_err();
    assert!(failure.message.contains("`0.png`"), "{failure}");
    assert_eq!(failure.exit_code(), 2);
}

/// The mistakes of a file that is this stage, beside the fields that it needs.
fn mistakes(fields: &str) -> String {
    let text = format!(
        "Probe(weights: Untrained, backbone: resnet18, train: ImageFolder(path: \"a\"), \
         test: ImageFolder(path: \"b\"), schedule: Step(milestones: [60, 80]), {fields})"
    );
    let source = Source::new("probe.ron", text);
    match experiment::parse(source, Path::new("."), "probe", &[]) {
        Ok(_) => String::new(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    }
}

#[test]
fn a_file_that_cannot_be_is_explained() {
    let view = "view: [RandomResizedCrop(size: 224), HorizontalFlip]";
    for (fields, part) in [
        (view, ""),
        ("features: Centre", ""),
        ("", "lacks its field `view`"),
        (
            "mode: Linear, features: Centre, view: []",
            "augments nothing",
        ),
        (
            "mode: Finetune, learning_rates: [0.01], features: Centre",
            "is for `mode: Linear`",
        ),
        (
            "features: Centre, train_mode: Proper",
            "is for `mode: Finetune`",
        ),
        ("features: Passes(0), view: []", "at least one pass"),
        ("features: Centre, learning_rates: []", "at least one rate"),
        (
            "features: Centre, learning_rates: [1.0, 0.0]",
            "must be above 0",
        ),
        (
            "features: Centre, learning_rates: [1.0, 1.0]",
            "same rate twice",
        ),
        ("features: Centre, momentum: 1.0", "at least 0 and below 1"),
        ("features: Centre, weight_decay: -1.0", "at least 0"),
        (
            "features: Centre, normalize: Neither",
            "must be `true`, `false` or `Both`",
        ),
        ("features: Centre, seeds: [1, 1]", "same seed twice"),
        ("features: Centre, seeds: [1], repeats: 2", "beside `seeds`"),
        ("features: Centre, epochs: 0", "must be above 0"),
        ("features: Centre, rate: 3", "no field `rate`"),
    ] {
        let found = mistakes(fields);
        assert!(
            found.contains(part) && found.is_empty() == part.is_empty(),
            "{fields}: {found}"
        );
    }
    let whole = mistakes(&format!("mode: Finetune, {view}"));
    assert!(
        whole.contains("lacks its field `learning_rates`"),
        "{whole}"
    );
}

/// What a file comes to can be read again and is the same.
#[test]
fn the_resolved_file_is_the_same_stage() {
    let text = "Probe(weights: Untrained, backbone: resnet18, train: Cifar10(), test: Cifar10(train: false), \
         mode: Finetune, train_mode: Proper, normalize: true, learning_rates: [0.01, 0.1], weight_decay: 0.5, \
         schedule: Step(milestones: [40, 70], factor: 0.2), view: [RandomResizedCrop(size: 224)], \
         resize: 224, bicubic: true, seeds: [4, 5])";
    let read = |text: String| {
        let source = Source::new("probe.ron", text);
        experiment::parse(source, Path::new("."), "probe", &[])
            .unwrap_or_else(|errors| panic!("{}", errors[0]))
    };
    let plan = read(text.to_owned());
    let again = read(plan.resolved.clone());
    assert_eq!(plan.essence, again.essence);
    let Stage::Probe(stage) = &again.stages[0] else {
        panic!("a stage of classifiers");
    };
    assert_eq!(stage.mode, ProbeMode::Finetune(TrainMode::Proper));
    assert_eq!((stage.epochs, stage.batch, stage.momentum), (100, 256, 0.9));
    assert_eq!(stage.seeds, Seeds::Given(vec![4, 5]));
    let _: Arc<dyn Schedule> = Arc::clone(&stage.schedule.plugin);
}

#[test]
fn shipped_stages_are_those_of_the_reference() {
    let folder = repository().join("experiments/transfer");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let plan = experiment::load(&path, &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let Stage::Probe(stage) = &plan.stages[0] else {
            panic!("{} has a stage of classifiers", path.display());
        };
        let name = path.file_stem().unwrap().to_str().unwrap();
        let transfer = name != "linear-imagenet";
        let whole = name.starts_with("finetune");
        assert_eq!(stage.normalize == Normalize::Yes, transfer, "{name}");
        assert_eq!(
            matches!(stage.mode, ProbeMode::Finetune(_)),
            whole,
            "{name}"
        );
        assert_eq!(
            (stage.batch, stage.momentum, stage.weight_decay),
            (256, 0.9, 0.0)
        );
        let (drop, epochs) = match (transfer, whole) {
            (false, _) => (0.1, 100),
            (true, false) => (0.1, 60),
            (true, true) => (0.2, 100),
        };
        let last = stage.schedule.factor(epochs - 1, epochs);
        let drops = if name.starts_with("linear-c") { 1 } else { 2 };
        assert!(
            (last - f64::powi(drop, drops)).abs() < 1e-12,
            "{name}: {last}"
        );
        assert_eq!(stage.epochs, epochs, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 7);
}
