//! Distillation in whole runs: teachers from stages and files, what is said of weights that do not fit, and what becomes
//! of the checkpoints.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use smallfry::{
    Backbone, Context, Encoder, Invalid, Objective,
    checkpoint::{self, Checkpoint, Tensor, Weights},
    convert::{self, Request, Target},
    diagnostic::Diagnostic,
    encoder::ImageBatch,
    experiment,
    nn::{
        Parameters,
        network::{Role, Spec},
    },
    objective::{Buffer, Learner, Moment, Outcome, Setup, Source},
    plan::Plan,
    preflight,
    registry::{Built, parse},
    run::{self, RunOptions, prepare},
    source,
    testing::objective_faults,
};
use smallfry_formats::torch::{self, Limits, Value};
use smallfry_plugins as _;
use smallfry_tests::golden::repository;
use smallfry_tests::plugin::build;
use tempfile::TempDir;

/// The fields that all training stages here have: 52 photographs, 6 steps an epoch.
fn common(epochs: usize) -> String {
    let photos = repository().join("experiments/photos/val");
    format!(
        "data: ImageFolder(path: {photos:?}), view: [RandomResizedCrop(size: 32)], optimizer: SGD(lr: 0.01), schedule: \
         Cosine, epochs: {epochs}, batch: 8"
    )
}

fn teacher(head: &str) -> String {
    format!(
        "Pretrain(name: \"teacher\", backbone: resnet18(width: 0.125), objective: MoCo(dim: 16, queue: 16, head: {head}), \
         {})",
        common(1)
    )
}

fn student(parameters: &str) -> String {
    format!(
        "Pretrain(name: \"student\", backbone: resnet18(width: 0.0625), objective: SEED(teacher: resnet18(width: 0.125), \
         dim: 16, queue: 16, {parameters}), {})",
        common(2)
    )
}

fn evaluation(name: &str, fields: &str) -> String {
    let photos = repository().join("experiments/photos/val");
    format!(
        "Evaluate(name: {name:?}, weights: Stage(\"student\"), {fields} train: ImageFolder(path: {photos:?}), test: \
         ImageFolder(path: {photos:?}), size: 32, metrics: [BestNN(k: 3)])"
    )
}

fn experiment(folder: &Path, stages: &[String]) -> Result<Plan, Vec<Diagnostic>> {
    let text = format!(
        "Experiment(seed: 3, output: \"runs\", stages: [{}])",
        stages.join(", ")
    );
    experiment::parse(source::Source::new("test.ron", text), folder, "test", &[])
}

fn plan(folder: &Path, stages: &[String]) -> Plan {
    experiment(folder, stages).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("there is room")
}

/// The mistakes that are found before the run.
fn mistakes(folder: &Path, stages: &[String]) -> Vec<String> {
    let errors = preflight::check(&plan(folder, stages)).expect_err("it is wrong");
    errors.iter().map(ToString::to_string).collect()
}

/// The last checkpoint of a stage.
fn last(folder: &Path, stage: &str) -> PathBuf {
    let files = fs::read_dir(folder.join("runs/test/checkpoints").join(stage));
    let paths = files
        .expect("it was trained")
        .map(|file| file.expect("it is there").path());
    paths.max().expect("a checkpoint")
}

