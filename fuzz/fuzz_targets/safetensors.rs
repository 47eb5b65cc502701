//! safetensors files: no panic, and what is read survives writing and reading again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smallfry_formats::safetensors;

fuzz_target!(|input: &[u8]| {
    let Ok(file) = safetensors::read_bytes(input) else {
        return;
    };
    let total: usize = file.arrays.iter().map(|(_, array)| array.bytes.len()).sum();
    assert!(total <= input.len(), "arrays overlap");
    let mut written = Vec::new();
    safetensors::write(&file, &mut written).expect("what was read can be written");
    let mut again = safetensors::read_bytes(&written).expect("written files are read");
    let mut file = file;
    file.arrays.sort_by(|a, b| a.0.cmp(&b.0));
    again.arrays.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(file == again, "an array changed on the way");
});
