//! Trains MoCo on the photographs of the quick start and writes all that another program needs to do the very same: the
//! weights and the queue it starts from, every view of every batch, and the losses it came to.
//!
//!     cargo run --release -p smallfry-tests --example overlay -- FOLDER [STEPS] [EARLIER]
//!
//! EARLIER steps are taken before anything is written. A network as initialised gives all images nearly the same features,
//! and its first steps multiply rounding by thousands in any program; after some hundred steps that is over.
//! `tests/bench/overlay.py` trains on them in PyTorch and lays the curves over each other. FOLDER takes 315 MB for 200
//! steps: `start.safetensors`, a checkpoint; `views.f32` (for each step both views, `[16, 64, 64, 3]`), `losses.json`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use smallfry::{
    checkpoint,
    data::loader::{Cursor, Part},
    dfdx::tensor_ops::Backward,
    experiment,
    objective::{Learner, Moment, Setup},
    plan::{Plan, Stage},
    source::Source,
    tensor,
    train::{
        batches::Batches,
        state::{self, Descents, Position},
    },
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::golden::repository;

const BATCH: usize = 16;
const SIZE: usize = 64;
const QUEUE: usize = 256;
const RATE: f64 = 0.03;

/// Without dropout, which no other program draws alike.
const EXPERIMENT: &str = "Pretrain(
    seed: 1,
    data: ImageFolder(path: \"photos/train\"),
    backbone: mobilenetv3_small(dropout: 0.0),
    objective: MoCo(queue: QUEUE, momentum: 0.999, temperature: 0.1, head: Wide),
    view: [
        RandomResizedCrop(size: SIZE, scale: (0.2, 1.0)),
        ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, p: 0.8),
        Grayscale(p: 0.2),
        HorizontalFlip(p: 0.5),
    ],
    optimizer: SGD(lr: RATE, momentum: 0.9, weight_decay: 0.0001),
    schedule: Constant,
    epochs: 1000,
    batch: BATCH,
)";

fn plan() -> Result<Plan, String> {
    let text = EXPERIMENT
        .replace("QUEUE", &QUEUE.to_string())
        .replace("SIZE", &SIZE.to_string())
        .replace("RATE", &RATE.to_string())
        .replace("BATCH", &BATCH.to_string());
    let source = Source::new("overlay.ron", text);
    let folder = repository().join("experiments");
    experiment::parse(source, &folder, "overlay", &[]).map_err(|errors| errors[0].to_string())
}

/// Writes encoders, queue, pointer and momenta.
fn write_start(learner: &dyn Learner, descents: &Descents, folder: &Path) -> Result<(), String> {
    let position = Position {
        stage: "overlay".to_owned(),
        epoch: 0,
        within: None,
        step: 0,
        seed: 1,
        config: String::new(),
    };
    let start = state::capture(learner, descents, &position);
    checkpoint::write(&start, &folder.join("start.safetensors")).map_err(|e| e.to_string())
}

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give a folder to write to")?;
    let mut number = |default: u64| match arguments.next() {
        Some(steps) => steps
            .parse()
            .map_err(|_| format!("`{steps}` is no number of steps")),
        None => Ok(default),
    };
    let (steps, earlier) = (number(200)?, number(0)?);
    let folder = Path::new(&folder);
    let plan = plan()?;
    let Some(Stage::Pretrain(stage)) = plan.stages.first() else {
        return Err("the experiment trains".to_owned());
    };
    let data = stage.data.open().map_err(|e| e.to_string())?;
    let setup = Setup {
        seed: plan.seed,
        batch: BATCH,
        samples: data.len(),
        epochs: stage.epochs,
    };
    let started = stage.objective.start(&setup, &*stage.backbone.plugin);
    let mut learner = started.map_err(|invalid| invalid.to_string())?;
    let mut descents = state::descents(&*learner, &*stage.optimizer.plugin);

    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(folder).map_err(failed)?;
    let mut views = BufWriter::new(File::create(folder.join("views.f32")).map_err(failed)?);
    let begin = Cursor { epoch: 0, batch: 0 };
    let mut batches =
        Batches::start(stage, setup.seed, data, begin, Part::WHOLE).map_err(|e| e.to_string())?;
    let mut losses = Vec::new();
    for step in 0..earlier + steps {
        if step == earlier {
            write_start(&*learner, &descents, folder)?;
        }
        let batch = batches.next().ok_or("the images ended")?;
        let batch = batch.map_err(|failure| failure.to_string())?;
        if step >= earlier {
            for value in batch.views.iter().flat_map(|view| &view.values) {
                views.write_all(&value.to_le_bytes()).map_err(failed)?;
            }
        }
        let moment = Moment {
            seed: setup.seed,
            epoch: 0,
            step,
        };
        let outcome = learner.loss(&batch.views, moment);
        if step >= earlier {
            losses.push(f64::from(tensor::scalar(&outcome.loss)));
        }
        outcome.loss.backward();
        for (name, descent) in &mut descents {
            let encoders = learner.encoders();
            let found = encoders.iter().find(|(known, _)| known == name);
            let mut parameters = found.ok_or("no such encoder")?.1.parameters();
            descent.step(&mut parameters, RATE);
            parameters.clear_gradients();
        }
        learner.after_step();
    }
    views.flush().map_err(failed)?;
    let record = serde_json::json!({
        "losses": losses,
        "batch": BATCH,
        "size": SIZE,
        "queue": QUEUE,
        "lr": RATE,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "key_momentum": 0.999,
        "temperature": 0.1,
    });
    fs::write(folder.join("losses.json"), format!("{record:#}\n")).map_err(failed)
}
