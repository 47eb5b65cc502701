//! The command line of the small models' `main_moco_final.py`: from its flags to an experiment file and back.
//!
//! One table says which flag is which setting, both ways; augmentations, schedule and start, which several flags
//! make up, have a function in each direction. `--aug-plus`, which the paper's command passes and its program does not
//! know, is taken and does nothing: the strong augmentation is always on.

use std::collections::BTreeMap;

use smallfry::{
    cli::{Foreign, Translation},
    failure::Failure,
};

use crate::flags::{
    self, DECAY, Data, EPOCHS, Flag, MILESTONES, MOMENTUM, Meaning, NUMBER, RATE, RESUME,
    START_EPOCH, Table, Takes, WORKERS, inside, unquoted,
};

/// The program, for [`smallfry::cli::main_with`].
pub const MOCO: Foreign = Foreign {
    verb: "moco",
    about: "Train as the command line of main_moco_final.py says",
    programs: PROGRAMS,
    experiment,
    command,
};

const PROGRAMS: &[&str] = &["main_moco_final.py"];

static TABLE: Table = Table {
    programs: PROGRAMS,
    flags: &FLAGS,
    data: Data::Positional,
    holds: "`train`, with a folder for each class",
};

const DEVICES: &str = "one process trains here; `pretrain.objective.groups` gives the batch statistics of several devices";

const FLAGS: [Flag; 32] = {
    use Meaning::*;
    use Takes::*;
    [
        (&["--arch", "-a"], Word, "resnet50", Setting("backbone")),
        WORKERS,
        EPOCHS,
        START_EPOCH,
        (&["--batch-size", "-b"], Word, "256", Setting("batch")),
        RATE,
        MILESTONES,
        MOMENTUM,
        DECAY,
        (
            &["--print-freq", "-p"],
            Word,
            "10",
            Idle("log.jsonl has twenty lines an epoch"),
        ),
        RESUME,
        (&["--world-size"], Word, "-1", Only("1", DEVICES)),
        (&["--rank"], Word, "-1", Only("0", DEVICES)),
        (
            &["--dist-url"],
            Word,
            "tcp://224.66.41.62:23456",
            Idle(DEVICES),
        ),
        (&["--dist-backend"], Word, "nccl", Idle(DEVICES)),
        NUMBER,
        (
            &["--gpu"],
            Word,
            "",
            Idle("the network runs on the processor"),
        ),
        (
            &["--multiprocessing-distributed"],
            Nothing,
            "",
            Idle(DEVICES),
        ),
        (&["--restart"], Nothing, "", Part),
        (&["--ckpt-dir"], Word, "checkpoints", Part),
        (&["--moco-dim"], Word, "128", Setting("objective.dim")),
        (&["--moco-k"], Word, "65536", Setting("objective.queue")),
        (&["--moco-m"], Word, "0.999", Setting("objective.momentum")),
        (&["--moco-t"], Word, "0.1", Setting("objective.temperature")),
        (&["--mlp"], Word, "wide", Part),
        (&["--aug-has"], Nothing, "", Part),
        (
            &["--has-p"],
            Word,
            "0.5",
            Idle(
                "the reference takes --has-p and never uses it: each cell is hidden with probability 0.5",
            ),
        ),
        (&["--cj"], Word, "1.5", Part),
        (
            &["--gaussian-blur"],
            Word,
            "0.5",
            Setting("view.GaussianBlur.p"),
        ),
        (&["--grey-scale"], Word, "0.5", Setting("view.Grayscale.p")),
        (&["--cos"], Nothing, "", Part),
        (
            &["--aug-plus"],
            Nothing,
            "",
            Idle("--aug-plus changes nothing: the strong augmentation is always on"),
        ),
    ]
};

/// Names of heads, by the value of `--mlp`; any other value is no head.
const HEADS: [(&str, &str); 5] = [
    ("wide", "Wide"),
    ("simple", "Simple"),
    ("deep", "Deep"),
    ("dropout", "Dropout"),
    ("", "None"),
];

/// The share of full strength that `--cj 1` gives brightness, contrast and saturation, and hue.
const JITTER: (f64, f64) = (0.8, 0.4);

/// The most that hue can be turned.
const HUE: f64 = 0.5;

