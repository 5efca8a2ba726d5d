//! Filters on a subscription: which events it wants, by their attributes.
//!
//! The grammar is that of Google Cloud Pub/Sub:
//!
//! ```text
//! attributes:NAME                        the attribute is there
//! attributes.NAME = "VALUE"              it has this value
//! attributes.NAME != "VALUE"             it has not: another one, or none
//! hasPrefix(attributes.NAME, "PREFIX")   it begins with this
//! NOT …   … AND …   … OR …   ( … )       where AND and OR mix, with parentheses
//! ```
//!
//! A name that is no plain word is quoted. Besides an event's further attributes,
//! the names `id`, `source`, `type`, `datacontenttype` and `partitionkey` stand
//! for those of the envelope.

use super::Event;
use std::fmt;

/// The longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 256;
/// How deep parentheses and `NOT` may nest. The length allows more; the stack is
/// not the one to find out.
const DEPTH_MAX: usize = 32;

/// Says of an event whether a subscription wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    text: String,
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Has(String),
    Equals(String, String),
    Differs(String, String),
    HasPrefix(String, String),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

/// Why a text is no filter, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {}", .at + 1)]
pub struct EventFilterError {
    /// How many characters stand before the fault.
    pub at: usize,
    /// What was found there, and what is allowed.
    pub message: String,
}

impl EventFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// Where it breaks the grammar, or is longer than [`FILTER_BYTES_MAX`].
    pub fn new(text: &str) -> Result<Self, EventFilterError> {
        if text.len() > FILTER_BYTES_MAX {
            let at = text.char_indices().take_while(|(i, _)| *i < FILTER_BYTES_MAX).count();
            let message = format!("it is longer than {FILTER_BYTES_MAX} bytes");
            return Err(EventFilterError { at, message });
        }
        let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0 };
        let expression = parser.expression()?;
        match parser.peek() {
            Token::End => Ok(Self { text: text.to_owned(), expression }),
            _ => Err(parser.unexpected("`AND`, `OR` or the end")),
        }
    }

    /// Whether the subscription wants the event.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.expression.matches(event)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// An attribute, by its name as [`Event::value`] takes it, and the value that
    /// it has in every event that is wanted; where the filter names one.
    #[must_use]
    pub fn equality(&self) -> Option<(&str, &str)> {
        self.expression.equality()
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    fn equality(&self) -> Option<(&str, &str)> {
        match self {
            Self::Equals(name, wanted) => Some((name, wanted)),
            Self::All(parts) => parts.iter().find_map(Self::equality),
            _ => None,
        }
    }

    fn matches(&self, event: &Event) -> bool {
        match self {
            Self::Has(name) => event.value(name).is_some(),
            Self::Equals(name, wanted) => event.value(name) == Some(wanted),
            Self::Differs(name, unwanted) => event.value(name) != Some(unwanted),
            Self::HasPrefix(name, prefix) => {
                event.value(name).is_some_and(|value| value.starts_with(prefix.as_str()))
            }
            Self::Not(inner) => !inner.matches(event),
            Self::All(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(event)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Symbol(&'static str),
    End,
}

/// The tokens of a text, each with its place in bytes; the last is the end.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, EventFilterError> {
    const SYMBOLS: [&str; 7] = ["!=", "=", ".", ":", "(", ")", ","];
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if next.is_whitespace() {
            at += next.len_utf8();
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            found.push((at, Token::Symbol(symbol)));
            at += symbol.len();
        } else if next == '"' {
            let (content, length) = quoted(text, at)?;
            found.push((at, Token::Text(content)));
            at += length;
        } else {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if length == 0 {
                return Err(error(text, at, format!("`{next}` has no meaning here")));
            }
            found.push((at, Token::Word(rest[..length].to_owned())));
            at += length;
        }
    }
    found.push((text.len(), Token::End));
    Ok(found)
}

/// A quoted text that begins at `at`, and its length with its quotes. `\"` and
/// `\\` stand for what follows the backslash.
fn quoted(text: &str, at: usize) -> Result<(String, usize), EventFilterError> {
    let mut content = String::new();
    let mut characters = text[at + 1..].char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => return Ok((content, offset + 2)),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => content.push(escaped),
                _ => {
                    let message = "after `\\` only `\"` or `\\` may stand".into();
                    return Err(error(text, at + 1 + offset, message));
                }
            },
            _ => content.push(character),
        }
    }
    Err(error(text, at, "the quotation mark is not closed".into()))
}

