//! Where in the file something stands.

use std::ops::Range;

/// A part of the file, in bytes.
pub type Span = Range<usize>;

/// The text of a configuration file, with its name for messages.
#[derive(Debug, Default)]
pub struct Source {
    name: String,
    text: String,
    /// Parts that no message may show: passwords and the like.
    hidden: Vec<Span>,
}

/// A key of the file, and the part of the file that a message points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The dotted key, such as `capability.config.qos`.
    pub key: String,
    /// The value, or the key itself where it should not be there.
    pub span: Span,
}

/// A value, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was found.
    pub place: Place,
}

impl<T> Located<T> {
    /// The same place with another value.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: f(self.value), place: self.place }
    }
}

impl Source {
    pub(super) fn new(name: &str, text: String, hidden: Vec<Span>) -> Self {
        Self { name: name.to_owned(), text, hidden }
    }

    /// The name of the file, as messages show it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_hidden(&self, at: usize) -> Option<&Span> {
        self.hidden.iter().find(|span| span.contains(&at))
    }

    /// The line of a position, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.before(at).matches('\n').count() + 1
    }

    /// The column of a position, from 1, in characters.
    pub(super) fn column(&self, at: usize) -> usize {
        let before = self.before(at);
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        before[line..].chars().count() + 1
    }

    /// The part of the text that is the line of a position, without its end.
    pub(super) fn line_span(&self, at: usize) -> Span {
        let at = self.before(at).len();
        let start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end);
        let end = if self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text before a position; a position inside a character or past the
    /// end is moved back.
    fn before(&self, at: usize) -> &str {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        &self.text[..at]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new("x", "ä = 1\r\nb = 'é' # c\n".into(), vec![]);
        let at = source.text().find('#').unwrap();
        assert_eq!((source.line(at), source.column(at)), (2, 9));
        assert_eq!(&source.text()[source.line_span(at)], "b = 'é' # c");
        assert_eq!(&source.text()[source.line_span(0)], "ä = 1");
        assert_eq!((source.line(1), source.column(1)), (1, 1), "inside a character");
        assert_eq!((source.line(999), source.column(999)), (3, 1), "past the end");
        assert_eq!(source.line_span(999), source.text().len()..source.text().len());
    }
}
