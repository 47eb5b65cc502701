//! `map.html`: a map to look around in, on one page that needs no network.
//!
//! It is a page of its own and no part of `report.html`, which forbids itself all scripts: a report that is mailed
//! around stays a document. This one allows exactly one script, by the hash of its text, and nothing from outside;
//! names and pictures come as data that is never markup. The script knows no map: it is the same on every page.

use serde::Serialize;

use super::{colour, drawing::Colour};
use crate::report::text::escape;

/// The page's script.
const SCRIPT: &str = include_str!("page/script.js");

/// The SHA-256 of the script in base64, by which the page allows it.
const SCRIPT_HASH: &str = "QHxd5eYBHulrh82LawF0jgc62kGyIDa8++friS64zFs=";

const STYLE: &str = include_str!("page/style.css");

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The heading.
    pub title: &'a str,
    /// What is worth knowing of the map, as a heading and its text.
    pub facts: &'a [(&'a str, String)],
    /// Places of the originals, then of each of their views, sample by sample.
    pub maps: &'a [Vec<[f64; 2]>],
    /// The class of each sample, where there are classes.
    pub labels: Option<&'a [u32]>,
    /// Names of the classes, by label.
    pub classes: &'a [String],
    /// Names of the samples.
    pub names: &'a [String],
    /// Small pictures of the first samples and their views, as `data:` addresses.
    pub pictures: &'a [Vec<String>],
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    maps: Vec<Vec<f64>>,
    labels: Vec<i64>,
    classes: &'a [String],
    /// Of the classes, then of samples without one, on a light ground.
    light: Vec<String>,
    /// The same on a dark one.
    dark: Vec<String>,
    names: &'a [String],
    views: Vec<String>,
    pictures: &'a [Vec<String>],
}

impl Page<'_> {
    /// The text of the page.
    pub fn html(&self) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>{title} · smallfry</title><style>{STYLE}</style></head><body>\
             <main><canvas id=\"map\" tabindex=\"0\" aria-label=\"{title}\"></canvas><div id=\"tip\" hidden></div></main><aside><h1>{title}</h1>",
            title = escape(self.title)
        );
        for (heading, text) in self.facts {
            html += &format!(
                "<p>{} <span class=\"soft\">{}</span></p>",
                escape(text),
                escape(heading)
            );
        }
        html.push_str("<p class=\"how\">Turn the wheel to zoom, drag to move, point at a dot to see its image, choose a class to see it alone; a double click shows everything.</p><button id=\"reset\">Show everything</button>");
        html += &self.views();
        html += &self.legend();
        html += &format!(
            "</aside><script type=\"application/json\" id=\"data\">{}</script><script>{SCRIPT}</script></body></html>\n",
            self.data()
        );
        html
    }

    /// Boxes to tick, where there are views.
    fn views(&self) -> String {
        if self.maps.len() < 2 {
            return String::new();
        }
        let boxes = (0..self.maps.len()).map(|view| {
            let mark = if view == 0 { "●" } else { "○" };
            let name = name(view);
            format!("<label><input type=\"checkbox\" data-view=\"{view}\" checked> {mark} {name}</label>")
        });
        format!("<h2>Shown</h2>{}", boxes.collect::<String>())
    }

    /// A button for each class that has samples.
    fn legend(&self) -> String {
        let Some(labels) = self.labels else {
            return String::new();
        };
        let colours = self.colours();
        let mut counts = vec![0; colours.len()];
        for &label in labels {
            counts[label as usize] += 1;
        }
        let classes = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let buttons = classes.map(|(label, count)| {
            let name = self.classes.get(label).map_or("", |name| name);
            format!(
                "<li><button data-class=\"{label}\" aria-pressed=\"false\"><i style=\"--light:{};--dark:{}\"></i>{}<small>{count}</small></button></li>",
                hex(colours[label]),
                hex(colour::on_dark(colours[label])),
                escape(name)
            )
        });
        format!("<h2>Classes</h2><ul>{}</ul>", buttons.collect::<String>())
    }

    /// The colour of each label; those with samples have the figure's.
    fn colours(&self) -> Vec<Colour> {
        let mut present: Vec<u32> = self.labels.unwrap_or_default().to_vec();
        present.sort_unstable();
        present.dedup();
        let chosen = colour::classes(present.len());
        let count = present.last().map_or(0, |&last| last as usize + 1);
        let mut colours = vec![colour::ORIGINAL; count];
        for (label, colour) in present.into_iter().zip(chosen) {
            colours[label as usize] = colour;
        }
        colours
    }

    fn data(&self) -> String {
        let mut colours = self.colours();
        colours.push(colour::ORIGINAL);
        let samples = self.maps[0].len();
        let data = Data {
            maps: self
                .maps
                .iter()
                .map(|map| {
                    let rounded = |value: &f64| (value * 1e4).round() / 1e4;
                    map.iter().flatten().map(rounded).collect()
                })
                .collect(),
            labels: (0..samples)
                .map(|sample| self.labels.map_or(-1, |labels| i64::from(labels[sample])))
                .collect(),
            classes: self.classes,
            dark: colours
                .iter()
                .copied()
                .map(colour::on_dark)
                .map(hex)
                .collect(),
            light: colours.into_iter().map(hex).collect(),
            names: self.names,
            views: (0..self.maps.len()).map(name).collect(),
            pictures: self.pictures,
        };
        let text = serde_json::to_string(&data).expect("numbers and texts have no odd keys");
        // No name can end the element that it stands in.
        text.replace('<', "\\u003c")
    }
}

