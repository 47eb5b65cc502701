//! The command lines of SEED's `main.py` and `main_small-patch.py`: from their flags to an experiment file and back.
//!
//! Both read the same flags; the name of the second before them asks for six patches beside the large view, which
//! are for SwAV's teachers. The kind of teacher decides its network's prefix and the augmentation. A prefix may be there already: the
//! first program puts it before the name itself, the second wants it to be given. The booleans are booleans, where the
//! reference takes any text but the empty one for true.

use std::collections::BTreeMap;

use smallfry::{
    cli::{Foreign, Translation},
    failure::Failure,
};

use crate::flags::{
    self, DECAY, Data, EPOCHS, Flag, MILESTONES, MOMENTUM, Meaning, NUMBER, RATE, RESUME,
    START_EPOCH, Table, Takes, Values, WORKERS, inside, unquoted,
};

/// The programs, for [`smallfry::cli::main_with`].
pub const SEED: Foreign = Foreign {
    verb: "seed",
    about: "Distil as the command line of SEED's main.py or main_small-patch.py says",
    programs: PROGRAMS,
    experiment,
    command,
};

/// The program for whole views, and the one for patches beside them.
const PROGRAMS: &[&str] = &["main.py", "main_small-patch.py"];

static TABLE: Table = Table {
    programs: PROGRAMS,
    flags: &FLAGS,
    data: Data::Flag("--data"),
    holds: "`train.tsv`",
};

const DEVICES: &str = "one process trains here, so that a whole batch has its batch statistics in common; `--distributed` only \
                       lets the rate rise with the batch";

const FLAGS: [Flag; 26] = {
    use Meaning::*;
    use Takes::*;
    [
        (&["--data"], Word, "", Part),
        (&["--output"], Word, "./output", Part),
        (
            &["--student_arch", "-a"],
            Word,
            "mobilenetv3_large",
            Setting("backbone"),
        ),
        (&["--teacher_arch", "-k"], Word, "resnet50", Part),
        (&["--teacher_ssl", "-s"], Word, "simclr", Part),
        WORKERS,
        EPOCHS,
        START_EPOCH,
        (&["--batch-size", "-b"], Word, "4", Setting("batch")),
        RATE,
        MILESTONES,
        MOMENTUM,
        DECAY,
        (
            &["--print-freq", "-p"],
            Word,
            "1000",
            Idle("log.jsonl has twenty lines an epoch"),
        ),
        RESUME,
        (&["--distill"], Word, "", Part),
        NUMBER,
        (
            &["--info"],
            Word,
            "",
            Idle("--info changes nothing, in the reference either"),
        ),
        (&["--dim"], Word, "128", Setting("objective.dim")),
        (&["--queue"], Word, "65536", Setting("objective.queue")),
        (&["--temp"], Word, "0.2", Setting("objective.temperature")),
        (
            &["--distill-t"],
            Word,
            "1e-4",
            Setting("objective.teacher_temperature"),
        ),
        (&["--student_mlp"], Word, "True", Part),
        (&["--cos"], Word, "True", Part),
        (&["--local_rank"], Word, "0", Only("0", DEVICES)),
        (&["--distributed"], Word, "", Part),
    ]
};

/// The batch at which the rate rises to what `--lr` says.
const BATCH: f64 = 256.0;

/// What `main_small-patch.py` takes of an image beside the large view.
const PATCHES: usize = 6;

/// The width of embeddings that a teacher's own head has where nothing is said.
const WIDTH: &str = "128";

/// How a teacher was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    SimClr,
    MoCo,
    Swav,
}

impl Method {
    const ALL: [Self; 3] = [Self::SimClr, Self::MoCo, Self::Swav];

