//! What a component may pull from, by name.

use std::collections::BTreeMap;

/// The pull subscriptions of one component, by the names that `receive`,
/// `stream` and `pull` know them by: the value of `subscription` or, without one, the
/// exact text of `topic` or `queue`; alone or after `ID:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullNames {
    names: BTreeMap<String, Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    One(usize),
    /// Two brokers have one of this name; `ID:` tells them apart.
    Several,
}

impl PullNames {
    /// The index of the subscription of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        match self.names.get(name) {
            Some(Named::One(index)) => Some(*index),
            _ => None,
        }
    }

    /// Every name that means one subscription, with its index.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names.iter().filter_map(|(name, named)| match named {
            Named::One(index) => Some((name.as_str(), *index)),
            Named::Several => None,
        })
    }

    /// The names that mean several.
    pub(super) fn ambiguous(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .filter(|(_, named)| **named == Named::Several)
            .map(|(name, _)| name.as_str())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn add(&mut self, id: &str, name: &str, index: usize) {
        for name in [name.to_owned(), format!("{id}:{name}")] {
            let named = self.names.entry(name).or_insert(Named::One(index));
            if *named != Named::One(index) {
                *named = Named::Several;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_tells_equal_names_apart() {
        let mut names = PullNames::default();
        names.add("a", "user/+", 0);
        assert_eq!((names.find("user/+"), names.find("a:user/+")), (Some(0), Some(0)));
        names.add("b", "user/+", 1);
        assert_eq!(names.find("user/+"), None);
        assert_eq!((names.find("a:user/+"), names.find("b:user/+")), (Some(0), Some(1)));
        assert_eq!(names.find("user/1"), None, "the exact text, no match of a filter");
        assert_eq!(names.iter().count(), 2);
    }
}
