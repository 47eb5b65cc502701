//! `verify-resume FILE`: whether runs of an experiment survive being killed.
//!
//! The experiment is run once undisturbed, in a process of its own, and then killed (SIGKILL, which no process can
//! catch) and gone on with until it has been killed often enough. Half of the kills come at random times, the other
//! half as soon as a file is being written. Everything the experiment determines must come out equal, byte for byte.
//! The killed runs save their state far more often than the file says; that must not show either.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use smallfry_data::random::Random;

use super::{Experiment, Refusal, load};
use crate::{
    checkpoint::{self, Mark, Store},
    failure::{Failure, disk},
    plan::Stage,
};

/// Parts of a run folder that the experiment determines; the rest has times, places and facts about the machine.
const DETERMINED: [&str; 4] = ["checkpoints", "samples", "log.jsonl", "results.json"];

/// States saved by the clock in a killed run, about.
const SAVES: f64 = 40.0;

/// Saves that are let pass, at most, before one is killed.
const PASSED: u64 = 6;

/// How long to look for a file that is being written before looking again.
const GLANCE: Duration = Duration::from_micros(50);

/// What the verb is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    experiment: Experiment,
    /// Kills in all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Seed of the moments of the kills
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

/// The moment of a kill.
enum Aim {
    /// After a time, whatever happens then.
    Time(Duration),
    /// While a file is written, after this many others.
    Save(u64),
}

/// How a process ended.
enum End {
    /// By itself: it was faster.
    Finished,
    /// Killed.
    Killed {
        /// How long it had run.
        after: Duration,
        /// Whether a checkpoint was half-written.
        writing: bool,
    },
}

/// Runs of one experiment.
struct Trial<'a> {
    experiment: &'a Experiment,
    name: String,
    trained: Vec<String>,
    root: PathBuf,
}

pub(super) fn verify_resume(arguments: &Arguments) -> Result<String, Refusal> {
    let plan = load(&arguments.experiment)?;
    let trained = plan.stages.iter().filter_map(Stage::training);
    let trained = trained.map(|stage| stage.name.clone());
    let trial = Trial {
        experiment: &arguments.experiment,
        name: plan.name.clone(),
        trained: trained.collect(),
        root: plan.output.join(format!("{}-verify-resume", plan.name)),
    };
    if trial.root.exists() {
        let message = format!("{} exists, from an earlier attempt", trial.root.display());
        return Err(Failure::mistake(message).help("remove it").into());
    }
    fs::create_dir_all(&trial.root).map_err(|error| disk("make", &trial.root, &error))?;
    let summary = trial.run(arguments.kills, arguments.seed)?;
    fs::remove_dir_all(&trial.root).map_err(|error| disk("remove", &trial.root, &error))?;
    Ok(summary)
}

