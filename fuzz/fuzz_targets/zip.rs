//! The zip container: no panic, and every record that is given has the size that was promised.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use smallfry_formats::{
    torch::{self, Limits},
    zip::Archive,
};

fuzz_target!(|input: &[u8]| {
    let _ = torch::read_bytes(input, &Limits::default());
    let Ok(mut archive) = Archive::open(Cursor::new(input)) else {
        return;
    };
    let names: Vec<String> = archive.names().map(str::to_owned).collect();
    let mut total = 0;
    for name in names {
        let size = archive.size(&name).expect("it was listed");
        if let Ok(bytes) = archive.read(&name) {
            assert_eq!(bytes.len() as u64, size);
            total += size;
        }
    }
    assert!(total <= input.len() as u64, "records overlap");
});
