//! The process of an isolated metric: reads a question, loads the library, answers.

use std::{
    fs::File,
    io::{self, Read, Write},
    mem::ManuallyDrop,
    os::fd::AsFd,
    process, thread,
};

use rustix::{
    process::{Resource, Rlimit, Signal, getpid, getppid, kill_process, setrlimit},
    stdio::dup2_stdout,
};

use super::wire::{self, Answer, Question, Request};
use crate::dynamic::MetricLibrary;

/// Answers one question from the process `parent` and ends the program.
///
/// # Errors
/// Nobody asks, or the system refuses what the service needs.
pub fn serve(parent: u32) -> io::Result<()> {
    // First of all, and before looking who the parent is: it may end in between.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent) {
        return Err(io::Error::other("the process that asked has ended"));
    }
    // What foreign code prints must not get into the answer.
    let mut answer = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    dup2_stdout(io::stderr().as_fd())?;
    // A crash is expected here, its core is of no use and large.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    let request = wire::read_request(&mut io::stdin().lock())?;
    // Nothing more is written to this pipe: it ends when the parent does. Not every system has a signal for that.
    let mut asking = ManuallyDrop::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    thread::spawn(move || {
        loop {
            match asking.read(&mut [0]) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    // Foreign code has closed the pipe, which says nothing of the parent; hence also no closing here.
                    return;
                }
                Ok(_) | Err(_) => {}
            }
        }
        let _ = kill_process(getpid(), Signal::KILL);
    });
    limit_memory(request.memory_mb)?;
    wire::write_answer(&mut answer, &work(&request))?;
    answer.flush()?;
    // The parent ends this process once it has the answer, whatever the library does at the end of a program.
    process::exit(0)
}

fn work(request: &Request) -> Answer {
    let library = match MetricLibrary::open(&request.path) {
        Ok(library) => library,
        Err(error) => return Answer::Refusal(error.to_string()),
    };
    let metrics = library.metrics();
    match &request.question {
        Question::Metrics => {
            Answer::Metrics(metrics.iter().map(|metric| metric.describe()).collect())
        }
        Question::Value {
            index,
            params,
            task,
        } => match metrics.get(*index) {
            Some(metric) => match metric.evaluate(params, task) {
                Ok(value) => Answer::Value(value),
                Err(reason) => Answer::Refusal(reason),
            },
            None => Answer::Refusal("has fewer metrics than before".to_owned()),
        },
    }
}

/// Limits this process to so much memory more than it has now.
#[cfg(target_os = "linux")]
fn limit_memory(megabytes: u64) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| {
        let size = line.strip_prefix("VmSize:")?.trim();
        size.strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let used = size.ok_or_else(|| io::Error::other("the system does not tell memory in use"))?;
    let most = Some((used << 10).saturating_add(megabytes << 20));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::As, limit)?)
}

/// Elsewhere address space is counted in ways that make such a limit useless.
#[cfg(not(target_os = "linux"))]
fn limit_memory(_: u64) -> io::Result<()> {
    Ok(())
}