fn read(path: &Path) -> Checkpoint {
    checkpoint::read(path).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_student_learns_from_a_stage_before() {
    let folder = temporary();
    let stages = [
        teacher("Simple"),
        student("weights: Stage(\"teacher\")"),
        evaluation("judged", ""),
        evaluation(
            "taught",
            "backbone: resnet18(width: 0.125), encoder: \"teacher\",",
        ),
    ];
    let plan = plan(folder.path(), &stages);
    let facts = preflight::check(&plan).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let source = facts[1]
        .lines
        .iter()
        .find(|(heading, _)| *heading == "source");
    let (_, line) = source.expect("the teacher is spoken of");
    assert!(
        line.starts_with("weights of stage `teacher`: resnet18(width: 0.125), "),
        "{line}"
    );
    let summary =
        run::run(&plan, &RunOptions::default()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(summary.results.stages.len(), 4);

    // The teacher is that of the stage, head included, and stays so.
    let (taught, trained) = (
        read(&last(folder.path(), "teacher")),
        read(&last(folder.path(), "student")),
    );
    let mut compared = 0;
    for (name, tensor) in &trained.tensors {
        if let Some(inner) = name.strip_prefix("teacher.") {
            assert_eq!(
                Some(tensor),
                taught.tensors.get(&format!("encoder_q.{inner}")),
                "{name}"
            );
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
    assert!(trained.metadata["config"].contains("\nsource weights: end of "));
    assert_eq!(trained.metadata["evaluated"], "student");

    // A second run of the same file makes the same bytes, though the teacher comes out of a checkpoint again.
    let other = temporary();
    let again = self::plan(other.path(), &stages);
    run::run(&again, &RunOptions::default()).unwrap_or_else(|failure| panic!("{failure}"));
    let bytes = |folder: &Path| fs::read(last(folder, "student")).expect("it is there");
    assert!(bytes(folder.path()) == bytes(other.path()));

    conversions(&last(folder.path(), "student"));
}

/// A checkpoint becomes SEED's, MoCo's and this program's again.
fn conversions(path: &Path) {
    let folder = temporary();
    let convert = |input: &Path, output: &str, target| {
        let output = folder.path().join(output);
        let request = Request {
            input: input.to_owned(),
            output: output.clone(),
            target,
            backbone: None,
            encoder: None,
            overwrite: false,
        };
        convert::convert(&request).unwrap_or_else(|failure| panic!("{failure}"));
        output
    };
    let names = |path: &Path| -> Vec<String> {
        let value = torch::read(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        let tensors = value.get("state_dict").and_then(Value::entries);
        let keys = tensors.expect("a dictionary").iter();
        keys.map(|(key, _)| key.as_text().expect("a name").to_owned())
            .collect()
    };
    let seed = convert(path, "seed.pth.tar", Target::Seed);
    let written = names(&seed);
    assert_eq!(written[..2], ["module.queue", "module.queue_ptr"]);
    let place = |name: &str| {
        written
            .iter()
            .position(|known| known == name)
            .expect("it is there")
    };
    assert_eq!(place("module.student.conv1.weight"), 2);
    assert_eq!(place("module.student.bn1.weight"), 3);
    let first_of_teacher = place("module.teacher.conv1.weight");
    assert_eq!(written[first_of_teacher - 1], "module.student.fc.2.bias");
    assert_eq!(
        written.last().map(String::as_str),
        Some("module.teacher.fc.2.bias")
    );

    // There and back.
    let back = read(&convert(&seed, "back.safetensors", Target::Safetensors));
    assert!(back.tensors == read(path).tensors);
    assert_eq!(back.metadata, read(path).metadata);

    // The pupil goes on as MoCo's query encoder, from either form.
    for (input, output) in [(seed.as_path(), "a.pth.tar"), (path, "b.pth.tar")] {
        let moco = names(&convert(input, output, Target::MocoClean));
        assert_eq!(
            moco[..3],
            [
                "module.queue",
                "module.queue_ptr",
                "module.encoder_q.conv1.weight"
            ]
        );
        assert!(
            !moco
                .iter()
                .any(|name| name.contains("teacher") || name.contains("student"))
        );
        assert_eq!(
            moco.len(),
            2 + written
                .iter()
                .filter(|name| name.contains(".student."))
                .count()
        );
    }
    let request = Request {
        input: seed,
        output: folder.path().join("again.pth.tar"),
        target: Target::Seed,
        backbone: None,
        encoder: None,
        overwrite: false,
    };
    let refusal = convert::convert(&request).expect_err("it is of that form already");
    assert_eq!(refusal.exit_code(), 2);
}

#[test]
fn weights_of_a_teacher_are_checked_before_the_run() {
    let folder = temporary();
    let said = |stages: &[String]| {
        let said = mistakes(folder.path(), stages);
        assert_eq!(said.len(), 1, "{said:?}");
        said.into_iter().next().expect("one")
    };
    let tell = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "`{part}` is missing in:\n{text}");
        }
    };
    // Stages that are not there, not yet there, or of another head or backbone.
    let text = said(&[teacher("Simple"), student("weights: Stage(\"techer\")")]);
    tell(
        &text,
        &[
            "no training stage before this one is named `techer`",
            "did you mean `teacher`?",
            "test.ron:1:",
        ],
    );
    let text = said(&[student("weights: Stage(\"teacher\")"), teacher("Simple")]);
    tell(&text, &["put it before this stage"]);
    let text = said(&[teacher("Wide"), student("weights: Stage(\"teacher\")")]);
    tell(
        &text,
        &[
            "fc.0.weight: F32 [128, 64] instead of F32 [64, 64]",
            "give `teacher_head: Wide`",
        ],
    );
    let fits = [
        teacher("Wide"),
        student("weights: Stage(\"teacher\"), teacher_head: Wide"),
    ];
    assert!(preflight::check(&plan(folder.path(), &fits)).is_ok());
    let text = said(&[
        teacher("Simple").replace("width: 0.125", "width: 0.25"),
        student("weights: Stage(\"teacher\")"),
    ]);
    tell(&text, &["does not fit this encoder", "of another shape"]);

    // Files that are missing, incomplete, or of several encoders.
    let text = said(&[student("weights: File(\"none.pth\")")]);
    tell(&text, &["none.pth"]);
    let errors = experiment(folder.path(), &[student("temperature: 0.1")]).err();
    let text = errors.expect("weights are missing");
    tell(
        &text[0].to_string(),
        &[
            "`weights` of SEED: must be given",
            "give the teacher's weights",
        ],
    );

    let tensors = |prefix: &str, skip: &str| -> Checkpoint {
        let backbone = build::<dyn Backbone>("resnet18(width: 0.125)");
        let run = build::<dyn Objective>("MoCo(dim: 16, queue: 16, head: Simple)");
        let setup = smallfry::objective::Setup {
            seed: 1,
            batch: 8,
            samples: 64,
            epochs: 1,
        };
        let learner = run
            .start(&setup, &*backbone)
            .unwrap_or_else(|invalid| panic!("{invalid}"));
        let parameters = learner.encoders()[0].1.parameters();
        Checkpoint {
            tensors: entries(&parameters)
                .filter(|(name, _)| name != skip)
                .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
                .collect(),
            ..Checkpoint::default()
        }
    };
    let write = |name: &str, checkpoint: &Checkpoint| {
        let path = folder.path().join(name);
        checkpoint::write(checkpoint, &path).unwrap_or_else(|failure| panic!("{failure}"));
    };
    write("whole.safetensors", &tensors("module.encoder_q.", ""));
    write(
        "holed.safetensors",
        &tensors("module.encoder_q.", "layer3.0.bn2.running_var"),
    );
    write(
        "headless.safetensors",
        &tensors("module.encoder_q.", "fc.2.weight"),
    );
    write("key.safetensors", &tensors("module.encoder_k.", ""));
    let file = |name: &str| [student(&format!("weights: File(\"{name}.safetensors\")"))];
    let whole = plan(folder.path(), &file("whole"));
    let facts = preflight::check(&whole).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert!(
        facts[0]
            .lines
            .iter()
            .any(|(_, line)| line.contains("of `module.encoder_q`"))
    );
    let text = said(&file("holed"));
    tell(
        &text,
        &["1 missing", "module.encoder_q.layer3.0.bn2.running_var"],
    );
    let text = said(&file("headless"));
    tell(
        &text,
        &[
            "module.encoder_q.fc.2.weight",
            "the backbone fits, but a teacher needs the head",
        ],
    );
    let text = said(&file("key"));
    tell(&text, &["encoder_k"]);
    let key = [student(
        "weights: File(\"key.safetensors\"), encoder: \"encoder_k\"",
    )];
    assert!(preflight::check(&plan(folder.path(), &key)).is_ok());

    // What the file holds is part of what the run is.
    let fingerprint = |plan: &Plan| {
        let stages = prepare::all(plan).unwrap_or_else(|failure| panic!("{failure}"));
        stages[0].fingerprint().to_owned()
    };
    let before = fingerprint(&whole);
    let mut changed = tensors("module.encoder_q.", "");
    let tensor = changed
        .tensors
        .get_mut("module.encoder_q.fc.2.bias")
        .expect("it is there");
    *tensor = Tensor::float(vec![16], vec![0.5; 16]);
    write("whole.safetensors", &changed);
    let after = fingerprint(&plan(folder.path(), &file("whole")));
    let lines: Vec<_> = before
        .lines()
        .zip(after.lines())
        .filter(|(a, b)| a != b)
        .collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].0.starts_with("source weights: file "), "{lines:?}");
}

