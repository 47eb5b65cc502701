//! Several processes over MPI: what they exchange, that they come to what one comes to, and that a job ends whatever
//! becomes of one of them.
//!
//! `cargo test -p smallfry-tests --features mpi --test processes`, with Open MPI's `mpirun`. A job that has not ended
//! by itself after [`job::DEADLINE`] is ended here.

mod document;
mod exchange;
mod hosts;
mod job;
mod mistakes;
mod place;
mod stopped;
mod whole;
