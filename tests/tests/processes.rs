//! Several processes over MPI: what they exchange, and that a job ends whatever becomes of one of them.
//!
//! `cargo test -p smallfry-tests --features mpi --test processes`, with Open MPI's `mpirun`. A job that has not ended
//! by itself after [`DEADLINE`] is ended here.

use std::{
    env,
    io::{self, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a job may take; far less than the limit of an exchange where none is set.
const DEADLINE: Duration = Duration::from_secs(60);

/// The example `collectives`, which knows MPI.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let test = env::current_exe().expect("a running test has a path");
        let profile = (test.parent().and_then(|folder| folder.parent()))
            .expect("it lies in target/<profile>/deps");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args([
                "build",
                "--quiet",
                "--package",
                "smallfry-tests",
                "--features",
                "mpi",
            ])
            .args(["--example", "collectives", "--target-dir"])
            .arg(
                profile
                    .parent()
                    .expect("a profile lies in the target folder"),
            )
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo
            .status()
            .expect("Cargo runs the tests, so it can be run");
        assert!(status.success(), "the example does not build");
        profile.join("examples/collectives")
    };
    PROGRAM.get_or_init(build).clone()
}

/// What a job came to.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    output: String,
    errors: String,
}

/// A job while it runs.
struct Job {
    child: Child,
    begin: Instant,
    output: Pipe,
    errors: Pipe,
}

/// What a program has written so far, and whether it has closed its end.
struct Pipe {
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

    fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Job {
    /// `command` with variables that hold for all processes.
    fn start(command: &mut Command, variables: &[(&str, &str)]) -> Self {
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
        let mut child = command
            .envs([
                ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
                ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                // Processes that wait leave the cores to the others.
                ("OMPI_MCA_mpi_yield_when_idle", "1"),
            ])
            .env_remove("SMALLFRY_COLLECTIVE_LIMIT")
            .env_remove("RUST_BACKTRACE")
            .envs(variables.iter().copied())
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
        }
    }

    /// As many processes of the example.
    fn of(processes: usize, variables: &[(&str, &str)]) -> Self {
        let mut mpirun = Command::new("mpirun");
        mpirun
            .args(["-n", &processes.to_string(), "--oversubscribe"])
            .arg(program());
        Self::start(&mut mpirun, variables)
    }

    /// Waits for `found` in what the job does.
    fn wait_for<T>(&mut self, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
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

    /// Waits for the job's end.
    fn end(mut self) -> Outcome {
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A job of two processes in which one does `fault`; it must not succeed.
fn fails(fault: &str, limit: Option<&str>) -> Outcome {
    let mut variables = vec![("FAULT", fault)];
    variables.extend(limit.map(|limit| ("SMALLFRY_COLLECTIVE_LIMIT", limit)));
    let outcome = Job::of(2, &variables).end();
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    outcome
}

#[test]
fn processes_exchange_what_they_should() {
    for processes in 1..=3 {
        let outcome = Job::of(processes, &[]).end();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let agree = format!("{processes} processes agree\n");
        assert_eq!(outcome.output, agree, "{outcome:?}");
    }
}

#[test]
fn one_process_needs_no_launcher() {
    let outcome = Job::start(&mut Command::new(program()), &[]).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.output, "1 processes agree\n");
}

#[test]
fn a_panic_of_one_ends_all() {
    for fault in ["panic", "panic-aside"] {
        let outcome = fails(fault, None);
        assert_eq!(outcome.code, Some(70), "{outcome:?}");
        assert!(outcome.errors.contains("a bug"), "{outcome:?}");
    }
}

#[test]
fn a_message_of_another_length_ends_all() {
    let outcome = fails("lengths", Some("20"));
    assert_eq!(outcome.code, Some(74), "{outcome:?}");
    // Whoever is the first to say so ends the other.
    let messages = [
        "process 0 of 2: gather failed: process 1 gives 100000 where 1 are awaited",
        "process 1 of 2: gather failed: process 0 gives 1 where 100000 are awaited",
    ];
    let told = messages.map(|message| outcome.errors.contains(message));
    assert_ne!(told, [false; 2], "{outcome:?}");
}

/// Decoders that panic on damaged images are seen to where they are called.
#[test]
fn a_panic_that_is_caught_ends_nothing() {
    let outcome = Job::of(2, &[("FAULT", "panic-caught")]).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.errors.contains("a bug"), "{outcome:?}");
}

#[test]
fn an_early_exit_of_one_ends_all() {
    fails("exit", None);
}

#[test]
fn a_process_that_is_killed_ends_all() -> io::Result<()> {
    let mut job = Job::of(3, &[("FAULT", "sleep")]);
    let killed = job.wait_for(|job| {
        let text = job.output.text();
        let (line, _) = text.split_once('\n')?;
        Some(line.strip_prefix("process ")?.to_owned())
    });
    assert!(
        Command::new("kill")
            .args(["-KILL", &killed])
            .status()?
            .success()
    );
    let outcome = job.end();
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    Ok(())
}

#[test]
fn a_process_that_hangs_or_leaves_ends_all_at_the_limit() {
    for (fault, operation) in [
        ("sleep", "gather"),
        ("leave", "gather"),
        ("leave-first", "the end of MPI"),
    ] {
        let outcome = fails(fault, Some("2"));
        assert_eq!(outcome.code, Some(75), "{outcome:?}");
        let message = format!("error: process 0 of 2: {operation} takes longer than 2s");
        assert!(outcome.errors.contains(&message), "{outcome:?}");
    }
}

#[test]
fn a_limit_that_is_none_is_the_users_mistake() {
    let outcome = Job::of(2, &[("SMALLFRY_COLLECTIVE_LIMIT", "soon")]).end();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let message = "error: `SMALLFRY_COLLECTIVE_LIMIT` is `soon`, but must be seconds above 0";
    assert!(outcome.errors.contains(message), "{outcome:?}");
}

#[test]
fn processes_of_another_launcher_are_refused() {
    let strange = [("PMI_RANK", "0"), ("PMI_SIZE", "4")];
    let outcome = Job::start(&mut Command::new(program()), &strange).end();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    for part in [
        "error: started as one of 4 processes by MPICH, but ",
        " counts 1: ",
    ] {
        assert!(outcome.errors.contains(part), "{outcome:?}");
    }
}
