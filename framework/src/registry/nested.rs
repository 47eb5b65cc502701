//! A plugin as a parameter of another: `teacher: resnet50(width: 2)`, `then: [RandomCrop, Grayscale(p: 0.2)]`.
//!
//! serde reads a parameter without telling it where it stands, but a nested plugin's mistakes need their places in the
//! file, and its paths the file's folder. So whoever reads parameters says for the time of reading, to this thread only,
//! which part of which file the text is; a [`Nested`] finds its place by the address of its text within that. Read by
//! anything else it keeps its text and is built when it is asked for, as the default of a parameter is.

use std::{
    any::Any, cell::RefCell, collections::BTreeMap, fmt, ops::Range, path::PathBuf, sync::Arc,
};

use ron::value::RawValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error};

use super::{Built, Context, Invalid, Kind, build_at, parse};
use crate::{diagnostic::Diagnostic, source::Source};

/// Plugins within plugins within plugins; a file that goes deeper is a mistake.
const DEEPEST: usize = 16;

/// A plugin of kind `K` as a parameter of another.
///
/// It can stand wherever a parameter's type can: by itself, in an `Option`, in a `Vec`, in an enum. The resolved text of
/// the outer plugin holds it with all its defaults, on one line.
pub struct Nested<K: Kind + ?Sized> {
    text: String,
    built: Option<Arc<Built<K>>>,
}

impl<K: Kind + ?Sized> Nested<K> {
    /// The plugin that `text` describes, for the default of a parameter: `Nested::of("resnet50")`.
    pub fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            built: None,
        }
    }

    /// The plugin, for the function `build` of the outer one; `field` is the outer one's parameter.
    ///
    /// # Errors
    /// A default names a plugin that is not linked, or that refuses its own defaults. One that stands in a file was
    /// built, or refused at its place, when the file was read.
    pub fn build(&self, field: &'static str, context: &Context) -> Result<Arc<Built<K>>, Invalid> {
        if let Some(built) = &self.built {
            return Ok(Arc::clone(built));
        }
        parse(context, &self.text).map(Arc::new).map_err(|errors| {
            let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
            let invalid = Invalid::new(field, messages.join("; "));
            match errors.into_iter().find_map(|error| error.help) {
                Some(help) => invalid.help(help),
                None => invalid,
            }
        })
    }

    /// RON that gives the same plugin again, on one line; with every default where the plugin can be built.
    fn line(&self) -> String {
        let context = Context {
            folder: ".".as_ref(),
        };
        match &self.built {
            Some(built) => built.line.clone(),
            None => match parse::<K>(&context, &self.text) {
                Ok(built) => built.line,
                Err(_) => self.text.clone(),
            },
        }
    }
}

impl<K: Kind + ?Sized> Clone for Nested<K> {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            built: self.built.clone(),
        }
    }
}

impl<K: Kind + ?Sized> fmt::Debug for Nested<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K: Kind + ?Sized> Serialize for Nested<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = self.line();
        let raw = RawValue::from_ron(&line).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de, K: Kind + ?Sized> Deserialize<'de> for Nested<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get_ron();
        Ok(Self {
            text: text.to_owned(),
            built: built_in_place(text),
        })
    }
}

/// What reading the parameters of one plugin comes to, beside the parameters.
#[derive(Default)]
pub(super) struct Reading {
    /// Mistakes in nested plugins.
    pub errors: Vec<Diagnostic>,
    /// Nested plugins by their places: parameters are read one by one and then together, and what is nested is built
    /// once.
    built: BTreeMap<usize, Box<dyn Any>>,
}

impl Reading {
    /// Calls `read`, in which nested plugins of `text` are built in `context`; the byte at `text[skipped]` is that at
    /// `start` of `source`.
    pub fn within<T>(
        &mut self,
        (context, source): (&Context, &Arc<Source>),
        text: &str,
        (skipped, start): (usize, usize),
        read: impl FnOnce() -> T,
    ) -> T {
        let origin = text.as_ptr().addr() + skipped;
        let scope = Scope {
            folder: context.folder.to_owned(),
            source: Arc::clone(source),
            addresses: origin..text.as_ptr().addr() + text.len(),
            start,
            reading: std::mem::take(self),
        };
        SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
        let entered = Entered;
        let result = read();
        *self = entered.leave();
        result
    }
}

/// A part of a file that is being read.
struct Scope {
    folder: PathBuf,
    source: Arc<Source>,
    /// Where the text of the part lies in memory.
    addresses: Range<usize>,
    /// Where the part begins in the source.
    start: usize,
    reading: Reading,
}

