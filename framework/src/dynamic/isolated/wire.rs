//! What goes through the pipes between a run and the process of an isolated metric.
//!
//! Numbers are eight bytes, little-endian; texts and lists follow their length. Both ends are the same program, so there is
//! no version; but foreign code can write to the pipe of answers, so an answer begins with a mark, is bounded, and nothing
//! in it is believed. Memory grows with what has arrived, not with what is announced.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::{
    dynamic::{Description, Limits, Table, Task, task::ROWS},
    metric::{Evaluation, FeatureSet},
    tensor::values,
};

/// The beginning of an answer.
const MARK: u64 = u64::from_le_bytes(*b"smallfry");

/// The longest answer, in bytes.
const LONGEST: u64 = 1 << 20;

/// A question as the process reads it.
pub(super) struct Request {
    /// The library.
    pub path: PathBuf,
    /// Memory beyond that of the question.
    pub memory_mb: u64,
    /// What is asked.
    pub question: Question,
}

/// What can be asked of a library.
pub(super) enum Question {
    /// Which metrics it has.
    Metrics,
    /// What one of them gives.
    Value {
        /// Its position.
        index: usize,
        /// Its parameters.
        params: BTreeMap<String, f64>,
        /// What it judges.
        task: Box<Task>,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// The metrics of the library.
    Metrics(Vec<Description>),
    /// The value of a metric.
    Value(f64),
    /// Why there is none.
    Refusal(String),
}

/// Writes what every question begins with.
pub(super) fn write_head(to: &mut impl Write, path: &Path, limits: &Limits) -> io::Result<()> {
    bytes(to, path.as_os_str().as_bytes())?;
    number(to, limits.memory_mb)
}

/// Asks for the metrics of the library.
pub(super) fn write_inspection(mut to: &mut dyn Write) -> io::Result<()> {
    number(&mut to, 0)
}

/// Asks for the value of metric `index`.
pub(super) fn write_call(
    mut to: &mut dyn Write,
    index: usize,
    params: &BTreeMap<String, f64>,
    evaluation: &Evaluation<'_>,
) -> io::Result<()> {
    let to = &mut to;
    number(to, 1)?;
    number(to, index as u64)?;
    number(to, params.len() as u64)?;
    for (name, value) in params {
        bytes(to, name.as_bytes())?;
        number(to, value.to_bits())?;
    }
    number(to, u64::from(evaluation.train.is_some()))?;
    if let Some(train) = evaluation.train {
        write_table(to, train)?;
    }
    write_table(to, evaluation.test)?;
    number(to, evaluation.views.len() as u64)?;
    for view in evaluation.views {
        write_table(to, *view)?;
    }
    number(to, evaluation.classes.len() as u64)?;
    for class in evaluation.classes {
        bytes(to, class.as_bytes())?;
    }
    number(to, evaluation.seed)
}

/// Writes a set piece by piece, so that it need not be in memory twice.
fn write_table(to: &mut impl Write, set: &dyn FeatureSet) -> io::Result<()> {
    number(to, set.rows() as u64)?;
    number(to, set.width() as u64)?;
    for start in (0..set.rows()).step_by(ROWS) {
        let features = set.read(start..(start + ROWS).min(set.rows()));
        for value in values(&features).iter() {
            to.write_all(&value.to_le_bytes())?;
        }
    }
    number(to, u64::from(set.labels().is_some()))?;
    for label in set.labels().into_iter().flatten() {
        number(to, u64::from(*label))?;
    }
    Ok(())
}

/// Reads a question.
pub(super) fn read_request(from: &mut impl Read) -> io::Result<Request> {
    let path = OsString::from_vec(read_bytes(from)?).into();
    let memory_mb = read_number(from)?;
    let question = match read_number(from)? {
        0 => Question::Metrics,
        _ => Question::Value {
            index: read_number(from)? as usize,
            params: (0..read_number(from)?)
                .map(|_| Ok((read_text(from)?, f64::from_bits(read_number(from)?))))
                .collect::<io::Result<_>>()?,
            task: Box::new(read_task(from)?),
        },
    };
    Ok(Request {
        path,
        memory_mb,
        question,
    })
}

fn read_task(from: &mut impl Read) -> io::Result<Task> {
    Ok(Task {
        train: match read_number(from)? {
            0 => None,
            _ => Some(read_table(from)?),
        },
        test: read_table(from)?,
        views: (0..read_number(from)?)
            .map(|_| read_table(from))
            .collect::<io::Result<_>>()?,
        classes: (0..read_number(from)?)
            .map(|_| read_text(from))
            .collect::<io::Result<_>>()?,
        seed: read_number(from)?,
    })
}

fn read_table(from: &mut impl Read) -> io::Result<Table> {
    let (rows, columns) = (read_number(from)?, read_number(from)?);
    let count = rows.checked_mul(columns).ok_or_else(damaged)?;
    let values = read_list(from, count, f32::from_le_bytes)?;
    let labels = match read_number(from)? {
        0 => None,
        _ => Some(read_list(from, rows, i64::from_le_bytes)?),
    };
    Ok(Table {
        rows: rows as usize,
        columns: columns as usize,
        values,
        labels,
    })
}

/// Writes an answer, at most once.
pub(super) fn write_answer(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut text = Vec::new();
    match answer {
        Answer::Metrics(metrics) => {
            number(&mut text, 0)?;
            number(&mut text, metrics.len() as u64)?;
            for metric in metrics {
                for part in [&metric.name, &metric.about, &metric.unit] {
                    bytes(&mut text, part.as_bytes())?;
                }
                number(&mut text, u64::from(metric.higher_is_better))?;
            }
        }
        Answer::Value(value) => {
            number(&mut text, 1)?;
            number(&mut text, value.to_bits())?;
        }
        Answer::Refusal(reason) => {
            number(&mut text, 2)?;
            bytes(&mut text, reason.as_bytes())?;
        }
    }
    number(to, MARK)?;
    bytes(to, &text)
}

/// Reads an answer.
pub(super) fn read_answer(from: &mut impl Read) -> io::Result<Answer> {
    if read_number(from)? != MARK {
        return Err(damaged());
    }
    let text = read_bytes(&mut from.take(LONGEST))?;
    let from = &mut text.as_slice();
    match read_number(from)? {
        0 => {
            let metrics = (0..read_number(from)?).map(|_| {
                Ok(Description {
                    name: read_text(from)?,
                    about: read_text(from)?,
                    unit: read_text(from)?,
                    higher_is_better: read_number(from)? != 0,
                })
            });
            Ok(Answer::Metrics(metrics.collect::<io::Result<_>>()?))
        }
        1 => Ok(Answer::Value(f64::from_bits(read_number(from)?))),
        2 => Ok(Answer::Refusal(read_text(from)?)),
        _ => Err(damaged()),
    }
}

fn number(to: &mut impl Write, number: u64) -> io::Result<()> {
    to.write_all(&number.to_le_bytes())
}

fn bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    number(to, bytes.len() as u64)?;
    to.write_all(bytes)
}

