//! Durations, sizes, and variables of the environment, as they are written.

use std::time::Duration;

/// What a duration looks like, for messages.
pub(super) const DURATION_FORM: &str = "a duration such as \"100ms\", \"30s\" or \"1h30m\"";
/// What a size looks like, for messages.
pub(super) const SIZE_FORM: &str = "a size such as \"64MiB\" or \"10kB\"";

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a duration: whole numbers, each with `ms`, `s`, `m`, `h` or `d`,
/// the larger units first.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut millis: u64 = 0;
    let mut rest = text;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() || smaller_than == u64::MAX {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        if *factor >= smaller_than {
            return None;
        }
        smaller_than = *factor;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = after;
    }
    Some(Duration::from_millis(millis))
}

/// Reads a size: a whole number with `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// The size that was most likely meant, where only the case of its unit is wrong.
pub(super) fn size_meant(text: &str) -> Option<String> {
    let (number, unit) = number(text)?;
    let unit = unit.trim().to_lowercase();
    let unit = if unit.is_empty() { "b" } else { &unit };
    let mut units = SIZE_UNITS.iter().map(|(name, _)| *name);
    let name = units.find(|name| {
        let name = name.to_lowercase();
        name == unit || name.replace('i', "").trim_end_matches('b') == unit
    })?;
    Some(format!("{number}{name}"))
}

/// A duration as it would be written.
pub(super) fn write_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS.iter().rev() {
        if rest >= *factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as it would be written.
pub(super) fn write_size(bytes: u64) -> String {
    let binary =
        SIZE_UNITS[4..].iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    match binary {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Why variables could not be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VariableError {
    /// `${` without an end, or around something that is no name.
    Malformed,
    /// The environment has no such variable.
    Unset(String),
}

/// Puts variables of the environment in place of `${NAME}`. `$${` stands for `${`.
pub(super) fn expand(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, VariableError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            expanded.push_str(&rest[..at - 1]);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find('}').ok_or(VariableError::Malformed)?;
        let name = &after[..end];
        if !is_variable(name) {
            return Err(VariableError::Malformed);
        }
        expanded.push_str(&env(name).ok_or_else(|| VariableError::Unset(name.to_owned()))?);
        rest = &after[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, millis) in [
            ("100ms", 100),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2m500ms", 120_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(write_duration(Duration::from_millis(millis)), text);
        }
        let huge = format!("{}d", u64::MAX);
        for text in [
            "", "5", "s", "-5s", "1.5s", "5 s", "5S", "30m1h", "1s1s", "5min", "5sec", "5µs", &huge,
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10kB", 10_000),
            ("1 GiB", 1 << 30),
            ("7B", 7),
            ("2MB", 2_000_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "MiB", "64mib", "1.5MiB", "64MiBs", "-1B", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(write_size(64 << 20), "64MiB");
        assert_eq!(write_size(10_000), "10000B");
        assert_eq!(write_size(0), "0B");
        assert_eq!(size_meant("64mib").as_deref(), Some("64MiB"));
        assert_eq!(size_meant("64").as_deref(), Some("64B"));
        assert_eq!(size_meant("64M").as_deref(), Some("64MB"));
        assert_eq!(size_meant("a lot"), None);
    }

    #[test]
    fn variables_are_put_in() {
        let env = |name: &str| (name == "USER_1").then(|| "anna".to_owned());
        let expand = |text| expand(text, &env);
        assert_eq!(expand("a ${USER_1}!").as_deref(), Ok("a anna!"));
        assert_eq!(expand("${USER_1}${USER_1}").as_deref(), Ok("annaanna"));
        assert_eq!(expand("$SYS/$${x}").as_deref(), Ok("$SYS/${x}"));
        assert_eq!(expand("${NOBODY}"), Err(VariableError::Unset("NOBODY".into())));
        for text in ["${USER_1", "${}", "${1A}", "${A B}", "${ USER_1 }"] {
            assert_eq!(expand(text), Err(VariableError::Malformed), "{text}");
        }
    }
}