thread_local! {
    /// What this thread is reading, a plugin's own parameters after those of the plugin that it is nested in.
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// The innermost scope, left also when reading panics.
struct Entered;

impl Entered {
    fn leave(self) -> Reading {
        let scope = SCOPES.with_borrow_mut(Vec::pop);
        std::mem::forget(self);
        scope.map(|scope| scope.reading).unwrap_or_default()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SCOPES.with_borrow_mut(Vec::pop);
    }
}

/// Builds the plugin that `text` describes, if it lies in a part of a file that is being read; mistakes are noted there.
fn built_in_place<K: Kind + ?Sized>(text: &str) -> Option<Arc<Built<K>>> {
    let (folder, source, place, depth) = SCOPES.with_borrow(|scopes| {
        let scope = scopes.last()?;
        let address = text.as_ptr().addr();
        if !scope.addresses.contains(&address) {
            return None;
        }
        let start = scope.start + (address - scope.addresses.start);
        let folder = scope.folder.clone();
        Some((
            folder,
            scope.source.clone(),
            start..start + text.len(),
            scopes.len(),
        ))
    })?;
    let known = SCOPES.with_borrow(|scopes| {
        let known = scopes.last()?.reading.built.get(&place.start)?;
        known.downcast_ref::<Arc<Built<K>>>().cloned()
    });
    if known.is_some() {
        return known;
    }
    let result = match depth {
        ..=DEEPEST => build_at::<K>(&Context { folder: &folder }, &source, &place).map(Arc::new),
        _ => Err(vec![source.error(&place, "plugins are nested too deeply")]),
    };
    SCOPES.with_borrow_mut(|scopes| {
        let reading = &mut scopes.last_mut()?.reading;
        match result {
            Ok(built) => {
                reading.built.insert(place.start, Box::new(built.clone()));
                Some(built)
            }
            Err(errors) => {
                reading.errors.extend(errors);
                None
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schedule, plugin, registry::Entry};

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub enum Times {
        Once(Nested<dyn Schedule>),
        Often(usize, Nested<dyn Schedule>),
    }

    plugin! {
        /// The product of other schedules
        pub struct Product: Schedule {
            /// One.
            first: Nested<dyn Schedule> = Nested::of("Level"),
            /// Some.
            others: Vec<Nested<dyn Schedule>> = vec![],
            /// Perhaps one.
            perhaps: Option<Nested<dyn Schedule>> = None,
            /// Within an enum.
            times: Option<Times> = None,
        }

        fn build(self, context: &Context) -> Result<Box<dyn Schedule>, Invalid> {
            let mut factors = vec![self.first.build("first", context)?];
            for other in &self.others {
                factors.push(other.build("others", context)?);
            }
            if let Some(perhaps) = &self.perhaps {
                factors.push(perhaps.build("perhaps", context)?);
            }
            match &self.times {
                Some(Times::Once(one)) => factors.push(one.build("times", context)?),
                Some(Times::Often(count, one)) => {
                    let one = one.build("times", context)?;
                    factors.extend(std::iter::repeat_n(one, *count));
                }
                None => {}
            }
            Ok(Box::new(Built(factors)))
        }
    }

    struct Built(Vec<Arc<super::Built<dyn Schedule>>>);

    impl Schedule for Built {
        fn factor(&self, epoch: usize, epochs: usize) -> f64 {
            let factors = self.0.iter().map(|factor| factor.factor(epoch, epochs));
            factors.product()
        }
    }

    plugin! {
        /// The same number always
        pub struct Level: Schedule {
            /// The number, not negative.
            at: f64 = 2.0,
        }

        fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
            match self.at < 0.0 {
                true => Err(Invalid::new("at", "must not be negative")),
                false => Ok(Box::new(self)),
            }
        }
    }

    impl Schedule for Level {
        fn factor(&self, _: usize, _: usize) -> f64 {
            self.at
        }
    }

    fn read(text: &str) -> Result<super::Built<dyn Schedule>, Vec<Diagnostic>> {
        let context = Context {
            folder: ".".as_ref(),
        };
        parse(&context, text)
    }

    #[test]
    fn plugins_stand_wherever_a_value_can() {
        for (text, factor) in [
            ("Product", 2.0),
            ("Product(first: Level(at: 5))", 5.0),
            ("Product(others: [Level, Level(at: 3)])", 12.0),
            ("Product(perhaps: Level(at: 0.5))", 1.0),
            ("Product(perhaps: Some( Level ))", 4.0),
            ("Product(times: Once(Level(at: 7)))", 14.0),
            ("Product(times: Often(3, Level(at: 3)))", 54.0),
            (
                "Product(first: Product(first: Product(others: [Level])))",
                4.0,
            ),
        ] {
            let built = read(text).unwrap_or_else(|errors| panic!("{text}: {}", errors[0]));
            assert_eq!(built.factor(0, 1), factor, "{text}");
            let again = read(&built.resolved).expect("resolved text is read again");
            assert_eq!(again.resolved, built.resolved);
            assert_eq!(again.factor(0, 1), factor, "{text}");
        }
    }

    #[test]
    fn resolved_text_has_every_default() {
        let built = read("Product(others: [Level, Level(at: 3)])").expect("it is right");
        assert_eq!(
            built.resolved,
            "Product(\n    first: Level(at: 2.0),\n    others: [\n        Level(at: 2.0),\n        Level(at: 3.0),\n    \
             ],\n    perhaps: None,\n    times: None,\n)"
        );
        let defaults = (Entry::<dyn Schedule>::of::<Product>("here", "1.2.3").defaults)();
        assert!(
            defaults.contains("    /// One.\n    first: Level(at: 2.0),\n"),
            "{defaults}"
        );
    }

    /// All mistakes of `text`: the words that are underlined, and what is said.
    fn mistakes(text: &str) -> Vec<(String, String)> {
        let errors = read(text).expect_err("it is wrong");
        let shown = errors.into_iter().map(|error| {
            let place = error.place().expect("it stands in the text");
            let line = text
                .lines()
                .nth(place.line - 1)
                .expect("there is such a line");
            let words = line.chars().skip(place.column - 1).take(place.length);
            let help = error
                .help
                .map_or(String::new(), |help| format!(" / {help}"));
            (words.collect(), error.message + &help)
        });
        shown.collect()
    }

    #[test]
    fn each_mistake_has_its_place() {
        let text = "Product(\n  first: Levle,\n  others: [ Level(at: -1), Level(ta: 1),\n    Level(at: \"ä\"), Level ],\n  \
                    perhaps: many_sorts(numbr: 1),\n  odd: 3,\n)";
        let pair = |words: &str, message: &str| (words.to_owned(), message.to_owned());
        assert_eq!(
            mistakes(text),
            [
                pair(
                    "Levle",
                    "no schedule is named `Levle` / did you mean `Level`?"
                ),
                pair("-1", "`at` of Level: must not be negative"),
                pair("ta", "Level has no parameter `ta` / did you mean `at`?"),
                pair(
                    "\"ä\"",
                    "`at` of Level: expected a number / the default is `2.0`"
                ),
                pair(
                    "numbr",
                    "many_sorts has no parameter `numbr` / did you mean `number`?"
                ),
                pair(
                    "odd",
                    "Product has no parameter `odd` / known: first, others, perhaps, times"
                ),
            ]
        );
        let (words, message) = &mistakes("Product(others: Level)")[0];
        assert_eq!(
            (words.as_str(), message.contains("expected a list")),
            ("Level", true)
        );
        let (words, message) = &mistakes("Product(first: 3)")[0];
        assert_eq!(words, "3");
        assert!(message.contains("expected a schedule"), "{message}");
    }

    #[test]
    fn nesting_ends_somewhere() {
        let nested = |depth| "Product(first: ".repeat(depth) + "Level" + &")".repeat(depth);
        assert!(read(&nested(DEEPEST)).is_ok());
        let (words, message) = &mistakes(&nested(DEEPEST + 1))[0];
        assert_eq!(
            (words.as_str(), message.as_str()),
            ("Level", "plugins are nested too deeply")
        );
    }

    #[test]
    fn text_from_elsewhere_is_built_when_it_is_asked_for() {
        let nested: Nested<dyn Schedule> = crate::source::dialect()
            .from_str("Level(at: 4)")
            .expect("it is well-formed");
        let context = Context {
            folder: ".".as_ref(),
        };
        let built = nested.build("first", &context).expect("it is right");
        assert_eq!(built.factor(0, 1), 4.0);
        let refusal = Nested::<dyn Schedule>::of("Level(at: -1)").build("first", &context);
        let invalid = refusal.expect_err("it is negative");
        assert_eq!(invalid.field(), "first");
        assert!(invalid.reason().contains("must not be negative"));
    }
}
