//! A job of several processes, or one alone, that cannot outlive its test.

use std::{
    env, fs,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a job may take; far less than the limit of an exchange where none is set.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// An example that knows MPI.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let test = env::current_exe().expect("a running test has a path");
        let profile =
            (test.parent().and_then(Path::parent)).expect("it lies in target/<profile>/deps");
        let target = profile
            .parent()
            .expect("a profile lies in the target folder");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--package", "smallfry-tests"])
            .args(["--features", "mpi"])
            .args(["--example", "collectives", "--example", "whole"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo
            .status()
            .expect("Cargo runs the tests, so it can be run");
        assert!(status.success(), "the examples do not build");
        profile.join("examples")
    };
    FOLDER.get_or_init(build).join(name)
}

/// The launcher of so many processes; what they are is to be added.
pub fn mpirun(processes: usize) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-n", &processes.to_string()]);
    mpirun
}

/// What a job came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

/// A job while it runs.
pub struct Job {
    child: Child,
    begin: Instant,
    pub output: Pipe,
    errors: Pipe,
    /// For the launcher's own files, which it leaves where it is killed.
    _files: TempDir,
}

/// What a program has written so far, and whether it has closed its end.
pub struct Pipe {
    text: Arc<Mutex<String>>,
    closed: Receiver<()>,
}

impl Pipe {
    /// Reads all the time, so that the program is never held up.
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let (close, closed) = mpsc::channel();
        let to = Arc::clone(&text);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let mut text = to.lock().unwrap_or_else(PoisonError::into_inner);
                *text += &String::from_utf8_lossy(&bytes[..count]);
            }
            drop(close);
        });
        Self { text, closed }
    }

    pub fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Job {
    /// `command` with variables that hold for all processes.
    pub fn start(command: &mut Command, variables: &[(&str, &str)]) -> Self {
        // Alone or under the launcher of this test, but not under one that this test runs under.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if ["OMPI_", "PMIX_", "PMI_", "SLURM_"]
                .iter()
                .any(|start| name.starts_with(start))
            {
                command.env_remove(&*name);
            }
        }
        let files = tempfile::tempdir().expect("there is room");
        let mut child = command
            .env("TMPDIR", files.path())
            .env("OMPI_MCA_btl_vader_backing_directory", files.path())
            .envs([
                ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
                ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                // Processes that wait leave the cores to the others, and jobs that run at a time share all of them.
                ("OMPI_MCA_mpi_yield_when_idle", "1"),
                ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
                ("OMPI_MCA_hwloc_base_binding_policy", "none"),
                ("NO_COLOR", "1"),
            ])
            .env_remove("SMALLFRY_COLLECTIVE_LIMIT")
            .env_remove("RUST_BACKTRACE")
            .envs(variables.iter().copied())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self {
            begin: Instant::now(),
            output: Pipe::of(child.stdout.take().expect("it is a pipe")),
            errors: Pipe::of(child.stderr.take().expect("it is a pipe")),
            child,
            _files: files,
        }
    }

    /// What the command was started as: the launcher, where there is one.
    pub fn launcher(&self) -> u32 {
        self.child.id()
    }

    /// Waits for `found` in what the job does.
    pub fn wait_for<T>(&mut self, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let late = self.begin.elapsed() > DEADLINE;
            assert!(
                !late,
                "it hangs: {}{}",
                self.output.text(),
                self.errors.text()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for `found` while the job runs.
    pub fn meanwhile<T>(&mut self, mut found: impl FnMut() -> Option<T>) -> T {
        self.wait_for(|job| {
            let found = found();
            let ended = job.child.try_wait().expect("it is ours");
            if let (None, Some(status)) = (&found, ended) {
                panic!("{status}: {}{}", job.output.text(), job.errors.text());
            }
            found
        })
    }

    /// Waits for the job's end.
    pub fn end(mut self) -> Outcome {
        let status = self.wait_for(|job| job.child.try_wait().expect("it is ours"));
        // Closed when no process is left.
        for pipe in [&self.output, &self.errors] {
            let end = pipe
                .closed
                .recv_timeout(DEADLINE.saturating_sub(self.begin.elapsed()));
            assert_eq!(
                end,
                Err(mpsc::RecvTimeoutError::Disconnected),
                "processes are left"
            );
        }
        Outcome {
            code: status.code(),
            output: self.output.text(),
            errors: self.errors.text(),
        }
    }
}

impl Drop for Job {
    /// A launcher that is gone takes its processes along.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal("KILL", &format!("-{}", self.child.id()));
            let _ = self.child.wait();
        }
    }
}

/// The process of number `rank` of a job in `folder`, where there is one.
pub fn process(folder: &Path, rank: usize) -> Option<u32> {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let own = fs::read_link(entry.path().join("cwd")).ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|&byte| byte == 0);
        (own == folder && variables.any(|other| other == variable.as_bytes())).then_some(number)
    })
}

/// Whether a process that was stopped is to get SIGTERM once it goes on.
pub fn is_asked_to_end(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let pending = lines.find_map(|line| line.strip_prefix("ShdPnd:"));
    let signals = pending.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
    signals.is_some_and(|signals| signals & (1 << 14) != 0)
}

/// Sends a signal to a process, or to a group of them if `to` begins with a minus sign.
pub fn signal(name: &str, to: &str) {
    let status = Command::new("kill").args(["-s", name, "--", to]).status();
    assert!(status.expect("it starts").success(), "kill {name} {to}");
}