    /// As `--teacher_ssl` has it.
    fn word(self) -> &'static str {
        match self {
            Self::SimClr => "simclr",
            Self::MoCo => "moco",
            Self::Swav => "swav",
        }
    }

    /// What its networks' names begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::SimClr => "simclr_",
            Self::MoCo => "",
            Self::Swav => "swav_",
        }
    }

    /// That of the network of this name.
    fn of(network: &str) -> Self {
        let prefixed = Self::ALL
            .into_iter()
            .find(|method| !method.prefix().is_empty() && network.starts_with(method.prefix()));
        prefixed.unwrap_or(Self::MoCo)
    }

    fn asked(values: &Values, patches: bool) -> Result<Self, Failure> {
        let word = values.get("--teacher_ssl");
        let method = Self::ALL.into_iter().find(|method| method.word() == word);
        let method = method.ok_or_else(|| {
            Failure::mistake(format!("--teacher_ssl: `{word}` is no method"))
                .help("give `simclr`, `moco` or `swav`")
        })?;
        match (patches, values.has("--teacher_ssl")) {
            (false, _) => Ok(method),
            (true, true) if method != Self::Swav => Err(Failure::mistake(format!(
                "--teacher_ssl {word}: {} is for SwAV's teachers",
                PROGRAMS[1]
            ))
            .help(format!(
                "give `--teacher_ssl swav`, or the flags to {}",
                PROGRAMS[0]
            ))),
            (true, _) => Ok(Self::Swav),
        }
    }

    /// The teacher's network.
    fn teacher(self, values: &Values) -> Result<String, Failure> {
        let given = values.get("--teacher_arch");
        let own = Self::of(given);
        if own != Self::MoCo && own != self {
            return Err(Failure::mistake(format!(
                "--teacher_arch {given} is no network of --teacher_ssl {}",
                self.word()
            ))
            .help(format!("give `--teacher_ssl {}`", own.word())));
        }
        let name = match own == self {
            true => given.to_owned(),
            false => self.prefix().to_owned() + given,
        };
        let width = values.setting("objective.dim");
        Ok(match self == Self::MoCo || width == WIDTH {
            true => name,
            false => format!("{name}(output_dim: {width})"),
        })
    }

    /// The settings of the views, of a student with a head of two layers or one.
    fn views(self, mlp: bool, patches: bool) -> String {
        let recipe = match (self, mlp) {
            (Self::Swav, _) => "SwAV",
            (Self::SimClr, _) => "SimCLR",
            (Self::MoCo, true) => "MoCoV2",
            (Self::MoCo, false) => "MoCoV1",
        };
        match patches {
            true => format!("views: [[{recipe}], Repeat({PATCHES}, [SwAVPatch])]"),
            false => format!("view: [{recipe}]"),
        }
    }
}

fn experiment(arguments: &[String]) -> Result<Translation, Failure> {
    let values = TABLE.parse(arguments)?;
    let mut notes = values.notes()?;
    let patches = values.program == PROGRAMS[1];
    let method = Method::asked(&values, patches)?;
    let mlp = truth(&values, "--student_mlp", &mut notes)?;
    let cosine = truth(&values, "--cos", &mut notes)?;
    let distributed = truth(&values, "--distributed", &mut notes)?;
    if distributed {
        notes.push(DEVICES.to_owned());
    }
    let weights = match (values.has("--distill"), values.get("--distill")) {
        (false, _) => {
            return Err(Failure::mistake("no teacher is given").help(
                "give its weights by --distill, or `--distill ''` for a teacher that has learnt nothing",
            ));
        }
        (true, "") => "Untrained".to_owned(),
        (true, path) => format!("File({path:?})"),
    };
    let peak = match distributed {
        true => values.number("--batch-size")? / BATCH,
        false => 1.0,
    };
    let text = format!(
        "Experiment(
{seed}{output}    stages: [
        Pretrain(
            data: TSV(path: {data:?}),
            backbone: {backbone},
            objective: SEED(
                teacher: {teacher},
                weights: {weights},
                dim: {dim},
                queue: {queue},
                temperature: {temperature},
                teacher_temperature: {of_teacher},
                head: {head},{more}
            ),
            {views},
            optimizer: SGD(lr: {lr}, momentum: {momentum}, weight_decay: {decay}),
            schedule: LinearWarmup(epochs: 5, start: 1.0, peak: {peak:?}, then: {then}),
{initial}            epochs: {epochs},
            batch: {batch},
        ),
    ],
)
",
        seed = values.seed(),
        output = values.output("--output"),
        data = format!("{}/train.tsv", values.data.trim_end_matches('/')),
        backbone = values.setting("backbone"),
        teacher = method.teacher(&values)?,
        dim = values.setting("objective.dim"),
        queue = values.setting("objective.queue"),
        temperature = values.setting("objective.temperature"),
        of_teacher = values.setting("objective.teacher_temperature"),
        head = if mlp { "Simple" } else { "None" },
        more = match patches {
            true => format!("\n                patches: {PATCHES},"),
            false => String::new(),
        },
        views = method.views(mlp, patches),
        lr = values.setting("optimizer.lr"),
        momentum = values.setting("optimizer.momentum"),
        decay = values.setting("optimizer.weight_decay"),
        then = values.schedule(cosine),
        initial = match values.get("--resume") {
            "" => String::new(),
            path => format!("            initial: Resume(File({path:?})),\n"),
        },
        epochs = values.setting("epochs"),
        batch = values.setting("batch"),
    );
    Ok(Translation { text, notes })
}

