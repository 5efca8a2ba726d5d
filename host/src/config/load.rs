//! Reading a file.

use super::backend::{Absent, Backends};
use super::listen::LISTEN_KEYS;
use super::model::{Capability, Component, ComponentSettings, Config};
use super::section::{Reader, Section, is_name, looks_secret};
use super::source::{Place, Source, Span};
use super::suggest::nearest;
use super::{Error, Errors, Problem, binding, component};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// The version of the file's format.
const SPECVERSION: &str = "0.2";
const DRAIN: Duration = Duration::from_secs(10);
const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);
const EVENT_SIZE: usize = 10 << 20;
const EVENT_SIZE_MAX: u64 = 256 << 20;
const IN_FLIGHT_BYTES: usize = 256 << 20;
const IN_FLIGHT_BYTES_MIN: u64 = 1 << 10;
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 30;

/// What [`load`] reads, and what it may look at.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The file's name, as messages show it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a [u8],
    /// The directory that paths in it are relative to.
    pub dir: &'a Path,
    /// The environment, for `${NAME}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The backends.
    pub backends: Backends<'a>,
}

/// Reads a configuration and checks what can be checked without components.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(request: &Request<'_>) -> Result<Config, Errors> {
    let text = match std::str::from_utf8(request.text) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let text = String::from_utf8_lossy(request.text).into_owned();
            let hidden = likely_secrets(&text);
            let source = Arc::new(Source::new(request.name, text, hidden));
            let place = Place { key: String::new(), span: at..at + 1 };
            let error = Error { place: Some(place), problem: Problem::NotUtf8 };
            return Err(Errors::new(source, vec![error]));
        }
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax_errors(request.name, text, &errors));
    }
    let reader = Reader {
        text,
        dir: request.dir,
        env: request.env,
        errors: RefCell::default(),
        hidden: RefCell::default(),
    };
    let place = Place { key: String::new(), span: 0..0 };
    let config = read(Section::new(&reader, document.get_ref(), place), &request.backends);
    let source = Arc::new(Source::new(request.name, text.to_owned(), reader.hidden.into_inner()));
    match reader.errors.into_inner() {
        errors if errors.is_empty() => Ok(Config { source, ..config }),
        errors => Err(Errors::new(source, errors)),
    }
}

/// The configuration that stands in for a file that is not there: the built-in
/// broker, where everything may be published, and every handler is pushed every
/// topic, without its own events.
///
/// # Errors
/// This build has no built-in broker.
pub fn built_in(backends: Backends<'_>) -> Result<Config, Errors> {
    const TEXT: &str = "\
specversion = \"0.2\"

[[capability]]
name = \"pubsub.memory\"
[[capability.config]]
topic = \"#\"
delivery = \"push\"
";
    let config = load(&Request {
        name: "(no capabilities.toml)",
        text: TEXT.as_bytes(),
        dir: Path::new(""),
        env: &|_| None,
        backends,
    })?;
    Ok(Config { is_built_in: true, ..config })
}

impl Config {
    /// Adds a component of the command line, under its file's name. One whose
    /// file a `[[component]]` names already is that one.
    ///
    /// # Errors
    /// Another component has this name.
    pub fn add_component(&mut self, path: PathBuf) -> Result<(), Errors> {
        if self.components.iter().any(|known| same_file(&known.path, &path)) {
            return Ok(());
        }
        let name = name_of(&path);
        if let Some(first) = self.components.iter().find(|known| known.name == name) {
            let problem = Problem::DuplicateComponent { name, line: None };
            let error = Error { place: first.place.clone(), problem };
            return Err(Errors::new(self.source.clone(), vec![error]));
        }
        self.components.push(Component {
            name,
            path,
            place: None,
            settings: ComponentSettings::default(),
        });
        Ok(())
    }

    /// Whether a broker of it is on the network.
    #[must_use]
    pub fn listens(&self) -> bool {
        let mut bindings = self.capabilities.iter().flat_map(|capability| &capability.bindings);
        bindings.any(|binding| binding.listen.is_some())
    }

    /// The error that a value turns out to be of no use.
    #[must_use]
    pub fn error_at(&self, place: &Place, problem: Problem) -> Errors {
        Errors::new(self.source.clone(), vec![Error { place: Some(place.clone()), problem }])
    }

