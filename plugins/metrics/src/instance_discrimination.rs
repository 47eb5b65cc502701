//! Instance discrimination: whether an image is told from all others, the pretext task itself as a figure.
//!
//! The query is an image (D-SD) or its first view (SD-SD), its positive the next view of the same image. Query n is a hit
//! at k if fewer than k of the *other queries* are nearer to it than its positive: the negatives are other images of the
//! query's own view, not their views. Nearness is cosine similarity, decided exactly in double precision. A small model
//! that does well here and badly by class over-clusters: it has solved the task and learnt little.
//!
//! The reference counts the query among its own candidates and takes one rank more, which comes to the same but for ties;
//! its figure is the unweighted mean over consecutive chunks of rows, a short last one weighing as much as the others
//! (`chunk`). Features that are all equal are all hits by the strict comparison; the row `tied` of the table says how many
//! queries owe their hit to that, and `ties: Shared` gives such queries their chance of guessing.

use smallfry::{
    Context, Invalid, Metric,
    metric::{Evaluation, Judged, Needs, Original, Score},
    plugin,
    serde::{Deserialize, Serialize},
};

use crate::judged;

mod ranks;

pub use ranks::{Rank, ranks};

/// The reference's images per class, and so its chunk, where its flag is not given.
const REFERENCE_CHUNK: usize = 100;

/// Which views are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum Mode {
    /// The image with its first view.
    DSD,
    /// The first view with the second.
    SDSD,
}

/// What becomes of other images that are just as near as the positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum Ties {
    /// They stand behind it.
    Behind,
    /// They and the positive share their places.
    Shared,
}

/// What the reference calls the masked views, by the word of `StaticViews`.
const MASKED: [(&str, &str); 4] = [
    ("GMask", "g-mask"),
    ("RandGMask", "rand-g-mask"),
    ("AvgMask", "avg-mask"),
    ("RandAvgMask", "rand-avg-mask"),
];

plugin! {
    /// Share of images that are nearer to their own view than to other images
    pub struct InstanceDiscrimination: Metric {
        /// What is compared: `DSD`, the image with its first view, or `SDSD`, its first view with its second.
        mode: Mode = Mode::DSD,
        /// The largest k of hit@k, at least 1; all up to it are given.
        topk: usize = 5,
        /// Rows of a chunk, such as `Some(50)`: the value is then the unweighted mean over chunks, as in the reference.
        chunk: Option<usize> = None,
        /// Only the first of every so many chunks is queried, and all images stay candidates; above 1 it needs `chunk`.
        query_stride: usize = 1,
        /// What becomes of images just as near as the positive: `Behind` it, as in the definition, or `Shared` places.
        ties: Ties = Ties::Behind,
        /// The reference's figures: chunks of 100 unless `chunk` says otherwise, and with chunks of 50 every second one is
        /// left out where the set's text contains `auged-train`.
        compatible: bool = false,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if self.topk == 0 {
            return Err(Invalid::new("topk", "must be at least 1"));
        }
        if self.chunk == Some(0) {
            return Err(Invalid::new("chunk", "must be at least 1"));
        }
        if self.query_stride == 0 {
            return Err(Invalid::new("query_stride", "must be at least 1"));
        }
        if self.query_stride > 1 && self.chunk.is_none() && !self.compatible {
            return Err(Invalid::new("query_stride", "counts chunks, and no `chunk` is given")
                .help("give `chunk: Some(50)`, or so many rows as a class has"));
        }
        Ok(Box::new(self))
    }
}

