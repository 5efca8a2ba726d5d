//! Metrics, parsed as strictly as Prometheus does.

use super::client::{Reply, get_until, request};
use std::collections::{BTreeMap, HashMap};

const OPEN_METRICS: &str =
    "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";

/// Values by name and labels.
#[derive(Debug, PartialEq)]
pub(super) struct Samples(HashMap<(String, BTreeMap<String, String>), f64>);

impl Samples {
    /// Asks for them, in either format, which must be the same.
    pub(super) async fn scrape(address: &str) -> Self {
        let text = request(address, "GET", "/metrics", "").await;
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(text.header("content-type").as_deref(), Some(content_type), "{text:?}");
        let samples = Self::parse(&text);
        let open_metrics = request(address, "GET", "/metrics", OPEN_METRICS).await;
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(open_metrics.header("content-type").as_deref(), Some(content_type));
        assert!(open_metrics.body.ends_with("# EOF\n"), "{}", open_metrics.body);
        let same = Self::parse(&open_metrics);
        let names = |samples: &Self| {
            let mut keys: Vec<_> = samples.0.keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(names(&samples), names(&same), "the two formats have the same samples");
        samples
    }

    /// Asks again and again, until they are as wanted.
    pub(super) async fn scrape_until(
        address: &str,
        what: &str,
        wanted: impl Fn(&Self) -> bool,
    ) -> Self {
        get_until(address, "/metrics", what, |reply| wanted(&Self::parse(reply))).await;
        Self::scrape(address).await
    }

    fn parse(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply:?}");
        let mut samples = HashMap::new();
        let mut declared: Vec<(&str, &str)> = Vec::new();
        for line in reply.body.lines() {
            if let Some(declaration) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declaration.split_once(' ').expect("a name and a type");
                let is_new = declared.iter().all(|(other, _)| *other != name);
                assert!(is_new, "{name} is declared twice");
                declared.push((name, kind));
            } else if !line.starts_with('#') {
                let (name, labels, value) = sample(line);
                let (family, _) = declared.last().expect("a type before the first sample");
                assert!(name.starts_with(family), "`{line}` is in the family {family}");
                let earlier = samples.insert((name, labels), value);
                assert_eq!(earlier, None, "twice: {line}");
            }
        }
        Self(samples)
    }

    /// A value, by name and `label=value` pairs in any order.
    pub(super) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.0.get(&(name.to_owned(), labels)).copied()
    }

    /// The sum of a metric over all of its labels.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.0.iter().filter(|((found, _), _)| found == name).map(|(_, value)| value).sum()
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The labels and values of a metric.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (&BTreeMap<String, String>, f64)> {
        let of = self.0.iter().filter(move |((found, _), _)| found == name);
        of.map(|((_, labels), value)| (labels, *value))
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    let mut pairs = BTreeMap::new();
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{label}: {line}"));
        let earlier = pairs.insert(name.to_owned(), value.trim_end_matches('"').to_owned());
        assert_eq!(earlier, None, "a label twice: {line}");
    }
    (name.to_owned(), pairs, value)
}
