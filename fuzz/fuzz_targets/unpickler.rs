//! Pickles of `torch.save`: no panic, no endless loop, no more memory than the limits state.
//!
//! An input is a whole file of the older container, or what follows its first three pickles, so that the fuzzer need not
//! find the magic number. What is read must survive writing and reading again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smallfry_formats::torch::{self, Limits};

/// Magic number, version, and an empty description of the machine.
const START: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|input: &[u8]| {
    let file = match input.starts_with(&START[..15]) {
        true => input.to_vec(),
        false => [START, input].concat(),
    };
    let Ok(value) = torch::read_bytes(&file, &Limits::default()) else {
        return;
    };
    let mut written = Vec::new();
    // Integers of thousands of bits can be read, not written.
    if torch::write(&value, "archive", &mut written).is_err() || written.len() > 32 << 20 {
        return;
    }
    drop(value);
    let limits = Limits {
        cells: usize::MAX,
        ..Limits::default()
    };
    let again = torch::read_bytes(&written, &limits).expect("written files are read");
    let mut rewritten = Vec::new();
    torch::write(&again, "archive", &mut rewritten).expect("it was written before");
    assert!(written == rewritten, "a value changed on the way");
});
