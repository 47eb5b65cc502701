//! The stage `Map`: features of images and their views as points in the plane, by t-SNE.
//!
//! Everything lies in `maps/<stage>` of the run folder: places as NumPy arrays (`Y0.npy` for the images, `Y1.npy` for
//! their first views and so on, row by row the samples of `samples.csv`), the two figures of the paper as SVG, PDF and PNG,
//! and `map.html` to look around in. A map shows neighbourhoods; it is no measure, and what looks like a cluster must be
//! checked by numbers.

pub mod array;
pub mod colour;
pub mod drawing;
pub mod features;
pub mod figure;
pub mod page;

use std::{fs, ops::ControlFlow, sync::Arc};

use smallfry_data::Dataset;

use crate::{
    backbone::Preprocessing,
    checkpoint::write_atomically,
    evaluate::{self, Given, Known, Source, crew::Extractable, features::Images, pass::Pass},
    failure::{Failure, disk},
    fingerprint,
    metric::{Watch, Watcher},
    plan::{Map, Mistake, Zoom, uncropped},
    results::{Results, SetRecord, StageOutcome, finite, map::Outcome},
    text::grouped,
    tsne::{self, Algorithm, Embedding, Settings},
    workplace::{
        Workplace,
        folder::{self, RunFolder, maps},
        interrupt::Interrupt,
    },
};

use drawing::Drawing;
use features::Collected;
use figure::{Points, Window};
use page::Page;

/// A stage of a map that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Map,
    /// Everything that the result depends on, as text.
    pub config: String,
    /// Where the weights will come from.
    pub source: Source,
    seed: u64,
    data: Arc<dyn Dataset>,
}

/// How the images of `stage` are made into the network's input.
pub(crate) fn preprocessing(stage: &Map) -> Preprocessing {
    stage.subject.preprocessing(stage.size, stage.resize)
}

/// Files of a sample that `stage` reads of `data`: the image and its views.
fn files(stage: &Map, data: &dyn Dataset) -> usize {
    data.views().min(stage.views.saturating_add(1))
}

/// The mistakes of `stage` with its images.
pub(crate) fn check(stage: &Map, data: &dyn Dataset) -> Vec<Mistake> {
    let mut mistakes = Vec::from_iter(uncropped("Map", preprocessing(stage)));
    if stage.site.has("views") && stage.views >= data.views() && stage.views > 0 {
        let (wanted, most) = (stage.views, data.views() - 1);
        let message = format!("`views` of Map: {wanted} are wanted, the images have {most}");
        let help = match most {
            0 => "take a set with views, such as `StaticViews(..)`, or `views: 0`".to_owned(),
            _ => format!("give at most {most}"),
        };
        mistakes.push(("views", message, Some(help)));
    }
    let points = stage.samples.min(data.len()) * files(stage, data);
    if let Some(message) = too_few(stage, points) {
        let most = (points.saturating_sub(1) as f64 / tsne::LEAST).floor();
        let help = match most >= 1.0 {
            true => format!("give at most {most}, or more images"),
            false => "give more images".to_owned(),
        };
        mistakes.push(("perplexity", message, Some(help)));
    }
    if points > tsne::MOST {
        let message = format!(
            "`samples` of Map: {} points are more than the {} that a map can hold",
            grouped(points),
            grouped(tsne::MOST)
        );
        mistakes.push(("samples", message, None));
    }
    let exact = settings(stage, 0).algorithm(points) == Algorithm::Exact;
    if exact && points > tsne::MOST_EXACT {
        let message = format!(
            "`algorithm` of Map: all pairs of {} points take more memory than there is",
            grouped(points)
        );
        let help = "use `algorithm: Auto`".to_owned();
        mistakes.push(("algorithm", message, Some(help)));
    }
    mistakes
}

/// Why `points` are too few for the perplexity of `stage`, if they are.
fn too_few(stage: &Map, points: usize) -> Option<String> {
    (points as f64 <= tsne::LEAST * stage.layout.perplexity).then(|| {
        format!(
            "`perplexity` of Map: {} needs more than {} points, and there are {}",
            stage.layout.perplexity,
            tsne::LEAST * stage.layout.perplexity,
            grouped(points)
        )
    })
}

