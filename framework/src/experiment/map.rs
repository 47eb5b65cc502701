//! The stage `Map(..)`: a map of features in the plane.

use serde::Serialize;

use super::{
    Stages,
    fields::{Fields, Reader},
    images, layout, subject,
};
use crate::{
    plan::{Map, Stage, Zoom},
    source::quoted,
    tsne::{Algorithm, Initial, Settings},
};

/// Images on the map, as in the paper.
const SAMPLES: usize = 1000;

/// Views of each image, as in the paper.
const VIEWS: usize = 2;

/// Images of the figure of views, as in the paper.
const PAIRS: usize = 100;

/// Images in a batch unless the file says otherwise; it changes speed and memory, and no more of a result than
/// roundings of dense convolutions, whose method depends on it.
const BATCH: usize = 64;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Map");
    let site = fields.site();
    let name = fields.name("map");
    let subject = subject::read(&mut fields, stages, i);
    let data = images::required(&mut fields, stages, i, "data");
    let samples = fields.count("samples", Some(SAMPLES), "1000");
    let views = fields.optional("views", "2").unwrap_or(VIEWS);
    let own = Settings::default();
    let perplexity = number(&mut fields, "perplexity", own.perplexity, 1.0);
    let iterations = fields.count("iterations", Some(own.iterations), "1000");
    let exaggeration = number(&mut fields, "exaggeration", own.exaggeration, 0.0);
    let exaggerated = fields.optional("exaggerated", "100");
    let learning_rate = learning_rate(&mut fields);
    let algorithm = algorithm(&mut fields);
    let initial = fields.optional::<Initial>("initial", "Normal");
    let pairs = fields.count("pairs", Some(PAIRS), "100");
    let zoom = zoom(&mut fields);
    let size = fields.optional_count("size", "224");
    let resize = fields.optional_count("resize", "256");
    let batch = fields.count("batch", Some(BATCH), "64");
    let cache = fields.optional::<bool>("cache", "false").unwrap_or(true);
    fields.finish();
    let (subject, written) = subject?;
    let stage = Map {
        name,
        subject,
        data: data?,
        samples,
        views,
        layout: Settings {
            perplexity,
            iterations,
            exaggeration,
            exaggerated: exaggerated.unwrap_or(own.exaggerated),
            learning_rate,
            algorithm,
            initial: initial.unwrap_or(own.initial),
            ..own
        },
        pairs,
        zoom,
        size,
        resize,
        batch,
        cache,
        site,
    };
    let layout = &stage.layout;
    let rate = layout.learning_rate.map(|rate| format!("{rate:?}"));
    let mut lines = vec![("name", quoted(&stage.name))];
    lines.extend(written);
    lines.extend([
        ("data", stage.data.resolved()),
        ("samples", stage.samples.to_string()),
        ("views", stage.views.to_string()),
        ("perplexity", format!("{:?}", layout.perplexity)),
        ("iterations", layout.iterations.to_string()),
        ("exaggeration", format!("{:?}", layout.exaggeration)),
        ("exaggerated", layout.exaggerated.to_string()),
        ("learning_rate", rate.unwrap_or("None".to_owned())),
        ("algorithm", value(&layout.algorithm)),
        ("initial", value(&layout.initial)),
        ("pairs", stage.pairs.to_string()),
        ("zoom", value(&stage.zoom)),
    ]);
    for (name, value) in [("size", stage.size), ("resize", stage.resize)] {
        lines.extend(value.map(|value| (name, value.to_string())));
    }
    lines.push(("batch", stage.batch.to_string()));
    if !stage.cache {
        lines.push(("cache", "false".to_owned()));
    }
    Some((Stage::Map(stage), layout::block("Map", &lines)))
}

/// A number above `above`, or equal to it where that is above 0.
fn number(fields: &mut Fields<'_>, name: &'static str, own: f64, least: f64) -> f64 {
    let number: f64 = fields.optional(name, &format!("{own:?}")).unwrap_or(own);
    let fits = if least > 0.0 {
        number >= least
    } else {
        number > 0.0
    };
    if fits && number.is_finite() {
        return number;
    }
    let reason = match least > 0.0 {
        true => format!("must be at least {least}"),
        false => "must be above 0".to_owned(),
    };
    fields.refuse(name, &reason);
    own
}

fn learning_rate(fields: &mut Fields<'_>) -> Option<f64> {
    let rate = fields
        .optional::<Option<f64>>("learning_rate", "500.0")
        .flatten();
    if rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        fields.refuse("learning_rate", "must be above 0").help =
            Some("leave it out for a rate that suits the number of points".to_owned());
    }
    rate
}

fn algorithm(fields: &mut Fields<'_>) -> Algorithm {
    let algorithm = fields
        .optional("algorithm", "Auto")
        .unwrap_or(Algorithm::Auto);
    if let Algorithm::BarnesHut { theta } = algorithm
        && !(0.0..=1.0).contains(&theta)
    {
        fields
            .refuse("algorithm", "`theta` must be from 0 to 1")
            .help = Some("0.5 is what is usual; 0 is exact and slow".to_owned());
    }
    algorithm
}

fn zoom(fields: &mut Fields<'_>) -> Zoom {
    let zoom = fields.optional("zoom", "Auto").unwrap_or(Zoom::Auto);
    if let Zoom::Window { x, y } = zoom {
        let rises = |(low, high): (f64, f64)| low < high && low.is_finite() && high.is_finite();
        if !(rises(x) && rises(y)) {
            let reason = "each range must go from a number to a larger one";
            fields.refuse("zoom", reason).help =
                Some("for example, `zoom: Window(x: (-10, -8), y: (41, 43))`".to_owned());
        }
    }
    zoom
}

/// A value as the file has it.
fn value<T: Serialize>(value: &T) -> String {
    crate::source::dialect()
        .to_string(value)
        .expect("plain choices and numbers can always be written")
}