    /// The error that a component cannot be used, at the place that names it.
    #[must_use]
    pub fn component_error(&self, name: &str, reason: &str, help: Option<&str>) -> Errors {
        let component = self.components.iter().find(|component| component.name == name);
        let problem = Problem::BadComponent {
            component: name.to_owned(),
            reason: reason.to_owned(),
            help: help.map(str::to_owned),
        };
        let place = component.and_then(|component| component.place.clone());
        Errors::new(self.source.clone(), vec![Error { place, problem }])
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A component's name after its file: characters that no name has become `-`.
pub(super) fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = stem
        .chars()
        .take(super::section::NAME_CHARS_MAX)
        .map(|c| if is_name(c.encode_utf8(&mut [0; 4])) { c } else { '-' })
        .collect();
    if name.is_empty() { "component".to_owned() } else { name }
}

/// The parser goes on after an error; of the errors of one line, the later ones
/// mostly follow from the first.
fn syntax_errors(name: &str, text: &str, errors: &[toml::de::Error]) -> Errors {
    let source = Arc::new(Source::new(name, text.to_owned(), likely_secrets(text)));
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = source.line(span.start);
        if !lines.contains(&line) {
            lines.push(line);
            let problem = Problem::Syntax { message: error.message().replace('\n', ", ") };
            problems.push(Error { place: Some(Place { key: String::new(), span }), problem });
        }
    }
    Errors::new(source, problems)
}

/// The values in a text that cannot be read which are likely to be secrets:
/// nobody knows where exactly they begin and end, so that rather too much is hidden.
fn likely_secrets(text: &str) -> Vec<Span> {
    let mut hidden = Vec::new();
    let mut start = 0;
    let mut in_env = false;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        if line.trim_start().starts_with('[') {
            in_env = words(line).any(|word| word == "env");
        }
        let secret = in_env
            || words(line).any(|word| word == "env" || looks_secret(word))
            || has_credentials(line);
        let value = line.find('=').map(|equals| {
            equals + 1 + line[equals + 1..].chars().take_while(|c| *c == ' ').count()
        });
        // A further line of a list.
        let value = value.or_else(|| has_credentials(line).then_some(0));
        if let Some(value) = value.filter(|_| secret) {
            if line.contains("\"\"\"") || line.contains("'''") {
                hidden.push(start + value..text.len());
                break;
            }
            hidden.push((start + value).min(end)..end);
        }
        start += line.len();
    }
    hidden
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))
}

/// Whether there is a URL with a user, or the beginning of one.
fn has_credentials(line: &str) -> bool {
    let Some((_, authority)) = line.split_once("://") else { return false };
    let after_colon = authority.split_once(':').and_then(|(_, after)| after.chars().next());
    authority.contains('@')
        || after_colon.is_some_and(|c| !c.is_ascii_digit() && !authority.starts_with('['))
}

fn read(mut root: Section<'_>, backends: &Backends<'_>) -> Config {
    if !root.has("specversion") {
        root.missing(
            "specversion",
            "the version of this file's format, as in specversion = \"0.2\"",
        );
    }
    root.choice("specversion", &[(SPECVERSION, ())]);
    let drain = root.duration("drain", Duration::ZERO..=DRAIN_MAX);
    let max_event_size = root.size("max_event_size", 1..=EVENT_SIZE_MAX);
    let in_flight_bytes =
        root.size("max_in_flight_bytes", IN_FLIGHT_BYTES_MIN..=IN_FLIGHT_BYTES_MAX);
    let mut ids = HashMap::new();
    let sections = root.tables("capability", "[[capability]]");
    let names = capability_ids(&sections);
    let capabilities = sections
        .into_iter()
        .filter_map(|section| read_capability(section, backends, &mut ids, &names))
        .collect();
    let components = component::read_all(root.tables("component", "[[component]]"));
    root.finish(&|_| None);
    Config {
        source: Arc::default(),
        is_built_in: false,
        drain: drain.map_or(DRAIN, |drain| drain.value),
        max_event_size: max_event_size.map_or(EVENT_SIZE, |size| size.value),
        max_in_flight_bytes: in_flight_bytes.map_or(IN_FLIGHT_BYTES, |size| size.value),
        capabilities,
        components,
    }
}