fn entries(parameters: &Parameters) -> impl Iterator<Item = (String, Tensor)> + '_ {
    parameters.specs().iter().enumerate().map(|(i, spec)| {
        let tensor = match spec.role {
            Role::Counter => Tensor::integer(vec![], vec![1]),
            _ => match parameters.get(i) {
                smallfry::nn::parameter::Values::Float(values) => {
                    Tensor::float(spec.shape.clone(), values.to_vec())
                }
                smallfry::nn::parameter::Values::Integer(_) => {
                    unreachable!("only counters are integers")
                }
            },
        };
        (spec.name.clone(), tensor)
    })
}

/// Zeros under the names of a teacher with its head, as the reference's mapping expects them in a published file.
fn published(backbone: &str, prefix: &str, with: &[(&str, Vec<usize>)]) -> Checkpoint {
    let backbone = build::<dyn Backbone>(backbone);
    let head = backbone.own_head();
    let specs: Vec<Spec> = match head {
        Some(head) => backbone.network(&head).expect("it is described").tensors(),
        None => backbone.tensors(),
    };
    let zeros = |shape: &[usize]| Tensor::float(shape.to_vec(), vec![0.0; shape.iter().product()]);
    let mut checkpoint = Checkpoint::default();
    for spec in specs {
        let tensor = match spec.role {
            Role::Counter => Tensor::integer(vec![], vec![1]),
            _ => zeros(&spec.shape),
        };
        checkpoint
            .tensors
            .insert(format!("{prefix}{}", spec.name), tensor);
    }
    for (name, shape) in with {
        checkpoint.tensors.insert((*name).to_owned(), zeros(shape));
    }
    checkpoint
}

