//! Room on a disk.

use std::path::Path;

/// Bytes that are free on the file system of `path`, those that are reserved for the administrator among them; none
/// where the system does not say.
///
/// A file that needs more cannot be written. One that needs less may still not fit: others write too.
#[cfg(unix)]
pub fn free_space(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    // File systems without a size of their own report none at all.
    (system.f_blocks > 0).then(|| system.f_bfree.saturating_mul(system.f_frsize))
}

/// Bytes that are free on the file system of `path`: this system is not asked.
#[cfg(not(unix))]
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_some_room_and_a_missing_one_none() {
        assert!(free_space(&std::env::temp_dir()).is_some_and(|bytes| bytes > 0));
        assert_eq!(free_space(Path::new("/no/such/folder")), None);
        // The kernel's own files have no size.
        assert_eq!(free_space(Path::new("/proc")), None);
    }
}
