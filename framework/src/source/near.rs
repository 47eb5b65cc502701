//! The name that was meant by a name that is none.

/// The name most like `name`, if any is like it.
pub(crate) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    names
        .iter()
        .map(|&candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.chars().count() / 3 + 1)
        .map(|(_, candidate)| candidate)
}

/// Letters to change, add, drop or swap with their neighbour; case does not count.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let change = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut best = change.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(table[i - 2][j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let names = ["MoCo", "SEED", "KnnAccuracy"];
        assert_eq!(nearest("MoCO", &names), Some("MoCo"));
        assert_eq!(nearest("Mocco", &names), Some("MoCo"));
        assert_eq!(nearest("KNNAcuracy", &names), Some("KnnAccuracy"));
        assert_eq!(nearest("ImageFolder", &names), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn distance_by_hand() {
        assert_eq!(distance("temprature", "temperature"), 1);
        assert_eq!(distance("qeueu", "queue"), 2);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("É", "é"), 0);
    }
}