/// The value of a boolean flag.
fn truth(values: &Values, name: &str, notes: &mut Vec<String>) -> Result<bool, Failure> {
    let value = values.get(name);
    match value.to_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "" => Ok(false),
        "false" | "0" | "no" => {
            notes.push(format!(
                "`{name} {value}` is false here; the reference takes it for true, and `{name} ''` for false"
            ));
            Ok(false)
        }
        _ => Err(
            Failure::mistake(format!("{name}: `{value}` is neither true nor false"))
                .help("give `True` or `False`"),
        ),
    }
}

fn command(settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let setting = |path: &str| settings.get(path).map(String::as_str);
    if setting("objective") != Some("SEED") {
        return None;
    }
    let patches = setting("objective.patches").is_some_and(|patches| patches != "0");
    let mut words = vec![PROGRAMS[usize::from(patches)].to_owned()];
    words.extend(TABLE.plain(settings));
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    let teacher = setting("objective.teacher").unwrap_or_default();
    let method = Method::of(teacher);
    // The prefix is the first program's business, and the user's of the second.
    let named = match patches {
        true => teacher,
        false => teacher.strip_prefix(method.prefix()).unwrap_or(teacher),
    };
    if named != "resnet50" {
        flag("-k", named);
    }
    if method != Method::SimClr {
        flag("--teacher_ssl", method.word());
    }
    let weights = setting("objective.weights").unwrap_or_default();
    flag("--distill", &flags::path(weights).unwrap_or_default());
    if setting("objective.head") == Some("None") {
        flag("--student_mlp", "");
    }
    let warm = setting("schedule") == Some("LinearWarmup");
    let then = if warm { "schedule.then" } else { "schedule" };
    let milestones = setting(&format!("{then}.milestones"));
    if milestones.is_some() {
        flag("--cos", "");
    }
    let number = |path: &str| setting(path)?.parse::<f64>().ok();
    if warm && number("schedule.peak") == number("batch").map(|batch| batch / BATCH) {
        flag("--distributed", "True");
    }
    if let Some(path) =
        setting("initial").and_then(|written| flags::path(inside("Resume", written)?))
    {
        flag("--resume", &path);
    }
    let data = setting("data.path").and_then(unquoted);
    flag(
        "--data",
        match data {
            Some(path) => path
                .strip_suffix("/train.tsv")
                .or_else(|| path.strip_suffix("/train"))
                .unwrap_or(path),
            None => "DATA",
        },
    );
    words.extend(milestones.map(flags::milestones).unwrap_or_default());
    Some(words)
}

#[cfg(test)]
mod tests;
