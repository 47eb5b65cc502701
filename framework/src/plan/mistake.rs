//! Mistakes of a stage that several kinds of stage can have.

use crate::backbone::Preprocessing;

/// A mistake of a stage: the field, what is wrong, what would be right.
pub(crate) type Mistake = (&'static str, String, Option<String>);

/// The mistake of a stage of kind `owner` whose images are made smaller than what is cropped from them.
pub(crate) fn uncropped(owner: &str, input: Preprocessing) -> Option<Mistake> {
    let Preprocessing { size, resize, .. } = input;
    (resize < size).then(|| {
        let message = format!(
            "`resize` of {owner}: {resize} is less than the {size} pixels that are cropped from it"
        );
        ("resize", message, Some(format!("give at least {size}")))
    })
}
