//! Exchanges messages between processes, and says whether all arrived:
//!
//!     mpirun -n 3 collectives
//!
//! `FAULT` makes the last process (`leave-first`: the first) do amiss what `tests/processes` wants to see the end
//! of, while the others wait for it: `panic`, `panic-aside` (in another thread), `panic-caught`, `exit`, `sleep`,
//! `leave`, `leave-first`, `lengths` (it gives more than the others). A panic that is caught is nothing amiss.

use std::{
    env,
    io::{self, Write},
    panic::catch_unwind,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use smallfry::{
    distributed::{self, Communicator},
    failure::Failure,
};
use smallfry_tests::collectives;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    let world = distributed::open()?;
    let communicator = &*world.communicator;
    collectives::check(communicator);
    if let Ok(fault) = env::var("FAULT") {
        fail(communicator, &fault);
    } else if communicator.rank() == 0 {
        println!("{} processes agree", communicator.size());
    }
    Ok(())
}

/// Does what `fault` says.
fn fail(communicator: &dyn Communicator, fault: &str) {
    let (rank, last) = (communicator.rank(), communicator.size() - 1);
    if fault == "leave-first" {
        if rank > 0 {
            communicator.broadcast(&mut [0]);
        }
        return;
    }
    if fault == "panic-caught" {
        if rank == last {
            assert!(catch_unwind(|| panic!("a bug")).is_err());
        }
        communicator.gather(&[0]);
        return;
    }
    if rank < last {
        communicator.gather(&[0]);
        panic!("the last process takes no part");
    }
    println!("process {}", process::id());
    io::stdout().flush().expect("somebody reads it");
    match fault {
        "panic" => panic!("a bug"),
        "panic-aside" => {
            let bug = thread::spawn(|| panic!("a bug"));
            bug.join().expect("the thread has no bug");
        }
        "exit" => process::exit(3),
        "sleep" => thread::sleep(Duration::from_secs(3600)),
        "lengths" => drop(communicator.gather(&[0; 100_000])),
        "leave" => {}
        other => unreachable!("no fault is called {other}"),
    }
}
