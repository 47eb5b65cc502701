//! The lines that the reference's programs print of an evaluation (`instdisc`, `stats-dist`, `knn`).

use crate::metric::{Judged, Original};

/// Width of a column of `stats-dist`.
const COLUMN: usize = 15;

/// The lines of what metrics print, in their order; columns that follow one another make one table below a line that names
/// what was judged.
pub(super) fn lines(printed: &[Original], judged: &Judged<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut columns: Vec<&(String, f64)> = Vec::new();
    for original in printed {
        match original {
            Original::Columns(more) => columns.extend(more),
            Original::Line(line) => {
                lines.extend(table(&std::mem::take(&mut columns), judged));
                lines.push(line.clone());
            }
        }
    }
    lines.extend(table(&columns, judged));
    lines
}

fn table(columns: &[&(String, f64)], judged: &Judged<'_>) -> Vec<String> {
    if columns.is_empty() {
        return Vec::new();
    }
    let row = |cell: &dyn Fn(&(String, f64)) -> String| -> String {
        let cells = columns
            .iter()
            .map(|column| format!("{:<COLUMN$}", cell(column)));
        cells.collect::<String>().trim_end().to_owned()
    };
    vec![
        format!("{},{}", judged.checkpoint, judged.data),
        row(&|column| column.0.clone()),
        row(&|column| match column.1.is_nan() {
            true => "nan".to_owned(),
            false => format!("{:.4}", column.1),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_columns_are_one_table() {
        let column = |name: &str, value| (name.to_owned(), value);
        let printed = [
            Original::Line("first".to_owned()),
            Original::Columns(vec![
                column("D-SD align", 0.33164),
                column("SD-SD align", 0.5),
            ]),
            Original::Columns(vec![column("D uniform", f64::NAN)]),
            Original::Line("last".to_owned()),
        ];
        let judged = Judged {
            checkpoint: "a.pth",
            data: "views",
        };
        assert_eq!(
            lines(&printed, &judged),
            [
                "first",
                "a.pth,views",
                "D-SD align     SD-SD align    D uniform",
                "0.3316         0.5000         nan",
                "last",
            ]
        );
        assert!(lines(&[], &judged).is_empty());
    }
}
