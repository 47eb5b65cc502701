//! report
use crate::failure::Failure;
use std::path::Path;
/// Write.
pub fn write(_: &Path) -> Result<(), Failure> {
    Ok(())
}