fn error(text: &str, at: usize, message: String) -> EventFilterError {
    EventFilterError { at: text[..at].chars().count(), message }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    /// The end is never passed.
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), EventFilterError> {
        if self.accept(&Token::Symbol(symbol)) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found == word)
    }

    fn unexpected(&self, expected: &str) -> EventFilterError {
        let (at, token) = &self.tokens[self.next];
        let found = match token {
            Token::Word(word) => format!("`{word}`"),
            Token::Text(text) => format!("\"{text}\""),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::End => "the end".into(),
        };
        error(self.text, *at, format!("found {found}, expected {expected}"))
    }

    fn expression(&mut self) -> Result<Expression, EventFilterError> {
        self.deeper()?;
        let first = self.term()?;
        let expression = if self.is_word("AND") {
            Expression::All(self.chain(first, "AND", "OR")?)
        } else if self.is_word("OR") {
            Expression::Any(self.chain(first, "OR", "AND")?)
        } else {
            first
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn chain(
        &mut self,
        first: Expression,
        word: &str,
        other: &str,
    ) -> Result<Vec<Expression>, EventFilterError> {
        let mut parts = vec![first];
        while self.is_word(word) {
            self.take();
            parts.push(self.term()?);
        }
        if self.is_word(other) {
            let message =
                format!("`{other}` beside `{word}` needs parentheses that say which goes first");
            return Err(error(self.text, self.tokens[self.next].0, message));
        }
        Ok(parts)
    }

    fn deeper(&mut self) -> Result<(), EventFilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("it nests deeper than {DEPTH_MAX}");
            return Err(error(self.text, self.tokens[self.next].0, message));
        }
        Ok(())
    }

    fn term(&mut self) -> Result<Expression, EventFilterError> {
        if self.is_word("NOT") {
            self.take();
            self.deeper()?;
            let inner = self.term()?;
            self.depth -= 1;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.accept(&Token::Symbol("(")) {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.is_word("hasPrefix") {
            self.take();
            self.expect("(")?;
            self.attributes("`attributes`")?;
            self.expect(".")?;
            let name = self.name()?;
            self.expect(",")?;
            let prefix = self.text()?;
            self.expect(")")?;
            return Ok(Expression::HasPrefix(name, prefix));
        }
        self.attributes("`attributes`, `hasPrefix`, `NOT` or `(`")?;
        self.comparison()
    }

    fn attributes(&mut self, expected: &str) -> Result<(), EventFilterError> {
        if self.is_word("attributes") {
            self.take();
            return Ok(());
        }
        Err(self.unexpected(expected))
    }

    fn comparison(&mut self) -> Result<Expression, EventFilterError> {
        if self.accept(&Token::Symbol(":")) {
            return Ok(Expression::Has(self.name()?));
        }
        if !self.accept(&Token::Symbol(".")) {
            return Err(self.unexpected("`.` and a name, or `:` and a name"));
        }
        let name = self.name()?;
        if self.accept(&Token::Symbol("=")) {
            Ok(Expression::Equals(name, self.text()?))
        } else if self.accept(&Token::Symbol("!=")) {
            Ok(Expression::Differs(name, self.text()?))
        } else {
            Err(self.unexpected("`=` or `!=`"))
        }
    }

    fn name(&mut self) -> Result<String, EventFilterError> {
        match self.peek() {
            Token::Word(name) | Token::Text(name) => {
                let name = name.clone();
                self.take();
                Ok(name)
            }
            _ => Err(self.unexpected("the name of an attribute")),
        }
    }

    fn text(&mut self) -> Result<String, EventFilterError> {
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.take();
                Ok(text)
            }
            _ => Err(self.unexpected("a value in quotation marks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str) -> bool {
        let event = Event {
            kind: "order".into(),
            attributes: vec![("region".into(), "eu-west".into()), ("a b".into(), "1".into())],
            ..Event::default()
        };
        EventFilter::new(filter).unwrap().matches(&event)
    }

    fn fault(filter: &str) -> String {
        EventFilter::new(filter).unwrap_err().to_string()
    }

    #[test]
    fn comparisons_look_at_attributes_and_the_envelope() {
        assert!(matches(r#"attributes.region = "eu-west""#));
        assert!(!matches(r#"attributes.region = "eu""#));
        assert!(matches(r#"hasPrefix(attributes.region, "eu")"#));
        assert!(!matches(r#"hasPrefix(attributes.missing, "")"#));
        assert!(matches("attributes:region"));
        assert!(!matches("attributes:missing"));
        assert!(matches(r#"attributes."a b" = "1""#));
        assert!(matches(r#"attributes.type = "order""#));
        assert!(!matches("attributes:partitionkey"));
    }

    #[test]
    fn an_absent_attribute_differs_from_every_value() {
        assert!(matches(r#"attributes.missing != "x""#));
        assert!(!matches(r#"attributes.region != "eu-west""#));
    }

    #[test]
    fn words_combine() {
        assert!(matches(r#"attributes:region AND NOT attributes:missing"#));
        assert!(matches(r#"attributes:missing OR attributes:region"#));
        assert!(!matches(r#"attributes:region AND (attributes:x OR attributes:y)"#));
        assert!(matches(r#"NOT NOT attributes:region"#));
    }

    #[test]
    fn faults_say_what_and_where() {
        assert_eq!(
            fault("attributes:a AND attributes:b OR attributes:c"),
            "`OR` beside `AND` needs parentheses that say which goes first, at character 31"
        );
        assert_eq!(
            fault("attributes.a == \"x\""),
            "found `=`, expected a value in quotation marks, at character 15"
        );
        assert_eq!(
            fault("attributes.é = \"x"),
            "the quotation mark is not closed, at character 16"
        );
        assert_eq!(
            fault(""),
            "found the end, expected `attributes`, `hasPrefix`, `NOT` or `(`, at character 1"
        );
        assert_eq!(fault("(attributes:a"), "found the end, expected `)`, at character 14");
        assert_eq!(
            fault(&format!("{}attributes:a", "(".repeat(60))),
            "it nests deeper than 32, at character 33"
        );
        assert_eq!(fault(&"x".repeat(257)), "it is longer than 256 bytes, at character 257");
        assert_eq!(fault("attributes;a"), "`;` has no meaning here, at character 11");
    }
}
