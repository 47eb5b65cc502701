//! Renaming by rules that work in both directions.
//!
//! A rule is a pair of patterns, the library's and the reference's, for the first parts of a name; the rest, such as
//! `weight`, stays. A part is a word, or `*` for a number that both names have, or `+` where the library counts blocks
//! within stages (two numbers) and the reference through the whole network (one); `0+` is a `+` in the first stage
//! only. The first rule that fits is taken; a name that fits none is the same in both.

use smallfry_nn::network::Spec;

use super::Library;

/// What an implementation calls the tensors of a family of networks.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// Whose names these are, for messages; empty for the reference's.
    pub name: &'static str,
    /// A tensor of the reference that every network of the family has; empty for any family.
    pub family: &'static str,
    /// The libraries whose networks of this family are the same.
    pub libraries: &'static [Library],
    /// Their pattern, the reference's pattern.
    pub rules: &'static [(&'static str, &'static str)],
    /// Number of blocks in each stage of the network with these tensors; none if it has other stages than theirs.
    pub stages: Option<CountBlocks>,
    /// What a user of such a file should know.
    pub remark: Option<&'static str>,
}

/// Counts the blocks in each stage of a network by its tensors.
pub type CountBlocks = fn(&[Spec]) -> Option<Vec<usize>>;

/// Number of blocks in each stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages(Vec<usize>);

impl Stages {
    /// Stages of these numbers of blocks.
    pub fn new(blocks: Vec<usize>) -> Self {
        Self(blocks)
    }

    fn count(&self, stage: usize, block: usize) -> Option<usize> {
        (block < *self.0.get(stage)?).then(|| self.0[..stage].iter().sum::<usize>() + block)
    }

    fn place(&self, mut block: usize) -> Option<(usize, usize)> {
        for (stage, &blocks) in self.0.iter().enumerate() {
            if block < blocks {
                return Some((stage, block));
            }
            block -= blocks;
        }
        None
    }
}

impl Naming {
    /// Whether these are names of the network with the tensors `specs`.
    pub fn suits(&self, specs: &[Spec]) -> bool {
        let family = self.family.is_empty() || specs.iter().any(|spec| spec.name == self.family);
        family && self.stages.is_none_or(|stages| stages(specs).is_some())
    }

    /// The stages of the network with the tensors `specs`.
    pub fn stages_of(&self, specs: &[Spec]) -> Stages {
        Stages::new(
            self.stages
                .and_then(|stages| stages(specs))
                .unwrap_or_default(),
        )
    }

    /// The reference's name of their tensor `name`.
    pub fn read(&self, name: &str, stages: &Stages) -> String {
        let mut rules = self.rules.iter();
        rules
            .find_map(|(theirs, ours)| {
                let (numbers, rest) = matches(theirs, name, |stage, parts| {
                    let [s, block] = take_numbers(parts)?;
                    let fits = stage.is_none_or(|stage| stage == s);
                    fits.then(|| stages.count(s, block)).flatten()
                })?;
                Some(fill(ours, &numbers, rest, |block| Some(block.to_string())))
            })
            .flatten()
            .unwrap_or_else(|| name.to_owned())
    }

    /// Their name of the reference's tensor `name`.
    pub fn write(&self, name: &str, stages: &Stages) -> String {
        let mut rules = self.rules.iter();
        rules
            .find_map(|(theirs, ours)| {
                let (numbers, rest) = matches(ours, name, |stage, parts| {
                    let [block] = take_numbers(parts)?;
                    let (s, _) = stages.place(block)?;
                    stage.is_none_or(|stage| stage == s).then_some(block)
                })?;
                Some(fill(theirs, &numbers, rest, |block| {
                    let (stage, block) = stages.place(block)?;
                    Some(format!("{stage}.{block}"))
                }))
            })
            .flatten()
            .unwrap_or_else(|| name.to_owned())
    }
}

/// The numbers in `name`, if it starts as `pattern` says, and what follows.
///
/// `block` takes the parts of a `+` and gives the block's number through the network.
fn matches<'a>(
    pattern: &str,
    name: &'a str,
    block: impl Fn(Option<usize>, &mut std::str::Split<'a, char>) -> Option<usize>,
) -> Option<(Vec<usize>, Vec<&'a str>)> {
    let mut parts = name.split('.');
    let mut numbers = Vec::new();
    for wanted in pattern.split('.').filter(|part| !part.is_empty()) {
        match wanted {
            "*" => numbers.push(take_numbers::<1>(&mut parts)?[0]),
            "+" => numbers.push(block(None, &mut parts)?),
            "0+" => numbers.push(block(Some(0), &mut parts)?),
            word => {
                if parts.next()? != word {
                    return None;
                }
            }
        }
    }
    Some((numbers, parts.collect()))
}

fn take_numbers<const N: usize>(parts: &mut std::str::Split<'_, char>) -> Option<[usize; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    Some(numbers)
}

/// `pattern` with `numbers` in place of its placeholders, and `rest` behind it.
fn fill(
    pattern: &str,
    numbers: &[usize],
    rest: Vec<&str>,
    block: impl Fn(usize) -> Option<String>,
) -> Option<String> {
    let mut numbers = numbers.iter();
    let mut parts = Vec::new();
    for part in pattern.split('.').filter(|part| !part.is_empty()) {
        parts.push(match part {
            "*" => numbers.next()?.to_string(),
            "+" | "0+" => block(*numbers.next()?)?,
            word => word.to_owned(),
        });
    }
    parts.extend(rest.into_iter().map(str::to_owned));
    Some(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMING: Naming = Naming {
        name: "x",
        family: "",
        libraries: &[],
        rules: &[
            ("stem", "first"),
            ("blocks.0+.bn1", "_blocks.0+._bn1"),
            ("blocks.+.bn1", "_blocks.+._bn0"),
            ("part.*.to", "piece.*"),
        ],
        stages: None,
        remark: None,
    };

    #[test]
    fn rules_work_in_both_directions() {
        let stages = Stages::new(vec![1, 2, 3]);
        for (theirs, ours) in [
            ("stem.weight", "first.weight"),
            ("blocks.0.0.bn1.bias", "_blocks.0._bn1.bias"),
            ("blocks.1.1.bn1.bias", "_blocks.2._bn0.bias"),
            ("blocks.2.2.bn1.bias", "_blocks.5._bn0.bias"),
            ("part.3.to.0.weight", "piece.3.0.weight"),
            ("else.weight", "else.weight"),
        ] {
            assert_eq!(NAMING.read(theirs, &stages), ours);
            assert_eq!(NAMING.write(ours, &stages), theirs);
        }
    }

    #[test]
    fn what_fits_no_rule_stays() {
        let stages = Stages::new(vec![1]);
        for name in ["blocks.1.0.bn1.bias", "blocks.0.1.bn1", "stems.weight", ""] {
            assert_eq!(NAMING.read(name, &stages), name);
        }
    }
}