/// What is worth knowing of the map of `stage`, as a heading and its text.
pub(crate) fn facts(stage: &Map, data: &dyn Dataset) -> Vec<(&'static str, String)> {
    let samples = stage.samples.min(data.len());
    let files = files(stage, data);
    let views = match files - 1 {
        0 => "no views".to_owned(),
        1 => "1 view each".to_owned(),
        views => format!("{views} views each"),
    };
    let points = samples * files;
    let settings = settings(stage, 0);
    let algorithm = match settings.algorithm(points) {
        Algorithm::BarnesHut { theta } => format!("Barnes and Hut with θ = {theta}"),
        _ => "all pairs".to_owned(),
    };
    vec![
        (
            "points",
            format!(
                "{} images, {views}: {} points",
                grouped(samples),
                grouped(points)
            ),
        ),
        (
            "t-SNE",
            format!(
                "perplexity {}, {} steps, {algorithm}, learning rate {}",
                stage.layout.perplexity,
                grouped(stage.layout.iterations),
                settings.rate(points)
            ),
        ),
    ]
}

fn settings(stage: &Map, seed: u64) -> Settings {
    Settings {
        seed,
        ..stage.layout.clone()
    }
}

impl<'a> Prepared<'a> {
    /// Readies `stage` in an experiment of seed `seed`. The text `weights` identifies what comes from `source`, `images` are
    /// what it places.
    pub(crate) fn new(
        stage: &'a Map,
        seed: u64,
        (source, weights): (Source, String),
        images: Known,
    ) -> Self {
        let mut config = String::new();
        let mut field = |name: &str, value: &str| fingerprint::field(&mut config, name, value);
        field("seed", &seed.to_string());
        let subject = fingerprint::subject(&stage.subject, &weights);
        field("data", &images.identity);
        field("samples", &stage.samples.to_string());
        field("views", &stage.views.to_string());
        field("perplexity", &format!("{:?}", stage.layout.perplexity));
        field("iterations", &stage.layout.iterations.to_string());
        field("exaggeration", &format!("{:?}", stage.layout.exaggeration));
        field("exaggerated", &stage.layout.exaggerated.to_string());
        field(
            "learning_rate",
            &format!("{:?}", stage.layout.learning_rate),
        );
        field("algorithm", &format!("{:?}", stage.layout.algorithm));
        field("initial", &format!("{:?}", stage.layout.initial));
        field("pairs", &stage.pairs.to_string());
        field("zoom", &format!("{:?}", stage.zoom));
        field("size", &format!("{:?}", stage.size));
        field("resize", &format!("{:?}", stage.resize));
        config += &subject;
        Self {
            stage,
            config,
            source,
            seed,
            data: images.data,
        }
    }

    /// Whether all files of the finished map are there.
    pub(crate) fn is_whole(&self, results: &Results, run: &RunFolder) -> bool {
        let name = &self.stage.name;
        let folder = maps(run.root(), name);
        match results.stage(name).map(|result| &result.outcome) {
            Some(StageOutcome::Map(outcome)) => {
                let mut files = outcome.files.iter();
                files.all(|file| folder.join(file).is_file())
            }
            _ => false,
        }
    }

    /// The images.
    pub(crate) fn data(&self) -> &Arc<dyn Dataset> {
        &self.data
    }

    /// How they become the network's input.
    fn images(&self) -> Images {
        Images {
            preprocessing: preprocessing(self.stage),
            batch: self.stage.batch,
        }
    }

