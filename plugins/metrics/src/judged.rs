//! What metrics of the judged set share: its views as unit features, samples of it, its classes.

use std::ops::Range;

use smallfry::{
    data::random::Random,
    measure::UnitRows,
    metric::{Evaluation, FeatureSet, Original, Score},
    tensor::values,
};

/// Rows that are read at once.
const ROWS: usize = 4096;

/// The scores whose names are in `columns`, under the headings that the reference prints.
pub fn columns(scores: &[Score], columns: &[(&str, &str)]) -> Original {
    let found = columns.iter().filter_map(|(name, heading)| {
        let score = scores.iter().find(|score| score.name == *name)?;
        Some(((*heading).to_owned(), score.value))
    });
    Original::Columns(found.collect())
}

/// View `view` of the judged images: 0 for the images themselves.
///
/// # Errors
/// There are fewer views.
pub fn view<'a>(evaluation: &Evaluation<'a>, view: usize) -> Result<&'a dyn FeatureSet, String> {
    let found = match view {
        0 => Some(evaluation.test),
        further => evaluation.views.get(further - 1).copied(),
    };
    let found = found.ok_or_else(|| {
        format!(
            "needs {} views of each image and the set holds {}; name one that a stage `Views` wrote",
            view + 1,
            1 + evaluation.views.len()
        )
    })?;
    match (found.rows(), found.width()) {
        (0, _) => Err("the set is empty".to_owned()),
        (_, 0) => Err("features have no numbers".to_owned()),
        (rows, _) if rows != evaluation.test.rows() => {
            Err("views must be of the same images".to_owned())
        }
        _ => Ok(found),
    }
}

/// Some features of `set` as they are, all of them finite.
///
/// # Errors
/// Names the first image whose feature is not finite.
pub fn finite(set: &dyn FeatureSet, rows: Range<usize>) -> Result<Vec<f32>, String> {
    let features = values(&set.read(rows.clone())).into_owned();
    match features.iter().position(|value| !value.is_finite()) {
        None => Ok(features),
        Some(at) => Err(broken(set, rows.start + at / set.width())),
    }
}

/// Some features of `set`, scaled to length one.
///
/// # Errors
/// As [`finite`].
pub fn unit(set: &dyn FeatureSet, rows: Range<usize>) -> Result<UnitRows, String> {
    let first = rows.start;
    let features = set.read(rows);
    UnitRows::new(&values(&features), set.width()).map_err(|error| broken(set, first + error.row))
}

/// The features of the rows `chosen`, in ascending order, as they are.
///
/// # Errors
/// As [`finite`].
pub fn finite_rows(set: &dyn FeatureSet, chosen: &[u32]) -> Result<Vec<f32>, String> {
    let mut features = Vec::with_capacity(chosen.len() * set.width());
    for rows in chosen.chunk_by(|a, b| a + 1 == *b) {
        let (first, last) = (rows[0] as usize, rows[rows.len() - 1] as usize);
        for start in (first..=last).step_by(ROWS) {
            features.extend(finite(set, start..(start + ROWS).min(last + 1))?);
        }
    }
    Ok(features)
}

/// The features of the rows `chosen`, in ascending order, scaled to length one.
///
/// # Errors
/// As [`finite`].
pub fn unit_rows(set: &dyn FeatureSet, chosen: &[u32]) -> Result<UnitRows, String> {
    let unit = UnitRows::new(&finite_rows(set, chosen)?, set.width());
    unit.map_err(|error| broken(set, chosen[error.row] as usize))
}

fn broken(set: &dyn FeatureSet, row: usize) -> String {
    format!(
        "the feature of `{}` is not finite: the encoder has diverged or its checkpoint is damaged",
        set.name(row)
    )
}

/// `count` of `rows` drawn without repetition, in ascending order; all of them where there are no more.
pub fn draw(rows: usize, count: usize, mut random: Random) -> Vec<u32> {
    if count >= rows {
        return (0..rows as u32).collect();
    }
    let mut drawn = random.permutation(rows);
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}

/// The classes of the judged images.
///
/// # Errors
/// There are none.
pub fn labels<'a>(evaluation: &Evaluation<'a>) -> Result<&'a [u32], String> {
    let labels = evaluation.test.labels();
    labels.ok_or_else(|| {
        "the set has no classes; name a labelled one, such as a folder of a folder per class".into()
    })
}

/// The rows of each class, by label; classes without images have none.
pub fn by_class(labels: &[u32]) -> Vec<Vec<u32>> {
    let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let mut rows = vec![Vec::new(); classes];
    for (row, &label) in labels.iter().enumerate() {
        rows[label as usize].push(row as u32);
    }
    rows
}

/// What a table calls the class `label`; quoted, so that the digits of a name are no position on a curve.
pub fn class_name(classes: &[String], label: usize) -> String {
    match classes.get(label) {
        Some(name) => format!("`{name}`"),
        None => format!("`{label}`"),
    }
}

/// The mean, and the standard error of it as an estimate; no error of fewer than two values.
pub fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (square / (count - 1.0) / count).sqrt();
    (mean, (values.len() > 1).then_some(error))
}
