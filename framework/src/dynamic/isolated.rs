//! Loads and calls a library in a process of its own, so that whatever foreign code does ends as a message.
//!
//! The process is the same program with the verb `isolated-metric` ([`serve`]). Features go to it through a pipe in binary
//! (`wire`), its answer comes back through another. It is alone in its process group, and whatever happens the whole
//! group is killed and the process reaped before a call returns. This protects a run from accidents; it is no sandbox:
//! the library still has all rights of the user.

mod ending;
mod serve;
mod wire;

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

pub use serve::serve;

use super::{Description, Limits};
use crate::metric::Evaluation;
use wire::Answer;

/// The hidden verb of the program that serves an isolated metric.
pub const VERB: &str = "isolated-metric";

/// How much of what a library writes is kept, in bytes: the last of it.
const KEPT: usize = 4096;

/// How long the writing of a process that has ended is waited for; a process that it left behind may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Between two looks at whether a process has ended: at first, and the longest.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program whose processes isolated metrics are called in: one that calls
/// [`cli::main`](crate::cli::main), which does this for itself. The first name stays.
pub fn serve_by(program: impl Into<PathBuf>) {
    PROGRAM.get_or_init(|| program.into());
}

/// Names this very program, even where its file has been replaced since it started.
pub(crate) fn serve_by_this_program() {
    match cfg!(target_os = "linux") {
        true => serve_by("/proc/self/exe"),
        false => {
            if let Ok(program) = std::env::current_exe() {
                serve_by(program);
            }
        }
    }
}

/// Whether there is a program for isolated metrics.
///
/// # Errors
/// Says what is missing.
pub(super) fn check() -> Result<&'static Path, &'static str> {
    PROGRAM.get().map(PathBuf::as_path).ok_or(
        "needs a program that begins with `smallfry::cli::main`, or names one by \
         `smallfry::dynamic::isolated::serve_by`",
    )
}

/// The metrics of the library at `path`.
///
/// # Errors
/// What is wrong with the library, or how loading it ended.
pub fn inspect(path: &Path, limits: &Limits) -> Result<Vec<Description>, String> {
    match ask(path, limits, |pipe| wire::write_inspection(pipe))? {
        Answer::Metrics(metrics) => Ok(metrics),
        Answer::Refusal(reason) => Err(reason),
        Answer::Value(_) => Err("gave an answer to another question".to_owned()),
    }
}

/// Calls metric `index` of the library at `path`.
///
/// # Errors
/// The metric's own message, or how its process ended.
pub fn evaluate(
    path: &Path,
    index: usize,
    params: &BTreeMap<String, f64>,
    evaluation: &Evaluation<'_>,
    limits: &Limits,
) -> Result<f64, String> {
    let write = |pipe: &mut dyn Write| wire::write_call(pipe, index, params, evaluation);
    match ask(path, limits, write)? {
        Answer::Value(value) => Ok(value),
        Answer::Refusal(reason) => Err(reason),
        Answer::Metrics(_) => Err("gave an answer to another question".to_owned()),
    }
}

/// Starts a process, asks it, and sees to its end.
fn ask(
    path: &Path,
    limits: &Limits,
    question: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Answer, String> {
    let path = std::fs::canonicalize(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut process = Process::start(check()?)
        .map_err(|error| format!("cannot be called in a process of its own: {error}"))?;
    let asked = process.ask(&path, limits, question);
    // Time is foreign code's from here on: until it has read everything the process runs code of this program only.
    let deadline = Instant::now() + Duration::from_secs(limits.seconds);
    if asked.is_ok() {
        match process.answered(deadline) {
            Some(Ok(answer)) => return Ok(answer),
            None => return Err(late(limits)),
            // It has ended, closed the pipe or written something else to it: its ending tells more.
            Some(Err(_)) => {}
        }
    }
    match process.ended(deadline) {
        Some(status) => Err(ending::told(&status, limits, &process.last_words())),
        None => Err(late(limits)),
    }
}

fn late(limits: &Limits) -> String {
    format!(
        "took more than its {} and was stopped",
        match limits.seconds {
            1 => "second".to_owned(),
            seconds => format!("{seconds} seconds"),
        }
    )
}

/// A process that serves a metric; killed with all it started and reaped when dropped.
struct Process {
    child: Child,
    answer: mpsc::Receiver<io::Result<Answer>>,
    written: Arc<Mutex<Vec<u8>>>,
    silence: mpsc::Receiver<()>,
}

impl Process {
    fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args([VERB, &std::process::id().to_string()])
            // Only the last lines are told of what is written, and those are to be the reason.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (mut output, mut errors) = (child.stdout.take(), child.stderr.take());
        let (sender, answer) = mpsc::channel();
        let (finished, silence) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&written);
        // These threads are not joined: a process that foreign code left behind could hold the pipes open for ever.
        thread::spawn(move || {
            let answer = match &mut output {
                Some(output) => wire::read_answer(output),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            };
            // Nobody may be waiting any more.
            let _ = sender.send(answer);
        });
        thread::spawn(move || {
            let mut piece = [0; KEPT];
            while let Some(errors) = &mut errors {
                match errors.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.extend_from_slice(&piece[..count]);
                        let surplus = kept.len().saturating_sub(KEPT);
                        kept.drain(..surplus);
                    }
                }
            }
            let _ = finished.send(());
        });
        Ok(Self {
            child,
            answer,
            written,
            silence,
        })
    }

    /// Writes a question. The pipe stays open: its end tells the process that there is nobody to answer to.
    fn ask(
        &mut self,
        path: &Path,
        limits: &Limits,
        question: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let pipe = (self.child.stdin.as_mut()).ok_or(io::ErrorKind::BrokenPipe)?;
        let mut pipe = BufWriter::with_capacity(1 << 16, pipe);
        wire::write_head(&mut pipe, path, limits)?;
        question(&mut pipe)?;
        pipe.flush()
    }

    /// The answer, an error where there will be none, or nothing where there is none before `deadline`. The end of the
    /// pipe is not waited for once the process has ended: what it left behind may hold the pipe open.
    fn answered(&self, deadline: Instant) -> Option<io::Result<Answer>> {
        let mut patience = PAUSE;
        loop {
            match self.answer.recv_timeout(patience) {
                Ok(answer) => return Some(answer),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Some(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if self.ended(now).is_some() {
                let last = self.answer.recv_timeout(LAST_WORDS);
                return Some(last.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())));
            }
            if now >= deadline {
                return None;
            }
            patience = (2 * patience).min(LONGEST_PAUSE).min(deadline - now);
        }
    }

    /// How the process ended, if it does before `deadline`; it stays to be reaped, so that its number is nobody else's.
    fn ended(&self, deadline: Instant) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match waitid(WaitId::Pid(Pid::from_child(&self.child)), options) {
                Ok(Some(status)) => return Some(status),
                Ok(None) | Err(rustix::io::Errno::INTR) if Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The last of what the process wrote.
    fn last_words(&self) -> String {
        let _ = self.silence.recv_timeout(LAST_WORDS);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Before the process is reaped, when its number could become another's; there may be nothing left to kill.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
