//! Whether a JPEG file is whole.
//!
//! Decoders fill a missing end with grey, which would train a network on half a picture without a word. A whole file
//! has an end marker after its last scan; within a scan's data two bytes never look like one.

/// Whether the end-of-image marker is where the markers before it lead to.
///
/// Data that makes no sense before the first scan counts as whole: the decoder has the better message for it.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    let mut in_scan = false;
    loop {
        let Some(step) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&b| b == 0xFF))
        else {
            return false;
        };
        if step > 0 && !in_scan {
            return true;
        }
        at += step;
        let Some(&code) = bytes.get(at + 1) else {
            return false;
        };
        match code {
            // A fill byte before a marker.
            0xFF => at += 1,
            // A stuffed 0xFF of the data, a restart, or a marker without a length.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
            0xD9 => return true,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                in_scan = code == 0xDA;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [u8; 20] = [
        0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0xFF, 0xD9, // a segment holding what looks like an end
        0xFF, 0xDA, 0, 2, 1, 2, 0xFF, 0, 3, 4, // a scan with a stuffed byte
        0xFF, 0xD9,
    ];

    #[test]
    fn only_the_last_marker_ends_the_file() {
        assert!(is_complete(&WHOLE));
        for length in 2..WHOLE.len() {
            assert!(!is_complete(&WHOLE[..length]), "{length} bytes");
        }
    }

    #[test]
    fn garbage_after_the_end_does_not_matter() {
        let mut bytes = WHOLE.to_vec();
        bytes.extend([0xFF, 0xC0, 0, 200]);
        assert!(is_complete(&bytes));
    }
}
