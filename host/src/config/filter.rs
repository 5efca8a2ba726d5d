//! Reading `filter`, with errors that point into the expression.

use super::Problem;
use super::section::Section;
use super::source::{Place, Span};
use crate::broker::EventFilter;

/// The filter of a binding.
pub(super) fn read(section: &mut Section<'_>) -> Option<EventFilter> {
    let text = section.string("filter")?;
    match EventFilter::new(&text.value) {
        Ok(filter) => Some(filter),
        Err(error) => {
            let raw = section.raw(&text.place.span);
            let within = place_in(raw, &text.value, error.at);
            let start = text.place.span.start;
            let span = within.map_or(text.place.span.clone(), |w| start + w.start..start + w.end);
            let place = Place { key: text.place.key, span };
            section.report(&place, Problem::BadFilter { reason: error.message });
            None
        }
    }
}

/// Where in a string of TOML, as it is written with its quotation marks, a
/// character of its value stands; the closing mark for one behind the last.
/// `None` where the value is not what is written there, but was made from it.
fn place_in(raw: &str, value: &str, character: usize) -> Option<Span> {
    let written = characters(raw)?;
    if !written.iter().map(|(c, _)| *c).eq(value.chars()) {
        return None;
    }
    match written.get(character) {
        Some((_, span)) => Some(span.clone()),
        None => {
            let end = raw.len().checked_sub(1)?;
            Some(end..raw.len())
        }
    }
}

/// The characters that a string of TOML stands for, each with its place.
fn characters(raw: &str) -> Option<Vec<(char, Span)>> {
    let mark = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| raw.starts_with(mark))?;
    let body = raw.strip_prefix(mark)?.strip_suffix(mark)?;
    let mut at = mark.len();
    let end = at + body.len();
    if mark.len() == 3 {
        at += raw[at..end].strip_prefix("\r\n").map_or(usize::from(body.starts_with('\n')), |_| 2);
    }
    let escapes = mark.starts_with('"');
    let mut found = Vec::new();
    while at < end {
        let rest = &raw[at..end];
        let (character, length) = match rest.strip_prefix('\\').filter(|_| escapes) {
            Some(escape) => escaped(escape)?,
            None => rest.chars().next().map(|c| (Some(c), c.len_utf8()))?,
        };
        found.extend(character.map(|c| (c, at..at + length)));
        at += length;
    }
    Some(found)
}

/// What stands after a backslash: the character that is meant, and the length
/// with the backslash. The end of a line stands for nothing.
fn escaped(rest: &str) -> Option<(Option<char>, usize)> {
    let first = rest.chars().next()?;
    let coded = |digits: usize| {
        let code = u32::from_str_radix(rest.get(1..=digits)?, 16).ok()?;
        Some((Some(char::from_u32(code)?), digits + 2))
    };
    let plain = |c| Some((Some(c), 2));
    match first {
        'b' => plain('\u{8}'),
        't' => plain('\t'),
        'n' => plain('\n'),
        'f' => plain('\u{c}'),
        'r' => plain('\r'),
        'e' => plain('\u{1b}'),
        '"' | '\\' => plain(first),
        'x' => coded(2),
        'u' => coded(4),
        'U' => coded(8),
        _ if first.is_whitespace() => {
            let space = rest.len() - rest.trim_start().len();
            Some((None, 1 + space))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What stands at the place of a character.
    fn at<'a>(raw: &'a str, value: &str, character: usize) -> Option<&'a str> {
        place_in(raw, value, character).map(|span| &raw[span])
    }

    #[test]
    fn each_character_of_a_value_has_its_place_in_what_is_written() {
        assert_eq!(at("'a\\b'", "a\\b", 1), Some("\\"), "literal strings are exact");
        assert_eq!(at(r#""a\"é""#, "a\"é", 1), Some("\\\""));
        assert_eq!(at(r#""a\"é""#, "a\"é", 2), Some("é"));
        assert_eq!(at(r#""\u00e9x""#, "éx", 0), Some("\\u00e9"));
        assert_eq!(at(r#""\u00e9x""#, "éx", 1), Some("x"));
        assert_eq!(at("'ab'", "ab", 2), Some("'"), "behind the last");
        assert_eq!(at("''", "", 0), Some("'"));
        assert_eq!(at("'''\nab'''", "ab", 0), Some("a"));
        assert_eq!(at("'''\r\nab'''", "ab", 1), Some("b"));
        assert_eq!(at("\"\"\"a \\\n   b\"\"\"", "a b", 2), Some("b"), "a joined line");
    }

    #[test]
    fn a_value_that_was_made_from_what_is_written_has_no_places() {
        assert_eq!(at("'${X}'", "value", 0), None);
        for raw in ["", "'", "\"", "12", "\"\\q\"", "\"\\u12\""] {
            assert_eq!(at(raw, "a", 0), None, "{raw}");
        }
    }
}
