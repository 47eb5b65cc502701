//! The section of a map: its two figures, and the way to the page to look around in.

use std::{fs, path::Path};

use super::text::{embed, escape};
use crate::{
    failure::{Failure, disk},
    results::map::Outcome,
    workplace::folder::maps,
};

/// The figures of a map: name of the file and what it shows.
const FIGURES: [(&str, &str); 2] = [
    ("full_rep", "Originals, coloured by class"),
    ("auged_rep", "Originals and their augmented views"),
];

/// The longest figure that is embedded, in bytes.
const LIMIT: u64 = 4 << 20;

/// The figures of the map of `stage` in the run folder `root`, as `data:` addresses with what they show.
///
/// # Errors
/// A figure that is there cannot be read.
pub fn read(root: &Path, stage: &str) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut figures = Vec::new();
    for (name, shows) in FIGURES {
        let path = maps(root, stage).join(format!("{name}.png"));
        if fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= LIMIT) {
            let bytes = fs::read(&path).map_err(|error| disk("read", &path, &error))?;
            figures.push((shows, embed("image/png", &bytes)));
        }
    }
    Ok(figures)
}

/// The section of the map of `stage`.
pub fn section(stage: &str, outcome: &Outcome, figures: &[(&'static str, String)]) -> String {
    let name = escape(stage);
    let facts: String = outcome
        .facts()
        .iter()
        .map(|(heading, text)| format!("<div><dt>{heading}</dt><dd>{}</dd></div>", escape(text)))
        .collect();
    let figures: String = figures
        .iter()
        .map(|(shows, address)| {
            format!(
                "<figure><figcaption>{shows}</figcaption><img class=\"map\" alt=\"{shows}\" src=\"{address}\"></figure>"
            )
        })
        .collect();
    format!(
        "<section><h2>Map <em>{name}</em></h2><dl class=\"facts\">{facts}</dl>\
         <p class=\"note\">Neighbours are neighbours in the features too; distances between clusters and their sizes mean nothing. \
         <a href=\"maps/{name}/map.html\">Look around in the map</a>; arrays and figures for print lie beside it.</p>\
         <div class=\"charts maps\">{figures}</div></section>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{results::SetRecord, tsne::Algorithm};

    #[test]
    fn names_are_escaped_and_figures_embedded() {
        let outcome = Outcome {
            backbone: "Net(<1>)".to_owned(),
            weights: "start".to_owned(),
            data: SetRecord {
                data: "Set()".to_owned(),
                samples: 1000,
                left_out: Vec::new(),
            },
            views: 2,
            algorithm: Algorithm::Exact,
            divergence: Some(1.25),
            files: Vec::new(),
        };
        let html = section("a<b", &outcome, &[("shown", "data:x".to_owned())]);
        assert!(html.contains("a&lt;b/map.html") && html.contains("Net(&lt;1&gt;)"));
        assert!(html.contains("src=\"data:x\"") && html.contains("1.250 nats"));
        assert_eq!(html.matches("<figure>").count(), 1);
    }
}
