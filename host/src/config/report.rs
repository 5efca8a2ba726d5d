//! Problems with their places, and how they are shown.

use super::Problem;
use super::source::{Place, Source, Span};
use std::fmt;
use std::sync::Arc;

/// The most characters of a line that are shown.
const EXCERPT_CHARS_MAX: usize = 120;
/// What stands for a secret.
const MASK: &str = "***";

/// One problem of a configuration, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where it is; `None` where the file does not have the place.
    pub place: Option<Place>,
    /// What it is.
    pub problem: Problem,
}

/// All problems of a configuration, in the order of the file.
#[derive(Debug)]
pub struct Errors {
    source: Arc<Source>,
    errors: Vec<Error>,
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Errors {
    /// Puts problems in order; the same one is not kept twice.
    pub(super) fn new(source: Arc<Source>, mut errors: Vec<Error>) -> Self {
        errors.sort_by_key(|error| error.place.as_ref().map_or(usize::MAX, |p| p.span.start));
        errors.dedup();
        Self { source, errors }
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter()
    }

    /// Adds the problems of another check of the same file.
    pub fn extend(&mut self, other: Errors) {
        let errors = std::mem::take(&mut self.errors).into_iter().chain(other.errors).collect();
        *self = Self::new(self.source.clone(), errors);
    }

    /// The text for people: one block for each problem, with the line of the
    /// file and a hint. Colours are those of a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let blocks: Vec<String> =
            self.errors.iter().map(|error| render(error, &self.source, &paint)).collect();
        blocks.join("\n")
    }
}

/// Puts colour around a part of the text, or does not.
struct Paint(bool);

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn blue(&self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn cyan(&self, text: &str) -> String {
        self.with("1;36", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn render(error: &Error, source: &Source, paint: &Paint) -> String {
    let message = printable(&error.problem.message());
    let mut gutter = 0;
    let mut text = match &error.place {
        None => format!("{}\n", paint.bold(&message)),
        Some(place) => {
            let (line, column) = (source.line(place.span.start), source.column(place.span.start));
            let key = if place.key.is_empty() { String::new() } else { format!("{}: ", place.key) };
            let head = format!("{}:{line}:{column}: ", source.name());
            let number = line.to_string();
            gutter = number.len();
            let excerpt = Excerpt::new(source, &place.span);
            format!(
                "{}{}{}\n{:gutter$} {}\n{} {} {}\n{:gutter$} {} {}{}\n",
                paint.bold(&head),
                printable(&key),
                paint.bold(&message),
                "",
                paint.blue("|"),
                paint.blue(&number),
                paint.blue("|"),
                excerpt.line,
                "",
                paint.blue("|"),
                excerpt.indent,
                paint.red(&"^".repeat(excerpt.carets)),
            )
        }
    };
    if let Some(help) = error.problem.help() {
        let mark =
            if gutter > 0 { format!("{:gutter$} {} ", "", paint.blue("=")) } else { "  ".into() };
        text.push_str(&format!("{mark}{} {}\n", paint.cyan("help:"), printable(&help)));
    }
    text
}

/// One line of the file, and what to put under it.
struct Excerpt {
    line: String,
    indent: String,
    carets: usize,
}

impl Excerpt {
    fn new(source: &Source, span: &Span) -> Self {
        let shown = shown(source, span.start);
        let marked = |at: usize| span.contains(&at);
        let end = shown.len();
        let first = shown.iter().position(|(at, _)| *at >= span.start).unwrap_or(end);
        let carets = shown[first..].iter().take_while(|(at, _)| marked(*at)).count().max(1);

        let start = if first > EXCERPT_CHARS_MAX / 2 && end > EXCERPT_CHARS_MAX {
            first - EXCERPT_CHARS_MAX / 2
        } else {
            0
        };
        let stop = end.min(start + EXCERPT_CHARS_MAX);
        let mut line: String = shown[start..stop].iter().map(|(_, c)| *c).collect();
        let mut indent: String =
            shown[start..first].iter().map(|(_, c)| if *c == '\t' { '\t' } else { ' ' }).collect();
        if start > 0 {
            line.insert(0, '…');
            indent.insert(0, ' ');
        }
        if stop < end {
            line.push('…');
        }
        Self { line, indent, carets: carets.min(stop.saturating_sub(first).max(1)) }
    }
}

/// The characters of a line that may be shown, each with its position. A secret
/// is one mask of a fixed length, so that not even its length is seen.
fn shown(source: &Source, at: usize) -> Vec<(usize, char)> {
    let line = source.line_span(at);
    let mut shown = Vec::new();
    let mut masked = None;
    for (offset, c) in source.text()[line.clone()].char_indices() {
        let at = line.start + offset;
        match source.is_hidden(at) {
            Some(hidden) if masked == Some(hidden) => {}
            Some(hidden) => {
                masked = Some(hidden);
                shown.extend(MASK.chars().map(|c| (hidden.start.max(line.start), c)));
            }
            None => shown.push((at, printable_char(c))),
        }
    }
    shown
}

/// A text without characters that a terminal would act on.
fn printable(text: &str) -> String {
    text.chars().map(printable_char).collect()
}

fn printable_char(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Span, hidden: Vec<Span>) -> (String, String) {
        let excerpt = Excerpt::new(&Source::new("x", text.into(), hidden), &span);
        (excerpt.line, excerpt.indent + &"^".repeat(excerpt.carets))
    }

    #[test]
    fn carets_stand_under_what_is_meant() {
        assert_eq!(excerpt("é = 12", 5..7, vec![]), ("é = 12".into(), "    ^^".into()));
        assert_eq!(excerpt("\ta = 1", 5..6, vec![]), ("\ta = 1".into(), "\t    ^".into()));
        assert_eq!(excerpt("a = [\n1]", 4..8, vec![]).1, "    ^", "the first line only");
        assert_eq!(excerpt("a =", 3..3, vec![]), ("a =".into(), "   ^".into()));
    }

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        let text = "a = 'secret', b = 3";
        let span: Span = 4..12;
        let hidden = || vec![span.clone()];
        let (line, marks) = excerpt(text, 18..19, hidden());
        assert_eq!((line.as_str(), marks.as_str()), ("a = ***, b = 3", "             ^"));
        let (line, marks) = excerpt(text, 4..12, hidden());
        assert_eq!((line.as_str(), marks.as_str()), ("a = ***, b = 3", "    ^^^"));
        assert_eq!(excerpt("a\u{1b}[31m", 0..1, vec![]).0, "a\u{fffd}[31m");
    }

    #[test]
    fn long_lines_are_cut_around_what_is_meant() {
        let text = format!("a = '{}' # {}", "x".repeat(500), "y".repeat(500));
        let at = text.find('#').unwrap();
        let (line, marks) = excerpt(&text, at..at + 1, vec![]);
        assert!(line.starts_with('…') && line.ends_with('…') && line.chars().count() == 122);
        assert_eq!(line.chars().nth(marks.len() - 1), Some('#'));
        let (_, marks) = excerpt(&text, 4..at, vec![]);
        assert!(marks.len() <= 120);
    }
}