fn read_capability(
    mut section: Section<'_>,
    backends: &Backends<'_>,
    ids: &mut HashMap<String, usize>,
    all_ids: &[String],
) -> Option<Capability> {
    let backend = read_backend(&mut section, backends);
    let id = section.name("id");
    let place = id.as_ref().map_or_else(
        || section.place_of("name").unwrap_or_else(|| section.place().clone()),
        |id| id.place.clone(),
    );
    let id = match (id, backend) {
        (Some(id), _) => id.value,
        (None, Some(backend)) => backend.name().to_owned(),
        (None, None) => String::new(),
    };
    if !id.is_empty() {
        let line = section.line(&place);
        match ids.get(&id) {
            Some(&line) => section.report(&place, Problem::DuplicateId { id: id.clone(), line }),
            None => {
                ids.insert(id.clone(), line);
            }
        }
    }
    let configs = section.tables("config", "[[capability.config]]");
    if !section.has("config") {
        section.missing("config", "a capability has one [[capability.config]] or more");
    }
    section.finish(&|key| owner(backends, key));
    let scope = binding::Scope { backends, backend, id: &id, all_ids };
    let bindings = configs.into_iter().filter_map(|config| binding::read(config, &scope)).collect();
    let backend = backend?;
    Some(Capability { id, backend: backend.name(), features: backend.features(), bindings })
}

/// The ids of all capabilities, before they are read one by one.
fn capability_ids(sections: &[Section<'_>]) -> Vec<String> {
    let id = |section: &Section<'_>| section.peek("id").or_else(|| section.peek("name"));
    sections.iter().filter_map(id).collect()
}

fn read_backend<'a>(
    section: &mut Section<'_>,
    backends: &Backends<'a>,
) -> Option<&'a dyn super::BackendSection> {
    if !section.has("name") {
        let known: Vec<&str> = backends.present.iter().map(|backend| backend.name()).collect();
        section.missing("name", format!("it selects the backend: {}", known.join(", ")));
    }
    let name = section.string("name")?;
    if let Some(backend) = backends.find(&name.value) {
        return Some(backend);
    }
    let absent = backends.absent.iter().find(|absent| absent.name == name.value);
    let problem = match absent {
        Some(Absent { name, feature: Some(feature) }) => Problem::BackendNotBuilt { name, feature },
        Some(Absent { name, feature: None }) => Problem::BackendLater { name },
        None => {
            let known: Vec<&'static str> = backends.present.iter().map(|b| b.name()).collect();
            let nearest = nearest(&name.value, known.iter().copied()).map(|n| format!("\"{n}\""));
            Problem::UnknownBackend { found: section.found(&name.place.span), nearest, known }
        }
    };
    section.report(&name.place, problem);
    None
}

/// The backend that has a key in its bindings.
pub(super) fn owner(backends: &Backends<'_>, key: &str) -> Option<&'static str> {
    let among = |keys: &[super::Key]| keys.iter().any(|known| known.name == key);
    let has = |backend: &&&dyn super::BackendSection| {
        among(backend.keys()) || backend.features().listener && among(LISTEN_KEYS)
    };
    backends.present.iter().find(has).map(|backend| backend.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_named_after_its_file() {
        assert_eq!(name_of(Path::new("target/my_service.wasm")), "my_service");
        assert_eq!(name_of(Path::new("a b:c.component.wasm")), "a-b-c.component");
        assert_eq!(name_of(Path::new("/")), "component");
    }

    #[test]
    fn secrets_are_hidden_in_a_text_that_cannot_be_read() {
        let hidden = |text: &str| -> Vec<String> {
            likely_secrets(text).into_iter().map(|span| text[span].to_owned()).collect()
        };
        assert_eq!(hidden("a = 1\npasword = 'geheim\nb = 2 = 3\n"), ["'geheim"]);
        assert_eq!(hidden("url = 'tcp://user:geheim"), ["'tcp://user:geheim"]);
        assert_eq!(hidden("[x.env]\nA = 'geheim\n[y]\nB = 'x\n"), ["'geheim"]);
        assert_eq!(hidden("token = \"\"\"\ngeheim\n = 1"), ["\"\"\"\ngeheim\n = 1"]);
        assert_eq!(hidden("a = 'tcp://h:1883\nb = 'tcp://[::1]:1\n = \n"), [""; 0]);
    }
}
