//! The types of values that a key can have.

use super::Problem;
use super::message::list;
use super::section::{Item, Section, is_name};
use super::source::{Located, Place};
use super::suggest::nearest;
use super::units;
use crate::broker::{Topic, TopicError, TopicFilter};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

impl Section<'_> {
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
            let meant = meant.map(str::to_owned);
            self.wrong_type(&item.place, item.value, &list(&texts, "or"), meant);
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
        if !item.value.is_str() {
            let quoted = format!("\"{}\"", self.found(&item.place.span));
            let meant = texts.contains(&quoted).then_some(quoted);
            self.wrong_type(&item.place, item.value, &list(&texts, "or"), meant);
            return None;
        }
        let found = self.text(&item, "a string")?;
        match allowed.iter().find(|(word, _)| *word == found.value) {
            Some((_, value)) => Some(found.map(|_| value.clone())),
            None => {
                // Of numbers and versions, the nearest is no guess at what was meant.
                let words = allowed.iter().map(|(word, _)| *word);
                let words = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
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
        let (min, max) =
            (units::write_duration(*range.start()), units::write_duration(*range.end()));
        self.in_range(found.place, Some(value).filter(|value| range.contains(value)), min, max)
    }

    /// A number of bytes, such as `"64MiB"`.
    pub fn size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Located<usize>> {
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
        let value = Some(bytes).filter(|bytes| range.contains(bytes));
        let value = value.and_then(|bytes| usize::try_from(bytes).ok());
        let (min, max) = (units::write_size(*range.start()), units::write_size(*range.end()));
        self.in_range(found.place, value, min, max)
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
        Some(found.map(|text| self.dir().join(text)))
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
        let entries = section.entries().filter_map(|(name, value)| {
            let key = section.dotted(name.get_ref());
            let item = Item { place: Place { key, span: value.span() }, value: value.get_ref() };
            section.hide(&item.place);
            let found = section.text(&item, "a string")?;
            Some((name.get_ref().clone().into_owned(), found.value))
        });
        entries.collect()
    }
}
