//! The process of an isolated metric: reads a question, loads the library, answers.

use std::{
    ffi::{c_int, c_void},
    fs::File,
    hint,
    io::{self, Read, Write},
    mem::ManuallyDrop,
    os::fd::AsFd,
    process, ptr, thread,
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
    let reply = on_plain_thread(|| {
        // The first allocation of a thread sets room aside for more, which is none that the library has used.
        drop(hint::black_box(Box::new(0u64)));
        limit_memory(request.memory_mb)?;
        Ok::<_, io::Error>(work(&request))
    })??;
    wire::write_answer(&mut answer, &reply)?;
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

/// Calls `work` on a thread in which nothing of Rust catches exceptions, and waits for it.
///
/// The main thread and those of the standard library do, and end the program with no word of a C++ exception. Where nothing
/// catches it, C++ itself ends the program, after it has written what was thrown. A panic of Rust ends the program too.
fn on_plain_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    /// `pthread_t`: a number or an address.
    type Thread = usize;
    type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

    unsafe extern "C" {
        fn pthread_create(
            thread: *mut Thread,
            attributes: *const c_void,
            start: Start,
            argument: *mut c_void,
        ) -> c_int;
        fn pthread_join(thread: Thread, result: *mut *mut c_void) -> c_int;
    }

    /// The work before, what it came to after.
    struct Slot<W, T> {
        work: Option<W>,
        result: Option<T>,
    }

    extern "C-unwind" fn start<T, W: FnOnce() -> T>(argument: *mut c_void) -> *mut c_void {
        // SAFETY: the argument is the slot below, which nobody else uses until this thread has ended.
        let slot = unsafe { &mut *argument.cast::<Slot<W, T>>() };
        slot.result = slot.work.take().map(|work| work());
        ptr::null_mut()
    }

    fn begin<T, W: FnOnce() -> T>(_: &Slot<W, T>) -> Start {
        start::<T, W>
    }

    let mut slot = Slot {
        work: Some(work),
        result: None,
    };
    let (start, mut thread) = (begin(&slot), 0);
    let checked = |code: c_int| match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    };
    // SAFETY: `start` gets the slot that it is made for, and the slot outlives the thread, which is waited for; what is
    // captured and returned may go between threads.
    unsafe {
        checked(pthread_create(
            &mut thread,
            ptr::null(),
            start,
            ptr::from_mut(&mut slot).cast(),
        ))?;
        checked(pthread_join(thread, ptr::null_mut()))?;
    }
    slot.result
        .ok_or_else(|| io::Error::other("the thread ended without an answer"))
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
