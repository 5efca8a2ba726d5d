//! Reading one table, key by key.

use super::source::{Located, Place, Span};
use super::suggest::nearest;
use super::units::{self, VariableError};
use super::{Error, Problem};
use std::cell::RefCell;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

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
    pub(super) place: Place,
    pub(super) value: &'a DeValue<'a>,
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

    /// The directory that paths are relative to.
    pub(super) fn dir(&self) -> &Path {
        self.reader.dir
    }

    /// Every key and its value, for a table in which all names are right.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.table.iter()
    }

    /// Whatever stands there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let value: &'a Spanned<DeValue<'a>> = self.table.get(key)?;
        let place = Place { key: self.dotted(key), span: value.span() };
        Some(Item { place, value: value.get_ref() })
    }

    /// The text of a key, without taking or checking it.
    pub(super) fn peek(&self, key: &str) -> Option<String> {
        self.table.get(key)?.get_ref().as_str().map(str::to_owned)
    }

    /// Whether a key has a list, without taking it.
    pub(super) fn peek_is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Whether a key has a table, without taking it.
    pub(super) fn peek_is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Hides the values of keys that look like a secret's, for want of who would
    /// know.
    pub(super) fn hide_likely_secrets(&self) {
        let secrets = self.table.iter().filter(|(name, _)| looks_secret(name.get_ref()));
        self.reader.hidden.borrow_mut().extend(secrets.map(|(_, value)| value.span()));
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

    /// A part of the file as it stands there.
    pub(super) fn raw(&self, span: &Span) -> &str {
        self.reader.text.get(span.clone()).unwrap_or_default()
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        self.reader.line(place)
    }

    /// A value as it stands in the file, for a message.
    pub(super) fn found(&self, span: &Span) -> String {
        if self
            .reader
            .hidden
            .borrow()
            .iter()
            .any(|hidden| hidden.start <= span.start && span.end <= hidden.end)
        {
            return "a value that is not shown".to_owned();
        }
        let text = self.reader.text.get(span.clone()).unwrap_or_default();
        let long = text.chars().count() > FOUND_CHARS_MAX || text.contains('\n');
        if !long {
            return text.to_owned();
        }
        let start: String = text.chars().take_while(|c| *c != '\n').take(FOUND_CHARS_MAX).collect();
        format!("{start}…")
    }

    pub(super) fn dotted(&self, key: &str) -> String {
        if self.place.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.key) }
    }

    pub(super) fn text(&self, item: &Item<'_>, expected: &str) -> Option<Located<String>> {
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

    pub(super) fn wrong_type(
        &self,
        place: &Place,
        value: &DeValue<'_>,
        expected: &str,
        meant: Option<String>,
    ) {
        let found = match value {
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            _ => self.found(&place.span),
        };
        self.report(place, Problem::WrongType { found, expected: expected.to_owned(), meant });
    }

    pub(super) fn not_allowed(&self, place: &Place, allowed: Vec<String>, nearest: Option<String>) {
        let found = self.found(&place.span);
        self.report(place, Problem::NotAllowed { found, allowed, nearest });
    }

    pub(super) fn in_range<T>(
        &self,
        place: Place,
        value: Option<T>,
        min: String,
        max: String,
    ) -> Option<Located<T>> {
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
