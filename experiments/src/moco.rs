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

/// The program, for [`smallfry::cli::main_with`].
pub const MOCO: Foreign = Foreign {
    verb: "moco",
    about: "Train as the command line of main_moco_final.py says",
    program: "main_moco_final.py",
    experiment,
    arguments,
};

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Word,
    /// Any number of whole numbers.
    Numbers,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The setting at this path of the stage.
    Setting(&'static str),
    /// Part of something that a function makes.
    Part,
    /// Nothing, for the reason given.
    Idle(&'static str),
    /// Only this value can be had.
    Only(&'static str, &'static str),
}

/// A flag: its names, the longest first; what follows it; the value where it is left out; its meaning.
type Flag = (&'static [&'static str], Takes, &'static str, Meaning);

const DEVICES: &str = "one process trains here; `pretrain.objective.groups` gives the batch statistics of several devices";

const FLAGS: [Flag; 32] = {
    use Meaning::*;
    use Takes::*;
    [
        (&["--arch", "-a"], Word, "resnet50", Setting("backbone")),
        (
            &["--workers", "-j"],
            Word,
            "32",
            Idle("images are loaded by as many threads as the processor has"),
        ),
        (&["--epochs"], Word, "200", Setting("epochs")),
        (
            &["--start-epoch"],
            Word,
            "0",
            Only("0", "--resume takes the epoch from the checkpoint"),
        ),
        (&["--batch-size", "-b"], Word, "256", Setting("batch")),
        (
            &["--learning-rate", "--lr"],
            Word,
            "0.03",
            Setting("optimizer.lr"),
        ),
        (&["--schedule"], Numbers, "120 160", Part),
        (&["--momentum"], Word, "0.9", Setting("optimizer.momentum")),
        (
            &["--weight-decay", "--wd"],
            Word,
            "1e-4",
            Setting("optimizer.weight_decay"),
        ),
        (
            &["--print-freq", "-p"],
            Word,
            "10",
            Idle("log.jsonl has twenty lines an epoch"),
        ),
        (&["--resume"], Word, "", Part),
        (&["--world-size"], Word, "-1", Only("1", DEVICES)),
        (&["--rank"], Word, "-1", Only("0", DEVICES)),
        (
            &["--dist-url"],
            Word,
            "tcp://224.66.41.62:23456",
            Idle(DEVICES),
        ),
        (&["--dist-backend"], Word, "nccl", Idle(DEVICES)),
        (&["--seed"], Word, "", Part),
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

/// The values of all flags, by their longest names, and the data.
struct Values {
    given: BTreeMap<&'static str, String>,
    data: String,
}

impl Values {
    /// The value of a flag, given or not; of one that takes nothing, whether it is given.
    fn get(&self, name: &str) -> &str {
        let default = FLAGS
            .iter()
            .find(|flag| flag.0[0] == name)
            .map_or("", |flag| flag.2);
        self.given.get(name).map_or(default, String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value of a flag as a number.
    fn number(&self, name: &str) -> Result<f64, Failure> {
        let value = self.get(name);
        let number = value.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| Failure::mistake(format!("{name}: `{value}` is no number")))
    }
}

fn parse(arguments: &[String]) -> Result<Values, Failure> {
    let mut values = Values {
        given: BTreeMap::new(),
        data: String::new(),
    };
    let mut words = arguments.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if !word.starts_with('-') || word == "-" {
            if !values.data.is_empty() {
                return Err(Failure::mistake(format!(
                    "`{word}`: there is a data folder already, `{}`",
                    values.data
                )));
            }
            word.clone_into(&mut values.data);
            continue;
        }
        let (name, attached) = split(word);
        let Some((names, takes, ..)) = FLAGS.iter().find(|flag| flag.0.contains(&name)) else {
            return Err(
                Failure::mistake(format!("main_moco_final.py has no flag `{name}`"))
                    .help(nearest(name)),
            );
        };
        let value = match (takes, attached) {
            (Takes::Nothing, None) => String::new(),
            (Takes::Nothing, Some(_)) => {
                return Err(Failure::mistake(format!("{name} takes no value")));
            }
            (_, Some(value)) => value.to_owned(),
            (Takes::Word, None) => match words.next() {
                Some(value) => value.to_owned(),
                None => return Err(Failure::mistake(format!("{name} needs a value"))),
            },
            (Takes::Numbers, None) => {
                let mut numbers = Vec::new();
                while let Some(number) = words.next_if(|word| word.parse::<usize>().is_ok()) {
                    numbers.push(number);
                }
                numbers.join(" ")
            }
        };
        values.given.insert(names[0], value);
    }
    match values.data.is_empty() {
        true => Err(Failure::mistake("no data folder is given").help(
            "its path comes beside the flags; it holds `train`, with a folder for each class",
        )),
        false => Ok(values),
    }
}

/// A flag and what is attached to it, as in `--lr=0.06` and `-b256`.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
    }
    match word.char_indices().nth(2) {
        Some((at, _)) => (&word[..at], Some(word[at..].trim_start_matches('='))),
        None => (word, None),
    }
}

/// The flags that share the longest beginning with `name`.
fn nearest(name: &str) -> String {
    let common = |other: &str| {
        name.chars()
            .zip(other.chars())
            .take_while(|(a, b)| a == b)
            .count()
    };
    let names: Vec<&str> = FLAGS
        .iter()
        .flat_map(|flag| flag.0.iter().copied())
        .collect();
    let best = names.iter().map(|other| common(other)).max().unwrap_or(0);
    let near: Vec<_> = names
        .into_iter()
        .filter(|other| best > 2 && common(other) == best)
        .collect();
    match near.is_empty() {
        true => "`--print` with no other flag shows what its defaults come to".to_owned(),
        false => format!("near it are {}", near.join(", ")),
    }
}

fn experiment(arguments: &[String]) -> Result<Translation, Failure> {
    let values = parse(arguments)?;
    let mut notes = Vec::new();
    for (names, _, default, meaning) in &FLAGS {
        let Some(given) = values.given.get(names[0]) else {
            continue;
        };
        match meaning {
            Meaning::Idle(reason) => notes.push((*reason).to_owned()),
            Meaning::Only(value, reason) if given != value && given != default => {
                return Err(
                    Failure::mistake(format!("{} {given} cannot be had", names[0])).help(*reason),
                );
            }
            _ => {}
        }
    }
    notes.dedup();
    let head = HEADS.iter().find(|(word, _)| *word == values.get("--mlp"));
    if head.is_none() {
        notes.push(format!(
            "`--mlp {}` is no head that there is; as in the reference, that means none",
            values.get("--mlp")
        ));
    }
    let setting = |path: &str| {
        let flag = FLAGS
            .iter()
            .find(|flag| matches!(flag.3, Meaning::Setting(own) if own == path));
        flag.map_or(String::new(), |flag| values.get(flag.0[0]).to_owned())
    };
    for flag in FLAGS
        .iter()
        .filter(|flag| matches!(flag.3, Meaning::Setting(path) if path != "backbone"))
    {
        values.number(flag.0[0])?;
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
        seed = match values.get("--seed") {
            "" => String::new(),
            seed => format!("    seed: {seed},\n"),
        },
        output = match values.has("--ckpt-dir") {
            true => format!("    output: {:?},\n", values.get("--ckpt-dir")),
            false => String::new(),
        },
        data = format!("{}/train", values.data.trim_end_matches('/')),
        backbone = setting("backbone"),
        dim = setting("objective.dim"),
        queue = setting("objective.queue"),
        key = setting("objective.momentum"),
        temperature = setting("objective.temperature"),
        head = head.map_or("None", |(_, head)| head),
        jitter = jitter(values.number("--cj")?),
        grey = setting("view.Grayscale.p"),
        blur = setting("view.GaussianBlur.p"),
        lr = setting("optimizer.lr"),
        momentum = setting("optimizer.momentum"),
        decay = setting("optimizer.weight_decay"),
        schedule = match values.has("--cos") {
            true => "Cosine".to_owned(),
            false => format!("Step(milestones: [{}])", values.get("--schedule").replace(' ', ", ")),
        },
        initial = match (values.get("--resume"), values.has("--restart")) {
            ("", _) => String::new(),
            (path, true) => format!("            initial: Restart(File({path:?})),\n"),
            (path, false) => format!("            initial: Resume(File({path:?})),\n"),
        },
        epochs = setting("epochs"),
        batch = setting("batch"),
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

fn arguments(settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let setting = |path: &str| settings.get(path).map(String::as_str);
    if setting("objective") != Some("MoCo") {
        return None;
    }
    let mut words = Vec::new();
    let mut flag = |names: &[&str], value: &str| {
        // The short form that the reference's commands use.
        let name = names
            .iter()
            .rev()
            .find(|name| name.starts_with("--") || **name == "-a");
        words.push((*name.unwrap_or(&names[0])).to_owned());
        words.extend((!value.is_empty()).then(|| value.to_owned()));
    };
    for (names, _, default, meaning) in &FLAGS {
        if let Meaning::Setting(path) = meaning
            && let Some(value) = setting(path)
            && !equal(value, default)
        {
            flag(names, value);
        }
    }
    let own = setting("objective.head");
    let head = HEADS.iter().find(|(_, head)| own == Some(head));
    match head {
        Some(("wide", _)) | None => {}
        // No value at all would take the next word.
        Some(("", _)) => flag(&["--mlp"], "none"),
        Some((word, _)) => flag(&["--mlp"], word),
    }
    let colour = setting("view.ColorJitter.brightness").and_then(|value| value.parse::<f64>().ok());
    if let Some(strength) = colour.map(|colour| shortest(colour / JITTER.0))
        && strength != 1.5
    {
        flag(&["--cj"], &strength.to_string());
    }
    if setting("view.HideAndSeek.grids").is_some() {
        flag(&["--aug-has"], "");
    }
    match (setting("schedule"), setting("schedule.milestones")) {
        (Some("Cosine"), _) => flag(&["--cos"], ""),
        (_, Some(milestones)) => {
            let numbers = milestones.replace(['(', ')', '[', ']', ','], " ");
            let numbers: Vec<_> = numbers.split_whitespace().collect();
            if numbers != ["120", "160"] {
                flag(&["--schedule"], "");
                words.extend(numbers.into_iter().map(str::to_owned));
            }
        }
        _ => {}
    }
    words.extend(initial(setting("initial").unwrap_or_default()));
    let data = setting("data.path").and_then(|path| path.strip_prefix('"')?.strip_suffix('"'));
    words.push(match data {
        Some(path) => path.strip_suffix("/train").unwrap_or(path).to_owned(),
        None => "DATA".to_owned(),
    });
    Some(words)
}

/// The flags of a start; that of another stage is named by what it is made into.
fn initial(written: &str) -> Vec<String> {
    let inside = |word: &str, text: &str| -> Option<String> {
        let inner = text
            .strip_prefix(word)?
            .strip_prefix('(')?
            .strip_suffix(')')?;
        Some(inner.to_owned())
    };
    let path = |origin: &str| {
        let named = inside("File", origin).or_else(|| {
            let stage = inside("Stage", origin)?;
            Some(format!("\"{}.pth.tar\"", stage.trim_matches('"')))
        });
        named.unwrap_or_default().trim_matches('"').to_owned()
    };
    let (origin, restart) = match (inside("Restart", written), inside("Resume", written)) {
        (Some(origin), _) => (origin, true),
        (_, Some(origin)) => (origin, false),
        _ => return Vec::new(),
    };
    let mut words = vec!["--resume".to_owned(), path(&origin)];
    words.extend(restart.then(|| "--restart".to_owned()));
    words
}

/// Whether two texts are the same number, or the same text.
fn equal(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b || a.split('(').next() == Some(b),
    }
}

#[cfg(test)]
mod tests;
