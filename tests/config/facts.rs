//! What is known of the components of a case.

use wasi_pubsub::config::ComponentFacts;

/// One component.
pub(crate) struct Component {
    pub(crate) facts: ComponentFacts,
    /// Its file cannot be used, for this reason.
    pub(crate) broken: Option<String>,
    /// It is named on the command line although the configuration has the name.
    pub(crate) twice: bool,
}

/// Reads lines such as `billing: handler publish`.
pub(crate) fn components(text: &str) -> Vec<Component> {
    text.lines().filter(|line| !line.trim().is_empty()).map(component).collect()
}

fn component(line: &str) -> Component {
    let (name, words) = line.split_once(':').unwrap();
    let mut component = Component {
        facts: ComponentFacts {
            name: name.to_owned(),
            path: format!("{name}.wasm").into(),
            ..ComponentFacts::default()
        },
        broken: None,
        twice: false,
    };
    let facts = &mut component.facts;
    for word in words.split_whitespace() {
        match word {
            "publish" => facts.imports_publish = true,
            "receive" => facts.imports_receive = true,
            "stream" => facts.imports_stream = true,
            "pull" => facts.imports_pull = true,
            "handler" => facts.exports_handler = true,
            "command" => facts.is_command = true,
            "broken" => component.broken = Some("it is a core module, no component".into()),
            "twice" => {
                component.twice = true;
                facts.path = format!("other/{name}.wasm").into();
            }
            foreign => facts.foreign_imports.push(foreign.to_owned()),
        }
    }
    component
}