#[test]
fn published_teachers_are_found_with_their_heads() {
    let moco = [
        ("module.encoder_q.fc.0.weight", vec![2048, 2048]),
        ("module.encoder_q.fc.0.bias", vec![2048]),
        ("module.encoder_q.fc.2.weight", vec![128, 2048]),
        ("module.encoder_q.fc.2.bias", vec![128]),
        ("module.queue", vec![128, 256]),
    ];
    let prototypes = [("module.prototypes.weight", vec![3000, 128])];
    for (teacher, prefix, with) in [
        ("resnet50", "module.encoder_q.", moco.as_slice()),
        // The reference's file has one `module.` more than its network's own names.
        ("simclr_resnet50", "module.module.", &[]),
        ("swav_resnet50", "module.", prototypes.as_slice()),
    ] {
        let objective = build::<dyn Objective>(&format!(
            "SEED(teacher: {teacher}, weights: File(\"x.pth\"))"
        ));
        let source = Source {
            parameter: "weights",
            weights: Weights::Untrained,
        };
        let mut file = published(teacher, prefix, with);
        let line = objective.check_source(&source, &file, "x.pth");
        let line = line.unwrap_or_else(|invalid| panic!("{teacher}: {invalid}"));
        assert!(line.starts_with(&format!("{teacher}(")), "{line}");
        let lost = file
            .tensors
            .keys()
            .find(|name| name.contains("layer4.2.conv3"))
            .cloned();
        let lost = lost.expect("a ResNet-50 has it");
        file.tensors.remove(&lost);
        let refusal = objective.check_source(&source, &file, "x.pth");
        let refusal = refusal.expect_err("a tensor is missing");
        assert_eq!(refusal.field(), "weights");
        assert!(refusal.reason().contains(&lost), "{}", refusal.reason());
    }
}

