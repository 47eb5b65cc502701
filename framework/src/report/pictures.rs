//! Sample images and their views, embedded.

use std::{fs, path::Path};

use super::text::{embed, escape};
use crate::failure::{Failure, disk};

/// The longest picture that is embedded, in bytes.
const LIMIT: u64 = 1 << 20;

/// An original and its views, as `data:` addresses with their captions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pictures: Vec<(&'static str, String)>,
}

/// The rows of pictures in `folder`; none where there is no folder.
///
/// # Errors
/// A picture cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for index in 0.. {
        let mut row = Row::default();
        let views = (1..).map(|view| ("view", format!("{index}-view-{view}.jpg")));
        let original = std::iter::once(("original", format!("{index}-original.jpg")));
        for (caption, name) in original.chain(views) {
            let path = folder.join(name);
            let Ok(metadata) = fs::metadata(&path) else {
                match caption {
                    // An original may be missing where it could not be read; views are there or the row is not.
                    "original" => continue,
                    _ => break,
                }
            };
            if metadata.is_file() && metadata.len() <= LIMIT {
                let bytes = fs::read(&path).map_err(|error| disk("read", &path, &error))?;
                row.pictures.push((caption, embed("image/jpeg", &bytes)));
            }
        }
        if row.pictures.is_empty() {
            break;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The section of a stage's pictures.
pub fn section(stage: &str, rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<section><h2>What <em>{}</em> sees</h2><p class=\"note\">Images of the first batch: the original, then its augmented views as the network is given them.</p><div class=\"samples\">",
        escape(stage)
    );
    for row in rows {
        html.push_str("<div class=\"sample\">");
        for (caption, address) in &row.pictures {
            html.push_str(&format!(
                "<img class=\"{caption}\" alt=\"{caption}\" title=\"{caption}\" src=\"{address}\">"
            ));
        }
        html.push_str("</div>");
    }
    html.push_str("</div></section>");
    html
}
