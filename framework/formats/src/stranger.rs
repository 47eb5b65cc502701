//! What a file that holds no weights seems to be, from its first bytes.
//!
//! Downloads go wrong in few ways: a page in place of the file, a pointer in place of its content, an archive around it,
//! or a mixed-up path. Whoever reads which of these it was need not look.

/// Bytes of a file that suffice to tell.
pub(crate) const ENOUGH: u64 = 512;

/// First bytes, what they tell, and what to do about it.
const KNOWN: [(&[u8], &str, &str); 17] = [
    (b"\xff\xd8\xff", "a JPEG image", OTHER),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", OTHER),
    (b"GIF8", "a GIF image", OTHER),
    (b"BM", "a BMP image", OTHER),
    (b"II*\0", "a TIFF image", OTHER),
    (b"MM\0*", "a TIFF image", OTHER),
    (b"%PDF-", "a PDF document", OTHER),
    (b"\x7fELF", "a program or library", OTHER),
    (b"\x93NUMPY", "a NumPy array", OTHER),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", FOREIGN),
    (b"\x1f\x8b", "a gzip archive", PACKED),
    (b"\xfd7zXZ\0", "an xz archive", PACKED),
    (b"BZh", "a bzip2 archive", PACKED),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", PACKED),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file that it stands for",
        "fetch the file itself, by `git lfs pull` where it was cloned",
    ),
    (b"RIFF", "an image, a sound or a film", OTHER),
];

const OTHER: &str = "give the path of a file of weights";
const PACKED: &str = "unpack it first, and give what was in it";
const FOREIGN: &str = "write its weights to a safetensors file first";
const PAGE: &str = "fetch the file again: a page came in its place, such as one that asks for a login or a confirmation";

/// What a file that starts with `start` seems to be, and what to do about it; none where nothing is known.
pub(crate) fn stranger(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = KNOWN.iter().find(|(first, ..)| start.starts_with(first));
    if let Some((_, what, remedy)) = known {
        return Some((what, remedy));
    }
    let text = text(start)?.trim_start().to_lowercase();
    Some(match text {
        page if page.starts_with("<!doctype html") || page.starts_with("<html") => {
            ("an HTML page", PAGE)
        }
        xml if xml.starts_with("<?xml") || xml.starts_with("<svg") => ("an XML file", OTHER),
        _ => ("a text file", OTHER),
    })
}

/// `start` as text, where it is some; a character may be cut off at its end.
fn text(start: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.trim().is_empty() && text.chars().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        for (start, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], Some("a JPEG image")),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Some("a PNG image")),
            (b"\n <!DOCTYPE HTML><html>", Some("an HTML page")),
            (b"<html lang=\"en\">", Some("an HTML page")),
            (b"<?xml version=\"1.0\"?>", Some("an XML file")),
            (b"Not found\n", Some("a text file")),
            ("caf\u{e9}".as_bytes(), Some("a text file")),
            (&"caf\u{e9}".as_bytes()[..4], Some("a text file")),
            (b"\x1f\x8b\x08\0", Some("a gzip archive")),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                Some("a pointer of Git LFS, not the file that it stands for"),
            ),
            (b"", None),
            (b"\0\0\0\0\0\0\0\0", None),
            (b"\x80\x02}q\0", None),
            (b"\xe9\xe9\xe9 text", None),
        ] {
            assert_eq!(stranger(start).map(|(what, _)| what), expected, "{start:?}");
        }
    }
}
