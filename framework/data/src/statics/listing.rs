//! Which images of a set get static views, and how their files are named.
//!
//! The first images of each class by name, not in the order that a folder happens to list them. A reader takes what stands
//! before the first `-` of a file's name for the image, so a name keeps what stands before its first `.`, a `-` becomes
//! a `_`, and images of a class that would then have one name get `_2`, `_3` and so on.

use std::collections::HashSet;

use crate::{Dataset, LoadError};

/// The longest name of an image in bytes: file systems take 255, and `-10.jpeg` follows.
const LONGEST: usize = 200;

/// The images that get views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Names of the classes, sorted; each has a folder.
    pub classes: Vec<String>,
    /// The images, sorted by class and name.
    pub samples: Vec<Sample>,
}

/// An image that gets views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its number in the set it comes from.
    pub source: usize,
    /// Its class, among the sorted ones.
    pub class: usize,
    /// What its files are named by.
    pub name: String,
}

impl Listing {
    /// The first `per_class` images of each class of `set`.
    ///
    /// # Errors
    /// The set has no classes, or classes whose names cannot be those of folders.
    pub fn new(set: &dyn Dataset, per_class: usize) -> Result<Self, LoadError> {
        let named = set.classes();
        let fail = |name: &str, reason: &str| LoadError {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let mut order: Vec<usize> = (0..named.len()).collect();
        order.sort_by_key(|&label| &named[label]);
        let classes: Vec<String> = order.iter().map(|&label| named[label].clone()).collect();
        if let Some(pair) = classes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(fail(&pair[0], "is the name of two classes"));
        }
        if let Some(class) = classes.iter().find(|class| !names_a_folder(class)) {
            return Err(fail(
                class,
                "is a class whose name cannot be that of a folder",
            ));
        }
        let mut of_class = vec![Vec::new(); classes.len()];
        let mut rank = vec![0; classes.len()];
        for (class, &label) in order.iter().enumerate() {
            rank[label] = class;
        }
        for sample in 0..set.len() {
            let class = set.label(sample).and_then(|label| rank.get(label as usize));
            let Some(&class) = class else {
                return Err(fail(&set.name(sample), "has no class"));
            };
            of_class[class].push((set.name(sample), sample));
        }
        let mut samples = Vec::new();
        for (class, mut images) in of_class.into_iter().enumerate() {
            images.sort();
            images.truncate(per_class);
            let mut names = HashSet::new();
            let mut of_class: Vec<_> = images
                .into_iter()
                .map(|(name, source)| Sample {
                    source,
                    class,
                    name: unused(&stem(&name), &mut names),
                })
                .collect();
            of_class.sort_by(|a, b| a.name.cmp(&b.name));
            samples.extend(of_class);
        }
        Ok(Self { classes, samples })
    }

    /// The path of a file of an image, below the set's folder.
    pub fn path(&self, sample: &Sample, file: usize) -> String {
        format!("{}/{}-{file}.jpeg", self.classes[sample.class], sample.name)
    }
}

/// Whether a folder can have a name and be found again: folders that begin with a dot are no classes.
fn names_a_folder(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !"/\\".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && name.chars().all(plain)
}

/// What a sample's name gives for the names of its files.
fn stem(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    // The record in a data file of many images.
    let (file, record) = match file.rsplit_once('#') {
        Some((file, record)) if record.bytes().all(|c| c.is_ascii_digit()) => (file, record),
        _ => (file, ""),
    };
    let start = file.split('.').next().unwrap_or(file);
    let safe = |c: char| match c {
        '-' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let mut stem: String = start.chars().map(safe).collect();
    if !record.is_empty() {
        stem += &format!("_{record}");
    }
    while stem.len() > LONGEST {
        stem.pop();
    }
    match stem.is_empty() {
        true => "image".to_owned(),
        false => stem,
    }
}

/// The name, or the first of it with a number that no other image has.
fn unused(name: &str, names: &mut HashSet<String>) -> String {
    let numbered = (2u64..).map(|number| format!("{name}_{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    candidates
        .find(|candidate| names.insert(candidate.clone()))
        .expect("there is always a greater number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    struct Named {
        classes: Vec<String>,
        names: Vec<(&'static str, Option<u32>)>,
    }

    impl Dataset for Named {
        fn len(&self) -> usize {
            self.names.len()
        }

        fn classes(&self) -> &[String] {
            &self.classes
        }

        fn label(&self, sample: usize) -> Option<u32> {
            self.names[sample].1
        }

        fn name(&self, sample: usize) -> String {
            self.names[sample].0.to_owned()
        }

        fn load(&self, _: usize) -> Result<Image, LoadError> {
            Ok(Image::black(1, 1))
        }
    }

    fn list(classes: &[&str], names: &[(&'static str, Option<u32>)], n: usize) -> Vec<String> {
        let set = Named {
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            names: names.to_vec(),
        };
        match Listing::new(&set, n) {
            Err(error) => vec![error.to_string()],
            Ok(listing) => {
                let samples = listing.samples.iter();
                samples
                    .map(|sample| format!("{}={}", listing.path(sample, 1), sample.source))
                    .collect()
            }
        }
    }

    #[test]
    fn the_first_of_each_class_by_name_are_taken() {
        let names = [
            ("b/z.jpg", Some(0)),
            ("b/y.jpg", Some(0)),
            ("a/3.jpg", Some(1)),
            ("b/x.jpg", Some(0)),
            ("a/4.jpg", Some(1)),
        ];
        assert_eq!(
            list(&["b", "a"], &names, 2),
            [
                "a/3-1.jpeg=2",
                "a/4-1.jpeg=4",
                "b/x-1.jpeg=3",
                "b/y-1.jpeg=1"
            ]
        );
    }

    #[test]
    fn names_are_made_unique_and_without_dashes() {
        let names = [
            ("c/a.b.jpg", Some(0)),
            ("c/a.jpg", Some(0)),
            ("c/a_2.jpg", Some(0)),
            ("c/d-1.png", Some(0)),
            ("c/.png", Some(0)),
            ("data_batch_1.bin#17", Some(0)),
        ];
        assert_eq!(
            list(&["c"], &names, 9),
            [
                "c/a-1.jpeg=0",
                "c/a_2-1.jpeg=1",
                "c/a_2_2-1.jpeg=2",
                "c/d_1-1.jpeg=3",
                "c/data_batch_1_17-1.jpeg=5",
                "c/image-1.jpeg=4",
            ]
        );
        assert_eq!(stem(&"ü".repeat(300)).len(), 200);
    }

    #[test]
    fn classes_must_be_able_to_be_folders() {
        for (classes, label, expected) in [
            (
                &["a/b"][..],
                Some(0),
                "`a/b` is a class whose name cannot be that of a folder",
            ),
            (
                &[".."],
                Some(0),
                "`..` is a class whose name cannot be that of a folder",
            ),
            (&["a", "a"], Some(0), "`a` is the name of two classes"),
            (&[], None, "`x.jpg` has no class"),
        ] {
            assert_eq!(list(classes, &[("x.jpg", label)], 1), [expected]);
        }
    }
}