    /// What it extracts features of; `set` is the data, where other processes have it.
    pub(crate) fn extractable(&self, set: Option<Arc<dyn Dataset>>) -> Extractable<'_> {
        Extractable {
            subject: &self.stage.subject,
            images: self.images(),
            sets: vec![set],
        }
    }

    /// Does the work.
    ///
    /// # Errors
    /// The weights do not fit, too few images can be read, features are not finite, files cannot be written, or the
    /// user stops.
    pub fn run(&self, given: &Given, workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let (stage, data) = (self.stage, &*self.data);
        let (encoder, weights) = evaluate::encoder(&stage.subject, given)?;
        let samples = stage.samples.min(data.len());
        let images = self.images();
        let views = files(stage, data);
        let total = samples * views;
        workplace.display.stage(&stage.name, total as u64, 0);
        let (name, subject) = (&stage.name, &stage.subject);
        let pass = Pass::new(name, subject, images, stage.cache, encoder, workplace);
        let collected = Collected::new(pass, &self.data, samples, views, workplace)?;
        let features = collected.unit().map_err(|failure| self.named(failure))?;
        let points = features.len() / collected.width;
        if let Some(message) = too_few(stage, points) {
            let left_out = collected.left_out.len();
            let failure = Failure::mistake(message)
                .help(format!("{left_out} of the {samples} images cannot be read"));
            return Err(self.named(failure));
        }
        let settings = settings(stage, self.seed);
        let embedding = self.embed(&features, collected.width, &settings, workplace)?;
        let maps: Vec<Vec<[f64; 2]>> = embedding
            .points
            .chunks(collected.names.len())
            .map(<[_]>::to_vec)
            .collect();
        let outcome = Outcome {
            backbone: stage.subject.backbone.line.clone(),
            weights,
            data: SetRecord {
                data: stage.data.line(),
                samples: collected.names.len(),
                left_out: collected.left_out.clone(),
            },
            views: maps.len() - 1,
            algorithm: settings.algorithm(points),
            divergence: finite(embedding.divergence),
            files: Vec::new(),
        };
        let files = self.write(&collected, &maps, &outcome, workplace)?;
        workplace.display.finish();
        Ok(Outcome { files, ..outcome })
    }

    /// A failure that says of which stage it is.
    fn named(&self, mut failure: Failure) -> Failure {
        failure.message = format!("stage `{}`: {}", self.stage.name, failure.message);
        failure
    }

    fn embed(
        &self,
        features: &[f32],
        width: usize,
        settings: &Settings,
        workplace: &mut Workplace,
    ) -> Result<Embedding, Failure> {
        let iterations = settings.iterations as u64;
        let interrupt = workplace.interrupt;
        workplace.display.stage(&self.stage.name, iterations, 0);
        let display = &*workplace.display;
        let mut watch = |step: usize| {
            display.iterations(step as u64);
            match interrupt.requested() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let setup = Onlooker(interrupt);
        let embedding = tsne::embed(features, width, settings, Watch::by(&setup), &mut watch);
        embedding.ok_or_else(features::stopped)
    }

    /// Writes the files of the map and gives their names.
    fn write(
        &self,
        collected: &Collected,
        maps: &[Vec<[f64; 2]>],
        outcome: &Outcome,
        workplace: &Workplace,
    ) -> Result<Vec<String>, Failure> {
        let points = Points {
            maps,
            labels: collected.labels.as_deref(),
            classes: self.data.classes(),
        };
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (view, map) in maps.iter().enumerate() {
            files.push((format!("Y{view}.npy"), array::write(map)));
        }
        files.push(("samples.csv".to_owned(), self.table(collected).into()));
        let mut draw = |name: &str, drawing: &Drawing| {
            files.push((format!("{name}.svg"), drawing.svg().into()));
            files.push((format!("{name}.pdf"), drawing.pdf()));
            files.push((format!("{name}.png"), drawing.png()));
        };
        draw("full_rep", &figure::full(points));
        let pairs = self.stage.pairs;
        let window = match self.stage.zoom {
            Zoom::None => None,
            Zoom::Auto => figure::telling_window(points, pairs),
            Zoom::Window { x, y } => Some(Window { x, y }),
        };
        if let Some(drawing) = figure::augmented(points, pairs, window) {
            draw("auged_rep", &drawing);
        }
        let page = Page {
            title: &self.stage.name,
            facts: &outcome.facts(),
            maps,
            labels: points.labels,
            classes: points.classes,
            names: &collected.names,
            pictures: &collected.pictures,
        };
        files.push(("map.html".to_owned(), page.html().into()));
        workplace.folder.check_owned()?;
        let folder = folder::maps(workplace.folder.root(), &self.stage.name);
        // What an earlier map left, of more views perhaps, must not stand beside this one.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| disk("remove", &folder, &error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| disk("make", &folder, &error))?;
        for (name, bytes) in &files {
            write_atomically(&folder.join(name), bytes)?;
        }
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// The rows of the arrays: name and class of each sample.
    fn table(&self, collected: &Collected) -> String {
        let mut table = "row,name,label,class\n".to_owned();
        for (row, name) in collected.names.iter().enumerate() {
            let label = collected.labels.as_ref().map(|labels| labels[row]);
            let class = label.and_then(|label| self.data.classes().get(label as usize));
            let label = label.map_or(String::new(), |label| label.to_string());
            let class = class.map_or("", |class| class);
            table += &format!("{row},{},{label},{}\n", quoted(name), quoted(class));
        }
        table
    }
}

/// Who knows that the user wants to stop while neighbours are found.
struct Onlooker<'a>(&'a Interrupt);

impl Watcher for Onlooker<'_> {
    fn show(&self, _: f64) {}

    fn stop(&self) -> bool {
        self.0.requested()
    }
}

/// A text as a field of a table, in quotes where it needs them.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_table_keep_their_commas() {
        for (text, expected) in [
            ("cat/1.jpg", "cat/1.jpg"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