impl Trial<'_> {
    fn run(&self, kills: u32, seed: u64) -> Result<String, Failure> {
        let begin = Instant::now();
        let child = self.start("undisturbed", &[])?;
        self.finish(child, "undisturbed")?;
        let length = begin.elapsed();
        let expected = self.determined("undisturbed")?;
        eprintln!(
            "undisturbed: {:.2} s, {} files to compare",
            length.as_secs_f64(),
            expected.len()
        );
        let minutes = length.as_secs_f64() / SAVES / 60.0;
        let saves = self.trained.iter();
        let saves: Vec<_> = saves
            .map(|stage| format!("{stage}.save=Save(minutes: {minutes:?})"))
            .collect();
        let (mut done, mut inside, mut runs, mut lost) = (0, 0, 1, Vec::new());
        while done < kills {
            let before = self.newest()?;
            let left = self.writing();
            let child = self.start("killed", &saves)?;
            let mut random = Random::new(&[seed, u64::from(done), runs]);
            let aim = match random.below(2) {
                0 => Aim::Time(length.mul_f64(random.below(1 << 20) as f64 / f64::from(1 << 20))),
                _ => Aim::Save(random.below(PASSED)),
            };
            match self.end(child, &aim, left)? {
                End::Finished => {
                    self.compare(&expected)?;
                    let folder = self.root.join("killed");
                    fs::remove_dir_all(&folder).map_err(|error| disk("remove", &folder, &error))?;
                    runs += 1;
                }
                End::Killed { after, writing } => {
                    done += 1;
                    inside += usize::from(writing);
                    let now = self.newest()?;
                    let pairs = now.iter().zip(&before);
                    if pairs.into_iter().any(|(now, before)| now.1 < before.1) {
                        lost.push(done);
                    }
                    let state = now
                        .iter()
                        .rev()
                        .find_map(|(stage, mark)| mark.map(|mark| format!("{stage}: {mark}")));
                    eprintln!(
                        "kill {done:>4}  after {:>7.3} s  {:<13}  {}",
                        after.as_secs_f64(),
                        if writing { "inside a save" } else { "" },
                        state.unwrap_or_else(|| "nothing saved yet".to_owned())
                    );
                }
            }
        }
        let child = self.start("killed", &saves)?;
        self.finish(child, "killed")?;
        self.compare(&expected)?;
        if !lost.is_empty() {
            return Err(Failure::fault(format!(
                "kills {lost:?} lost a checkpoint; see {}",
                self.root.display()
            )));
        }
        Ok(format!(
            "{kills} kills, {inside} of them inside a save, in {runs} runs: 0 bytes differ in {} files, 0 checkpoints lost\n",
            expected.len()
        ))
    }

    fn folder(&self, run: &str) -> PathBuf {
        self.root.join(run).join(&self.name)
    }

    /// Starts the program on the experiment, in the folder called `run`.
    fn start(&self, run: &str, overrides: &[String]) -> Result<Child, Failure> {
        let program = env::current_exe()
            .map_err(|error| Failure::fault(format!("cannot find this program: {error}")))?;
        let errors = self.root.join(format!("{run}.stderr"));
        let stderr = fs::File::create(&errors).map_err(|error| disk("write", &errors, &error))?;
        Command::new(&program)
            .arg("run")
            .arg(&self.experiment.file)
            .args(&self.experiment.overrides)
            .args(overrides)
            .arg("--output")
            .arg(self.root.join(run))
            .arg("--resume")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| disk("start", &program, &error))
    }

    /// Waits for a run that nobody kills.
    fn finish(&self, mut child: Child, run: &str) -> Result<(), Failure> {
        let status = child
            .wait()
            .map_err(|error| Failure::fault(format!("cannot wait for a run: {error}")))?;
        match status.success() {
            true => Ok(()),
            false => Err(self.failed(run, &status.to_string())),
        }
    }

    fn failed(&self, run: &str, status: &str) -> Failure {
        let errors = self.root.join(format!("{run}.stderr"));
        let text = fs::read_to_string(errors).unwrap_or_default();
        Failure::fault(format!(
            "a run in {} failed ({status}):\n{}",
            self.folder(run).display(),
            text.trim_end()
        ))
    }

    /// Kills a run at the moment aimed at, unless it is faster. `left` is what the kill before left half-written.
    fn end(&self, mut child: Child, aim: &Aim, left: Option<PathBuf>) -> Result<End, Failure> {
        let failed = |error| Failure::fault(format!("cannot wait for a run: {error}"));
        let begin = Instant::now();
        let (mut last, mut passed, mut removed) = (left.clone(), 0, left.is_none());
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return match status.success() {
                    true => Ok(End::Finished),
                    false => Err(self.failed("killed", &status.to_string())),
                };
            }
            let file = self.writing();
            removed |= file != left;
            if file.is_some() && file != last {
                passed += 1;
            }
            last = file;
            let now = match aim {
                Aim::Time(time) => begin.elapsed() >= *time,
                Aim::Save(saves) => passed > *saves,
            };
            if now {
                child.kill().map_err(failed)?;
                let status = child.wait().map_err(failed)?;
                // It may have come to its end just before.
                return Ok(match status.success() {
                    true => End::Finished,
                    false => End::Killed {
                        after: begin.elapsed(),
                        writing: removed && self.writing().is_some(),
                    },
                });
            }
            thread::sleep(GLANCE);
        }
    }

    /// A checkpoint of the killed run that is half-written.
    fn writing(&self) -> Option<PathBuf> {
        self.trained.iter().find_map(|stage| {
            let folder = self.folder("killed").join("checkpoints").join(stage);
            let mut files = fs::read_dir(folder).ok()?.flatten();
            let partial = |path: &Path| path.extension().is_some_and(|end| end == "partial");
            files.find_map(|file| Some(file.path()).filter(|path| partial(path)))
        })
    }

    /// The newest state of each training stage of the killed run that can be read.
    fn newest(&self) -> Result<Vec<(String, Option<Mark>)>, Failure> {
        let stages = self.trained.iter().map(|stage| {
            let store = Store::new(self.folder("killed").join("checkpoints").join(stage));
            let marks = store.marks()?.into_iter().rev();
            let whole = |mark: &Mark| checkpoint::read(&store.file(*mark)).is_ok();
            Ok((stage.clone(), marks.into_iter().find(whole)))
        });
        stages.collect()
    }

    /// Makes sure that the killed run came to the same as the undisturbed one.
    fn compare(&self, expected: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), Failure> {
        let killed = self.determined("killed")?;
        let names = expected.keys().chain(killed.keys());
        let mut differing: Vec<_> = names
            .filter(|name| expected.get(*name) != killed.get(*name))
            .map(|name| name.display().to_string())
            .collect();
        differing.sort();
        differing.dedup();
        if differing.is_empty() {
            return Ok(());
        }
        Err(Failure::fault(format!(
            "a killed run came to something else: {} of {} files differ: {}",
            differing.len(),
            expected.len(),
            differing.join(", ")
        ))
        .help(format!(
            "both are in {}; if the undisturbed run comes to other bytes each time, a plugin is not deterministic",
            self.root.display()
        )))
    }

    /// The bytes of everything that the experiment determines.
    fn determined(&self, run: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
        let root = self.folder(run);
        let mut files = BTreeMap::new();
        let mut paths: Vec<_> = DETERMINED.iter().map(|name| root.join(name)).collect();
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).map_err(|error| disk("read", &path, &error))?;
                for entry in entries {
                    paths.push(entry.map_err(|error| disk("read", &path, &error))?.path());
                }
            } else if path.exists() {
                let bytes = fs::read(&path).map_err(|error| disk("read", &path, &error))?;
                let name = path.strip_prefix(&root).unwrap_or(&path);
                files.insert(name.to_owned(), bytes);
            }
        }
        Ok(files)
    }
}