const TAUGHT: &str =
    "SEED(teacher: resnet18(width: 0.125), weights: Untrained, dim: 16, queue: 16)";

const SETUP: Setup = Setup {
    seed: 1,
    batch: 8,
    samples: 64,
    epochs: 1,
};

/// SEED, but its teacher moves and takes no weights, what it lacks is passed over, and its queue is of no length.
struct Careless(Arc<Built<dyn Objective>>);

struct Drifting(Box<dyn Learner>);

impl Objective for Careless {
    fn views(&self) -> usize {
        self.0.views()
    }

    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        self.0.check(setup)
    }

    fn backbone_of(&self, encoder: &str) -> Option<Arc<Built<dyn Backbone>>> {
        self.0.backbone_of(encoder)
    }

    fn sources(&self) -> Vec<Source> {
        self.0.sources()
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        Ok(Box::new(Drifting(self.0.start(setup, backbone)?)))
    }
}

impl Learner for Drifting {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        self.0.loss(views, moment)
    }

    fn after_step(&mut self) {
        for (_, encoder) in self.0.encoders() {
            encoder.parameters().statistics_mut()[0] += 1.0;
        }
        self.0.after_step();
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        self.0.encoders()
    }

    fn trained(&self) -> &'static [&'static str] {
        self.0.trained()
    }

    fn evaluated(&self) -> &'static str {
        self.0.evaluated()
    }

    fn buffers(&self) -> Vec<Buffer> {
        self.0.buffers()
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        self.0.restore(buffer)
    }
}

#[test]
fn a_bad_objective_with_a_teacher_is_noticed() {
    let backbone = build::<dyn Backbone>("resnet18(width: 0.0625)");
    let objective = Careless(build::<dyn Objective>(TAUGHT).into());
    let faults = objective_faults(&objective, &*backbone);
    let wanted = [
        "a step changes the running statistics of `teacher`",
        "has a queue and does not say how many batches it holds",
        "`teacher` has other weights than it was given for `weights`",
        "its check passes weights for `weights` that lack `fc.2.bias`",
    ];
    assert_eq!(faults.len(), wanted.len(), "{faults:?}");
    for (fault, wanted) in faults.iter().zip(wanted) {
        assert!(fault.starts_with(wanted), "{fault}");
    }
}

#[test]
fn it_does_what_objectives_must() {
    let backbone = build::<dyn Backbone>("resnet18(width: 0.125)");
    for parameters in [
        "",
        "patches: 2",
        "teacher_temperature: 0.1, head: Wide",
        "head: None",
        "groups: 4",
        "groups: 2, patches: 2",
    ] {
        let objective = build::<dyn Objective>(&format!(
            "SEED(teacher: resnet18(width: 0.125), weights: Untrained, dim: 16, queue: 16, {parameters})"
        ));
        assert_eq!(
            objective_faults(&*objective, &*backbone),
            Vec::<String>::new(),
            "{parameters}"
        );
    }
    let objective = build::<dyn Objective>(TAUGHT);
    let learner = objective.start(&SETUP, &*backbone).expect("it fits");
    assert_eq!(learner.queue_batches(), Some(2));
    let patches = build::<dyn Objective>("SEED(weights: Untrained, patches: 2)");
    assert!(patches.check_views(&[224, 96, 96]).is_ok());
    let refusal = patches
        .check_views(&[224, 96, 64])
        .expect_err("they differ");
    assert_eq!(refusal.field(), "patches");
    let context = Context {
        folder: Path::new("."),
    };
    let wide = parse::<dyn Objective>(
        &context,
        "SEED(teacher: swav_resnet50, weights: Untrained, dim: 64)",
    );
    let text = wide.expect_err("its head is wider")[0].to_string();
    assert!(
        text.contains("the teacher's embeddings have 128 numbers"),
        "{text}"
    );
}