fn read_number(from: &mut impl Read) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

fn read_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = read_number(from)?;
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_text(from: &mut impl Read) -> io::Result<String> {
    String::from_utf8(read_bytes(from)?).map_err(|_| damaged())
}

/// Reads `count` numbers of `N` bytes each.
fn read_list<const N: usize, T>(
    from: &mut impl Read,
    count: u64,
    number: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    /// Numbers that are read at once.
    const PIECE: u64 = 1 << 14;
    let mut list = Vec::new();
    let mut left = count;
    let mut piece = Vec::new();
    while left > 0 {
        let now = left.min(PIECE);
        piece.resize(now as usize * N, 0);
        from.read_exact(&mut piece)?;
        let (numbers, _) = piece.as_chunks::<N>();
        list.extend(numbers.iter().map(|bytes| number(*bytes)));
        left -= now;
    }
    Ok(list)
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Set;

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let set = |rows: usize, labels: Option<Vec<u32>>| Set {
            values: (0..3 * rows).map(|i| i as f32 - 0.5).collect(),
            width: 3,
            labels,
        };
        let test = set(2500, Some((0..2500).collect()));
        let (train, view) = (set(0, None), set(2500, None));
        let evaluation = Evaluation {
            train: Some(&train),
            views: &[&view],
            classes: &["cat".to_owned(), "ä".to_owned()],
            seed: u64::MAX,
            ..Evaluation::of(&test)
        };
        let params = BTreeMap::from([("scale".to_owned(), -0.0), ("k".to_owned(), f64::INFINITY)]);
        let limits = Limits {
            seconds: 1,
            memory_mb: 77,
        };
        let mut pipe = Vec::new();
        write_head(&mut pipe, Path::new("/a/b.so"), &limits).expect("memory takes everything");
        write_call(&mut pipe, 5, &params, &evaluation).expect("memory takes everything");
        let request = read_request(&mut pipe.as_slice()).expect("it is whole");
        assert_eq!(request.path, Path::new("/a/b.so"));
        assert_eq!(request.memory_mb, 77);
        let Question::Value {
            index,
            params: arrived,
            task,
        } = request.question
        else {
            panic!("a value was asked for");
        };
        assert_eq!((index, arrived), (5, params));
        assert_eq!(*task, Task::read(&evaluation));
        for length in 0..pipe.len().min(200) {
            assert!(read_request(&mut &pipe[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn answers_arrive_and_nothing_else_does() {
        let description = |name: &str| Description {
            name: name.to_owned(),
            about: "é".to_owned(),
            unit: String::new(),
            higher_is_better: name == "a",
        };
        for answer in [
            Answer::Metrics(vec![description("a"), description("b")]),
            Answer::Value(-1.5),
            Answer::Refusal("no".to_owned()),
        ] {
            let mut pipe = Vec::new();
            write_answer(&mut pipe, &answer).expect("memory takes everything");
            assert_eq!(
                read_answer(&mut pipe.as_slice()).expect("it is whole"),
                answer
            );
            for length in 0..pipe.len() {
                assert!(read_answer(&mut &pipe[..length]).is_err(), "{length}");
            }
        }
        let lie = |numbers: &[u64]| {
            let pipe: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            read_answer(&mut pipe.as_slice())
        };
        assert!(lie(&[1, 16, 1, 0]).is_err(), "no mark");
        assert!(lie(&[MARK, u64::MAX, 1, 0]).is_err(), "absurd length");
        assert!(lie(&[MARK, 16, 3, 0]).is_err(), "no such answer");
        assert!(lie(&[MARK, 16, 0, u64::MAX]).is_err(), "absurd count");
        assert!(lie(&[MARK, 16, 2, u64::MAX]).is_err(), "absurd text");
    }
}