fn experiment(arguments: &[String]) -> Result<Translation, Failure> {
    let values = TABLE.parse(arguments)?;
    let mut notes = values.notes()?;
    let head = HEADS.iter().find(|(word, _)| *word == values.get("--mlp"));
    if head.is_none() {
        notes.push(format!(
            "`--mlp {}` is no head that there is; as in the reference, that means none",
            values.get("--mlp")
        ));
    }
    let hide = match values.has("--aug-has") {
        true => "\n                HideAndSeek(p: 0.5, grids: [0, 14, 28, 56]),",
        false => "",
    };
    let text = format!(
        "Experiment(
{seed}{output}    stages: [
        Pretrain(
            data: ImageFolder(path: {data:?}),
            backbone: {backbone},
            objective: MoCo(dim: {dim}, queue: {queue}, momentum: {key}, temperature: {temperature}, head: {head}),
            view: [
                RandomResizedCrop(size: 224, scale: (0.2, 1.0)),
                {jitter},
                Grayscale(p: {grey}),
                GaussianBlur(sigma: (0.1, 2.0), p: {blur}),
                HorizontalFlip(p: 0.5),{hide}
            ],
            optimizer: SGD(lr: {lr}, momentum: {momentum}, weight_decay: {decay}),
            schedule: {schedule},
{initial}            epochs: {epochs},
            batch: {batch},
        ),
    ],
)
",
        seed = values.seed(),
        output = values.output("--ckpt-dir"),
        data = format!("{}/train", values.data.trim_end_matches('/')),
        backbone = values.setting("backbone"),
        dim = values.setting("objective.dim"),
        queue = values.setting("objective.queue"),
        key = values.setting("objective.momentum"),
        temperature = values.setting("objective.temperature"),
        head = head.map_or("None", |(_, head)| head),
        jitter = jitter(values.number("--cj")?),
        grey = values.setting("view.Grayscale.p"),
        blur = values.setting("view.GaussianBlur.p"),
        lr = values.setting("optimizer.lr"),
        momentum = values.setting("optimizer.momentum"),
        decay = values.setting("optimizer.weight_decay"),
        schedule = values.schedule(values.has("--cos")),
        initial = match (values.get("--resume"), values.has("--restart")) {
            ("", _) => String::new(),
            (path, true) => format!("            initial: Restart(File({path:?})),\n"),
            (path, false) => format!("            initial: Resume(File({path:?})),\n"),
        },
        epochs = values.setting("epochs"),
        batch = values.setting("batch"),
    );
    Ok(Translation { text, notes })
}

fn jitter(strength: f64) -> String {
    let (colour, hue) = (
        shortest(JITTER.0 * strength),
        shortest((JITTER.1 * strength).min(HUE)),
    );
    format!(
        "ColorJitter(brightness: {colour}, contrast: {colour}, saturation: {colour}, hue: {hue}, p: 0.8)"
    )
}

/// A number without the digits that come of multiplying in binary.
fn shortest(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

fn command(settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let setting = |path: &str| settings.get(path).map(String::as_str);
    if setting("objective") != Some("MoCo") {
        return None;
    }
    let mut words = vec![TABLE.programs[0].to_owned()];
    words.extend(TABLE.plain(settings));
    let mut flag = |name: &str, value: &str| {
        words.push(name.to_owned());
        words.extend((!value.is_empty()).then(|| value.to_owned()));
    };
    let own = setting("objective.head");
    let head = HEADS.iter().find(|(_, head)| own == Some(head));
    match head {
        Some(("wide", _)) | None => {}
        // No value at all would take the next word.
        Some(("", _)) => flag("--mlp", "none"),
        Some((word, _)) => flag("--mlp", word),
    }
    let colour = setting("view.ColorJitter.brightness").and_then(|value| value.parse::<f64>().ok());
    if let Some(strength) = colour.map(|colour| shortest(colour / JITTER.0))
        && strength != 1.5
    {
        flag("--cj", &strength.to_string());
    }
    if setting("view.HideAndSeek.grids").is_some() {
        flag("--aug-has", "");
    }
    match (setting("schedule"), setting("schedule.milestones")) {
        (Some("Cosine"), _) => flag("--cos", ""),
        (_, Some(milestones)) => words.extend(flags::milestones(milestones)),
        _ => {}
    }
    words.extend(initial(setting("initial").unwrap_or_default()));
    words.push(match setting("data.path").and_then(unquoted) {
        Some(path) => path.strip_suffix("/train").unwrap_or(path).to_owned(),
        None => "DATA".to_owned(),
    });
    Some(words)
}

/// The flags of a start.
fn initial(written: &str) -> Vec<String> {
    let (origin, restart) = match (inside("Restart", written), inside("Resume", written)) {
        (Some(origin), _) => (origin, true),
        (_, Some(origin)) => (origin, false),
        _ => return Vec::new(),
    };
    let mut words = vec![
        "--resume".to_owned(),
        flags::path(origin).unwrap_or_default(),
    ];
    words.extend(restart.then(|| "--restart".to_owned()));
    words
}

#[cfg(test)]
mod tests;
