//! Reading one table, key by key.

use super::source::{Located, Place, Span};
use super::suggest::nearest;
use super::units::{self, VariableError};
use super::{Error, Problem};
use crate::broker::{Topic, TopicError, TopicFilter};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest name of a component, a group or a capability, in characters.
pub(super) const NAME_CHARS_MAX: usize = 64;
/// The longest value that a message repeats, in characters.
const FOUND_CHARS_MAX: usize = 60;

/// What the reading of one file shares.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) dir: &'a Path,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) errors: RefCell<Vec<Error>>,
    pub(super) hidden: RefCell<Vec<Span>>,
}

impl Reader<'_> {
    pub(super) fn line(&self, place: &Place) -> usize {
        self.text[..place.span.start.min(self.text.len())].matches('\n').count() + 1
    }
}

/// A table that is being read.
///
/// Each method reads the value of one key. It returns `None` when the key is not
/// there, or when its value is wrong, which is then reported. A key that nothing
/// asked for is reported at the end.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    table: &'a DeTable<'a>,
    place: Place,
    known: Vec<&'static str>,
}

/// A value before its type is known.
pub(super) struct Item<'a> {
    place: Place,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, table: &'a DeTable<'a>, place: Place) -> Self {
        Self { reader, table, place, known: Vec::new() }
    }

    /// The table itself.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The place of a key that is there.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<Place> {
        let (name, _) = self.table.get_key_value(key)?;
        Some(Place { key: self.dotted(key), span: name.span() })
    }

    /// The place of a key's value.
    #[must_use]
    pub fn place_of_value(&self, key: &str) -> Option<Place> {
        let value = self.table.get(key)?;
        Some(Place { key: self.dotted(key), span: value.span() })
    }

    /// Reports a problem.
    pub fn report(&self, place: &Place, problem: Problem) {
        let error = Error { place: Some(place.clone()), problem };
        self.reader.errors.borrow_mut().push(error);
    }

    /// Reports that a value breaks a rule of its own. The message repeats the
    /// value as it stands in the file, unless it is a secret.
    pub fn invalid(&self, place: &Place, reason: impl Into<String>) {
        let found = self.found(&place.span);
        self.report(place, Problem::BadValue { found, reason: reason.into() });
    }

    /// Reports that a required key is not there.
    pub fn missing(&self, key: &'static str, purpose: impl Into<String>) {
        self.report(&self.place, Problem::MissingKey { key, purpose: purpose.into() });
    }

    /// From now on, no message shows this value.
    pub fn hide(&self, place: &Place) {
        self.reader.hidden.borrow_mut().push(place.span.clone());
    }

    /// Whether the table has a key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A text. Variables of the environment are put in.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let item = self.take(key)?;
        self.text(&item, "a string")
    }

    /// A text that no message shows.
    pub fn secret(&mut self, key: &'static str) -> Option<Located<String>> {
        let item = self.take(key)?;
        self.hide(&item.place);
        self.text(&item, "a string")
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<Located<bool>> {
        let item = self.take(key)?;
        match item.value {
            DeValue::Boolean(value) => Some(Located { value: *value, place: item.place }),
            other => {
                let meant = other.as_str().filter(|text| matches!(*text, "true" | "false"));
                self.wrong_type(&item.place, other, "true or false", meant.map(str::to_owned));
                None
            }
        }
    }

    /// A whole number.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Located<u64>> {
        let item = self.take(key)?;
        let Some(number) = item.value.as_integer() else {
            let meant = item.value.as_str().filter(|text| text.parse::<u64>().is_ok());
            self.wrong_type(&item.place, item.value, "a whole number", meant.map(str::to_owned));
            return None;
        };
        // What does not fit 128 bits is out of range as well.
        let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(-1);
        let value = u64::try_from(number).ok().filter(|number| range.contains(number));
        self.in_range(item.place, value, range.start().to_string(), range.end().to_string())
    }

    /// One of a few numbers.
    pub fn number_of<T: Copy>(
        &mut self,
        key: &'static str,
        allowed: &[(u8, T)],
    ) -> Option<Located<T>> {
        let item = self.take(key)?;
        let texts: Vec<String> = allowed.iter().map(|(number, _)| number.to_string()).collect();
        let Some(number) = item.value.as_integer() else {
            let meant = item.value.as_str().filter(|text| texts.iter().any(|t| t == text));
            self.wrong_type(&item.place, item.value, "a number", meant.map(str::to_owned));
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        match allowed.iter().find(|(allowed, _)| number == Some(i64::from(*allowed))) {
            Some((_, value)) => Some(Located { value: *value, place: item.place }),
            None => {
                self.not_allowed(&item.place, texts, None);
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Clone>(
        &mut self,
        key: &'static str,
        allowed: &[(&str, T)],
    ) -> Option<Located<T>> {
        let item = self.take(key)?;
        let texts: Vec<String> = allowed.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let found = self.text(&item, "a string")?;
        match allowed.iter().find(|(word, _)| *word == found.value) {
            Some((_, value)) => Some(found.map(|_| value.clone())),
            None => {
                let words = allowed.iter().map(|(word, _)| *word);
                let nearest = nearest(&found.value, words).map(|word| format!("\"{word}\""));
                self.not_allowed(&found.place, texts, nearest);
                None
            }
        }
    }

    /// A length of time, such as `"30s"`.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Located<Duration>> {
        let item = self.take(key)?;
        if let Some(number) = item.value.as_integer() {
            let meant = Some(format!("\"{}s\"", number.as_str()));
            self.wrong_type(&item.place, item.value, units::DURATION_FORM, meant);
            return None;
        }
        let found = self.text(&item, units::DURATION_FORM)?;
        let Some(value) = units::duration(&found.value) else {
            let problem = Problem::BadDuration { found: self.found(&found.place.span) };
            self.report(&found.place, problem);
            return None;
        };
        let (min, max) = (units::write_duration(*range.start()), units::write_duration(*range.end()));
        self.in_range(found.place, Some(value).filter(|value| range.contains(value)), min, max)
    }

    /// A number of bytes, such as `"64MiB"`.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<Located<usize>> {
        let item = self.take(key)?;
        if let Some(number) = item.value.as_integer() {
            let meant = Some(format!("\"{}B\"", number.as_str()));
            self.wrong_type(&item.place, item.value, units::SIZE_FORM, meant);
            return None;
        }
        let found = self.text(&item, units::SIZE_FORM)?;
        let Some(bytes) = units::size(&found.value) else {
            let meant = units::size_meant(&found.value).map(|size| format!("\"{size}\""));
            let problem = Problem::BadSize { found: self.found(&found.place.span), meant };
            self.report(&found.place, problem);
            return None;
        };
        let value = usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes));
        let (min, max) = (*range.start() as u64, *range.end() as u64);
        self.in_range(found.place, value, units::write_size(min), units::write_size(max))
    }

    /// A list of texts. Wrong ones are reported, and left out.
    pub fn strings(&mut self, key: &'static str) -> Option<Located<Vec<Located<String>>>> {
        let item = self.take(key)?;
        let Some(array) = item.value.as_array() else {
            let meant = item.value.as_str().map(|_| format!("[{}]", self.found(&item.place.span)));
            self.wrong_type(&item.place, item.value, "a list of strings", meant);
            return None;
        };
        let items = array.iter().map(|value| Item {
            place: Place { key: item.place.key.clone(), span: value.span() },
            value: value.get_ref(),
        });
        let value = items.filter_map(|item| self.text(&item, "a string")).collect();
        Some(Located { value, place: item.place })
    }

    /// A filter.
    pub fn filter(&mut self, key: &'static str) -> Option<Located<TopicFilter>> {
        let found = self.string(key)?;
        self.checked_topic(found, TopicFilter::new)
    }

    /// A topic, without wildcards.
    pub fn topic(&mut self, key: &'static str) -> Option<Located<Topic>> {
        let found = self.string(key)?;
        self.checked_topic(found, Topic::new)
    }

    /// A text as a topic or a filter.
    pub(super) fn checked_topic<T>(
        &self,
        found: Located<String>,
        check: impl FnOnce(&str) -> Result<T, TopicError>,
    ) -> Option<Located<T>> {
        match check(&found.value) {
            Ok(value) => Some(Located { value, place: found.place }),
            Err(reason) => {
                let problem = Problem::BadTopic { found: self.found(&found.place.span), reason };
                self.report(&found.place, problem);
                None
            }
        }
    }

    /// A name that can be part of an identifier elsewhere: letters, digits,
    /// `.`, `_` and `-`.
    pub fn name(&mut self, key: &'static str) -> Option<Located<String>> {
        let found = self.string(key)?;
        if is_name(&found.value) {
            return Some(found);
        }
        let problem = Problem::BadName { found: self.found(&found.place.span) };
        self.report(&found.place, problem);
        None
    }

    /// A path, relative to the directory of the file.
    pub fn path(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        let found = self.string(key)?;
        if found.value.is_empty() {
            self.invalid(&found.place, "it is empty");
            return None;
        }
        Some(found.map(|text| self.reader.dir.join(text)))
    }

    /// The path of a file that is there.
    pub fn file(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        let found = self.path(key)?;
        self.existing(found, "it is not a file", std::fs::Metadata::is_file)
    }

    /// The path of a directory that is there.
    pub fn directory(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        let found = self.path(key)?;
        self.existing(found, "it is not a directory", std::fs::Metadata::is_dir)
    }

    fn existing(
        &self,
        found: Located<PathBuf>,
        otherwise: &str,
        is_right: impl FnOnce(&std::fs::Metadata) -> bool,
    ) -> Option<Located<PathBuf>> {
        let reason = match std::fs::metadata(&found.value) {
            Ok(metadata) if is_right(&metadata) => return Some(found),
            Ok(_) => otherwise.to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "there is none of this name".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let path = found.value.display().to_string();
        self.report(&found.place, Problem::BadFile { path, reason });
        None
    }

    /// A table of texts under keys of any name, whose values no message shows.
    pub(super) fn secret_map(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(section) = self.table(key) else { return Vec::new() };
        let entries = section.table.iter().filter_map(|(name, value)| {
            let key = section.dotted(name.get_ref());
            let item = Item { place: Place { key, span: value.span() }, value: value.get_ref() };
            section.hide(&item.place);
            let found = section.text(&item, "a string")?;
            Some((name.get_ref().clone().into_owned(), found.value))
        });
        entries.collect()
    }

    /// A table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'a>> {
        let item = self.take(key)?;
        match item.value {
            DeValue::Table(table) => Some(Section::new(self.reader, table, item.place)),
            other => {
                self.wrong_type(&item.place, other, "a table", None);
                None
            }
        }
    }

    /// A list of tables; `header` is how each is begun.
    pub(super) fn tables(&mut self, key: &'static str, header: &str) -> Vec<Section<'a>> {
        let Some(item) = self.take(key) else { return Vec::new() };
        let expected = format!("tables that begin with {header}");
        let Some(array) = item.value.as_array() else {
            let meant = item.value.is_table().then(|| header.to_owned());
            self.wrong_type(&item.place, item.value, &expected, meant);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in array {
            let place = Place { key: item.place.key.clone(), span: value.span() };
            match value.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(self.reader, table, place)),
                other => self.wrong_type(&place, other, &expected, None),
            }
        }
        sections
    }

    /// Whatever stands there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let value: &'a Spanned<DeValue<'a>> = self.table.get(key)?;
        let place = Place { key: self.dotted(key), span: value.span() };
        Some(Item { place, value: value.get_ref() })
    }

    /// Takes a key of any type, for a version that will understand it.
    pub(super) fn later(&mut self, key: &'static str) {
        if let Some(item) = self.take(key) {
            let found = self.found(&item.place.span);
            self.report(&item.place, Problem::Later { found, only: None });
        }
    }

    /// Takes `start`: `"new"`, or what a later version will understand, which is
    /// `"earliest"` and a time.
    pub(super) fn start(&mut self) {
        let Some(item) = self.take("start") else { return };
        let time = item.value.as_datetime().is_some_and(|time| time.date.is_some());
        let word = item.value.as_str().map(|text| {
            let is_time = text.parse::<toml::value::Datetime>().is_ok_and(|t| t.date.is_some());
            (text, is_time)
        });
        match word {
            Some(("new", _)) => {}
            Some((text, is_time)) if text != "earliest" && !is_time => {
                let words = ["new", "earliest"];
                let nearest = nearest(text, words).map(|word| format!("\"{word}\""));
                let mut allowed = words.map(|word| format!("\"{word}\"")).to_vec();
                allowed.push("a time".to_owned());
                self.not_allowed(&item.place, allowed, nearest);
            }
            None if !time => {
                self.wrong_type(&item.place, item.value, "\"new\", \"earliest\" or a time", None);
            }
            _ => {
                let found = self.found(&item.place.span);
                self.report(&item.place, Problem::Later { found, only: Some("\"new\"") });
            }
        }
    }

    /// The text of a key, without taking or checking it.
    pub(super) fn peek(&self, key: &str) -> Option<String> {
        self.table.get(key)?.get_ref().as_str().map(str::to_owned)
    }

    /// Whether a key has a list, without taking it.
    pub(super) fn peek_is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Takes keys without looking at them, for want of who would know them.
    pub(super) fn ignore(&mut self, keys: impl IntoIterator<Item = &'static str>) {
        for key in keys {
            if let Some(item) = self.take(key)
                && looks_secret(key)
            {
                self.hide(&item.place);
            }
        }
    }

    /// Reports the keys that nothing asked for. `owner` says which backend has
    /// a key, for the hint.
    pub(super) fn finish(self, owner: &dyn Fn(&str) -> Option<&'static str>) {
        for (name, value) in self.table {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let nearest = nearest(key, self.known.iter().copied());
            if looks_secret(key) || nearest.is_some_and(looks_secret) {
                self.reader.hidden.borrow_mut().push(value.span());
            }
            let problem = Problem::UnknownKey {
                key: key.to_owned(),
                nearest: nearest.map(str::to_owned),
                of_backend: owner(key),
                known: self.known.clone(),
            };
            let place = Place { key: self.dotted(key), span: name.span() };
            self.report(&place, problem);
        }
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        self.reader.line(place)
    }

    /// A value as it stands in the file, for a message.
    pub(super) fn found(&self, span: &Span) -> String {
        if self.reader.hidden.borrow().iter().any(|hidden| hidden.start <= span.start && span.end <= hidden.end) {
            return "a value that is not shown".to_owned();
        }
        let text = self.reader.text.get(span.clone()).unwrap_or_default();
        let long = text.chars().count() > FOUND_CHARS_MAX || text.contains('\n');
        if !long {
            return text.to_owned();
        }
        let start: String =
            text.chars().take_while(|c| *c != '\n').take(FOUND_CHARS_MAX).collect();
        format!("{start}…")
    }

    fn dotted(&self, key: &str) -> String {
        if self.place.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.key) }
    }

    fn text(&self, item: &Item<'_>, expected: &str) -> Option<Located<String>> {
        let Some(raw) = item.value.as_str() else {
            let scalar = !item.value.is_array() && !item.value.is_table();
            let quoted = (scalar && expected == "a string")
                .then(|| format!("\"{}\"", self.found(&item.place.span)))
                .filter(|_| !self.is_hidden(&item.place));
            self.wrong_type(&item.place, item.value, expected, quoted);
            return None;
        };
        match units::expand(raw, self.reader.env) {
            Ok(value) => Some(Located { value, place: item.place.clone() }),
            Err(VariableError::Unset(name)) => {
                self.report(&item.place, Problem::UnsetVariable { name });
                None
            }
            Err(VariableError::Malformed) => {
                let found = self.found(&item.place.span);
                self.report(&item.place, Problem::BadVariable { found });
                None
            }
        }
    }

    fn is_hidden(&self, place: &Place) -> bool {
        self.reader.hidden.borrow().contains(&place.span)
    }

    fn wrong_type(&self, place: &Place, value: &DeValue<'_>, expected: &str, meant: Option<String>) {
        let found = match value {
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            _ => self.found(&place.span),
        };
        self.report(place, Problem::WrongType { found, expected: expected.to_owned(), meant });
    }

    fn not_allowed(&self, place: &Place, allowed: Vec<String>, nearest: Option<String>) {
        let found = self.found(&place.span);
        self.report(place, Problem::NotAllowed { found, allowed, nearest });
    }

    fn in_range<T>(&self, place: Place, value: Option<T>, min: String, max: String) -> Option<Located<T>> {
        let Some(value) = value else {
            let found = self.found(&place.span);
            self.report(&place, Problem::OutOfRange { found, min, max });
            return None;
        };
        Some(Located { value, place })
    }
}

/// Whether a text is a name: see [`Section::name`].
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().count() <= NAME_CHARS_MAX && text.chars().all(allowed)
}

/// Whether the value of a key is likely to be a secret, however it is mistyped.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["pass", "secret", "token", "credential"].iter().any(|word| key.contains(word))
        || nearest(&key, ["password", "secret", "credentials"]).is_some()
}
