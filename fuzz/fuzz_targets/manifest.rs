//! Records of static views: no panic, no path out of the folder, and what is complete survives writing and reading again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smallfry::statics::manifest::{Line, Manifest, Record};

fuzz_target!(|input: &[u8]| {
    let Ok(Some((manifest, complete))) = Manifest::take(input) else {
        return;
    };
    for (path, _) in manifest.records.iter().flat_map(Record::paths) {
        let parts: Vec<_> = path.split('/').collect();
        assert!(parts.len() == 2 && !parts[0].is_empty() && ![".", ".."].contains(&parts[0]));
    }
    if complete {
        let records = manifest.records.iter().cloned().map(Line::Image);
        let left_out = manifest.left_out.iter().cloned();
        let text: String = std::iter::once(Line::Set(manifest.header.clone()))
            .chain(records)
            .chain(left_out.map(|(source, reason)| Line::LeftOut { source, reason }))
            .chain([Line::End {
                images: manifest.records.len(),
                files: manifest.files(),
                bytes: manifest.bytes(),
            }])
            .map(|line| line.text())
            .collect();
        let again = Manifest::take(text.as_bytes()).expect("memory can be read");
        assert_eq!(again, Some((manifest, true)));
    }
});