impl Metric for InstanceDiscrimination {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let (first, name) = match self.mode {
            Mode::DSD => (0, "D-SD"),
            Mode::SDSD => (1, "SD-SD"),
        };
        let queries = judged::view(evaluation, first)?;
        let positives = judged::view(evaluation, first + 1)?;
        let ranks = ranks(queries, positives, evaluation.watch)?;
        let (chunk, stride) = self.chunks(evaluation.data);
        let chunks: Vec<&[Rank]> = ranks
            .chunks(chunk.unwrap_or(ranks.len()))
            .step_by(stride)
            .collect();
        let asked: Vec<Rank> = chunks.concat();
        let share = |k: usize| {
            let shares = chunks.iter().map(|chunk| self.hits(chunk, k));
            shares.sum::<f64>() / chunks.len() as f64
        };
        let mut table: Vec<_> = (1..=self.topk)
            .map(|k| (format!("k = {k}"), share(k)))
            .collect();
        let tied = asked.iter().filter(|rank| rank.equal > 0).count();
        table.push(("tied".to_owned(), percent(tied as f64, asked.len())));
        let setting = match chunk {
            None => "k = 1".to_owned(),
            Some(chunk) => format!("k = 1, mean over {} chunks of {chunk}", chunks.len()),
        };
        let mut scores = vec![Score {
            name: format!("{name} instance discrimination"),
            value: share(1),
            unit: "%",
            higher_is_better: true,
            error: None,
            setting,
            table,
        }];
        if stride == 1 {
            scores.extend(self.by_class(&ranks, evaluation, name));
        }
        Ok(scores)
    }

    fn original(&self, scores: &[Score], judged: &Judged<'_>) -> Option<Original> {
        let Judged { checkpoint, data } = judged;
        let mode = match self.mode {
            Mode::DSD => "d-sd",
            Mode::SDSD => "sd-sd",
        };
        let masked = MASKED
            .iter()
            .find(|(word, _)| data.contains(&format!("mode: {word}")));
        let masked = masked.map_or("normal", |(_, name)| name);
        let shares = scores.first()?.table.iter().take(self.topk);
        let shares: Vec<f64> = shares
            .map(|(_, share)| (share * 1e3).round() / 1e3)
            .collect();
        Some(Original::Line(format!(
            "Masked: {masked}; Mode: {mode}; Top1-{}: {shares:?}; CKPT: {checkpoint}; Dataset: {data}",
            self.topk
        )))
    }

    fn needs(&self) -> Needs {
        let views = match self.mode {
            Mode::DSD => 2,
            Mode::SDSD => 3,
        };
        Needs {
            views,
            most_views: views,
            ..Needs::default()
        }
    }
}

impl InstanceDiscrimination {
    /// Rows of a chunk, and which share of the chunks is queried.
    fn chunks(&self, data: &str) -> (Option<usize>, usize) {
        if !self.compatible {
            return (self.chunk, self.query_stride);
        }
        let chunk = self.chunk.unwrap_or(REFERENCE_CHUNK);
        match chunk == 50 && data.contains("auged-train") {
            true => (Some(chunk), 2),
            false => (Some(chunk), self.query_stride),
        }
    }

    /// The share of hits at `k` in percent.
    fn hits(&self, ranks: &[Rank], k: usize) -> f64 {
        let hits = ranks.iter().map(|rank| {
            let left = k.saturating_sub(rank.nearer as usize) as f64;
            match self.ties {
                Ties::Behind => left.min(1.0),
                Ties::Shared => (left / (1.0 + f64::from(rank.equal))).min(1.0),
            }
        });
        percent(hits.sum(), ranks.len())
    }

    /// Hit@1 of each class, and the mean over the classes; none without classes.
    fn by_class(&self, ranks: &[Rank], evaluation: &Evaluation<'_>, name: &str) -> Option<Score> {
        let classes = judged::by_class(evaluation.test.labels()?);
        let table: Vec<_> = classes
            .iter()
            .enumerate()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(label, rows)| {
                let ranks: Vec<Rank> = rows.iter().map(|&row| ranks[row as usize]).collect();
                let name = judged::class_name(evaluation.classes, label);
                (name, self.hits(&ranks, 1))
            })
            .collect();
        let sum: f64 = table.iter().map(|(_, share)| share).sum();
        Some(Score {
            name: format!("{name} instance discrimination by class"),
            value: sum / table.len() as f64,
            unit: "%",
            higher_is_better: true,
            error: None,
            setting: format!("k = 1, mean over {} classes", table.len()),
            table,
        })
    }
}

fn percent(part: f64, whole: usize) -> f64 {
    100.0 * part / whole as f64
}

#[cfg(test)]
mod tests;