/// What a view is called.
fn name(view: usize) -> String {
    match view {
        0 => "original".to_owned(),
        _ => format!("view {view}"),
    }
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::embed;

    /// SHA-256 as FIPS 180-4 has it.
    fn sha256(message: &[u8]) -> Vec<u8> {
        let primes = || (2u32..).filter(|n| (2..*n).all(|d| n % d != 0));
        // The first 32 bits behind the point of a root; 2⁻⁴⁰ is exact enough for doubles of these sizes.
        let fraction = |root: f64| (root.fract() * 4_294_967_296.0) as u32;
        let mut state: Vec<u32> = primes()
            .take(8)
            .map(|p| fraction(f64::from(p).sqrt()))
            .collect();
        let rounds: Vec<u32> = primes()
            .take(64)
            .map(|p| fraction(f64::from(p).cbrt()))
            .collect();
        let mut bytes = message.to_vec();
        bytes.push(0x80);
        while bytes.len() % 64 != 56 {
            bytes.push(0);
        }
        bytes.extend((8 * message.len() as u64).to_be_bytes());
        for block in bytes.chunks(64) {
            let mut w: Vec<u32> = block
                .chunks(4)
                .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
                .collect();
            for i in 16..64 {
                let (a, b) = (w[i - 15], w[i - 2]);
                let low = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
                let high = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
                w.push(
                    w[i - 16]
                        .wrapping_add(low)
                        .wrapping_add(w[i - 7])
                        .wrapping_add(high),
                );
            }
            let mut s = state.clone();
            for (word, round) in w.iter().zip(&rounds) {
                let high = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
                let choice = (s[4] & s[5]) ^ (!s[4] & s[6]);
                let first = [high, choice, *word, *round]
                    .iter()
                    .fold(s[7], |a, b| a.wrapping_add(*b));
                let low = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
                let majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
                s.rotate_right(1);
                s[4] = s[4].wrapping_add(first);
                s[0] = first.wrapping_add(low).wrapping_add(majority);
            }
            for (a, b) in state.iter_mut().zip(s) {
                *a = a.wrapping_add(b);
            }
        }
        state.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn the_page_allows_its_script_and_no_other() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let address = embed("", &sha256(SCRIPT.as_bytes()));
        assert_eq!(SCRIPT_HASH, address.trim_start_matches("data:;base64,"));
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("innerHTML"));
    }

    #[test]
    fn names_are_never_markup() {
        let names = ["a</script><script>alert(1)</script>".to_owned()];
        let classes = ["<b>\"".to_owned()];
        let html = Page {
            title: "<map>",
            facts: &[("nats", "0.5".to_owned())],
            maps: &[vec![[1.0, 2.0]], vec![[1.5, f64::MIN_POSITIVE]]],
            labels: Some(&[0]),
            classes: &classes,
            names: &names,
            pictures: &[],
        }
        .html();
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(html.contains("&lt;map&gt;") && html.contains("&lt;b&gt;&quot;"));
        assert!(!html.contains("<b>") && !html.contains("<map>"));
        let data = html.split("id=\"data\">").nth(1).unwrap();
        let data: serde_json::Value =
            serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
        assert_eq!(data["names"][0], names[0].as_str());
        assert_eq!(data["maps"][1], serde_json::json!([1.5, 0.0]));
        assert_eq!(data["views"], serde_json::json!(["original", "view 1"]));
        assert_eq!(html.matches("data-view=").count(), 2);
    }

    #[test]
    fn classes_without_samples_have_no_button() {
        let classes: Vec<String> = (0..5).map(|class| format!("class {class}")).collect();
        let page = Page {
            title: "map",
            facts: &[],
            maps: &[vec![[0.0; 2]; 3]],
            labels: Some(&[4, 1, 4]),
            classes: &classes,
            names: &[const { String::new() }; 3],
            pictures: &[],
        };
        let html = page.html();
        assert_eq!(html.matches("data-class=").count(), 2);
        assert!(html.contains("class 4<small>2</small>"));
        assert_eq!(html.matches("data-view=").count(), 0);
    }
}
