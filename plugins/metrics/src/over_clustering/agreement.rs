//! How clusters and classes go together.

/// Counts of images by cluster and by class.
pub(super) struct Agreement {
    images: f64,
    /// Class, cluster and number of images of each pair that occurs, in that order.
    cells: Vec<(u32, u32, f64)>,
    clusters: Vec<f64>,
    classes: Vec<f64>,
}

impl Agreement {
    /// That of the cluster and the class of each image.
    pub fn of(clusters: &[u32], classes: &[u32]) -> Self {
        let mut pairs: Vec<(u32, u32)> = classes
            .iter()
            .copied()
            .zip(clusters.iter().copied())
            .collect();
        pairs.sort_unstable();
        let cells = pairs
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0].0, same[0].1, same.len() as f64));
        Self {
            images: clusters.len() as f64,
            cells: cells.collect(),
            clusters: sizes(clusters),
            classes: sizes(classes),
        }
    }

    /// The exponential of the entropy of each class that has images over the clusters.
    pub fn clusters_by_class(&self) -> impl Iterator<Item = (u32, f64)> {
        self.cells.chunk_by(|a, b| a.0 == b.0).map(|cells| {
            let size: f64 = cells.iter().map(|(_, _, count)| count).sum();
            let shares = cells.iter().map(|(_, _, count)| count / size);
            (cells[0].0, entropy(shares).exp())
        })
    }

    /// The mean of those over the classes.
    pub fn clusters_per_class(&self) -> f64 {
        let (count, sum) = self
            .clusters_by_class()
            .fold((0.0, 0.0), |(count, sum), (_, value)| {
                (count + 1.0, sum + value)
            });
        sum / count
    }

    /// The mutual information of clusters and classes over the mean of their entropies; 1 where both are one lump.
    pub fn normalised_information(&self) -> f64 {
        let entropy_of = |sizes: &[f64]| entropy(sizes.iter().map(|size| size / self.images));
        let mean = 0.5 * (entropy_of(&self.clusters) + entropy_of(&self.classes));
        let cells = self.cells.iter().map(|&(class, cluster, count)| {
            let expected = self.classes[class as usize] * self.clusters[cluster as usize];
            count / self.images * (count * self.images / expected).ln()
        });
        match mean {
            0.0 => 1.0,
            mean => (cells.sum::<f64>() / mean).clamp(0.0, 1.0),
        }
    }

    /// The adjusted Rand index; 1 where both are one lump or all apart.
    pub fn rand(&self) -> f64 {
        let pairs = |count: f64| 0.5 * count * (count - 1.0);
        let sum = |sizes: &[f64]| sizes.iter().map(|&size| pairs(size)).sum::<f64>();
        let together: f64 = self.cells.iter().map(|&(_, _, count)| pairs(count)).sum();
        let (clusters, classes) = (sum(&self.clusters), sum(&self.classes));
        let expected = clusters * classes / pairs(self.images);
        let most = 0.5 * (clusters + classes);
        match most == expected {
            true => 1.0,
            false => (together - expected) / (most - expected),
        }
    }
}

/// The number of images of each label.
fn sizes(labels: &[u32]) -> Vec<f64> {
    let count = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let mut sizes = vec![0.0; count];
    for &label in labels {
        sizes[label as usize] += 1.0;
    }
    sizes
}

/// −Σ p ln p.
fn entropy(shares: impl Iterator<Item = f64>) -> f64 {
    let terms = shares.filter(|share| *share > 0.0);
    terms.map(|share| -share * share.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn by_hand() {
        // The values of scikit-learn for the same labels.
        let agreement = Agreement::of(&[0, 0, 1, 1, 2, 2], &[0, 0, 0, 1, 1, 1]);
        close(agreement.rand(), 0.242_424_242_424_242_4);
        close(agreement.normalised_information(), 0.515_803_742_979_388_9);
        let halves = -(2.0 / 3.0 * f64::ln(2.0 / 3.0) + 1.0 / 3.0 * f64::ln(1.0 / 3.0));
        close(agreement.clusters_per_class(), halves.exp());
    }

    #[test]
    fn perfect_and_none() {
        let names = [3, 3, 0, 0, 1];
        let same = Agreement::of(&[1, 1, 2, 2, 0], &names);
        close(same.rand(), 1.0);
        close(same.normalised_information(), 1.0);
        close(same.clusters_per_class(), 1.0);
        let lump = Agreement::of(&[0; 5], &names);
        close(lump.rand(), 0.0);
        close(lump.normalised_information(), 0.0);
        let apart = Agreement::of(&[0, 1, 2, 3, 4], &names);
        close(apart.clusters_per_class(), 5.0 / 3.0);
    }
}
