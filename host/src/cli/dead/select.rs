//! Which letters are meant.

use super::super::failure::Failure;
use super::letter::Letter;

/// The numbers of the letters that are named, each by its number or its event's
/// id, in the order of the list.
///
/// # Errors
/// A name means none of them, or several.
pub(super) fn select(letters: &[&Letter], wanted: &[String]) -> Result<Vec<u64>, Failure> {
    let mut numbers = Vec::new();
    for name in wanted {
        let found = find(letters, name)?;
        if !numbers.contains(&found) {
            numbers.push(found);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn find(letters: &[&Letter], name: &str) -> Result<u64, Failure> {
    let is_number =
        |letter: &&&Letter| name.strip_prefix('#').unwrap_or(name) == letter.number.to_string();
    let mut found: Vec<u64> = letters
        .iter()
        .filter(|letter| letter.event.id == name)
        .map(|letter| letter.number)
        .collect();
    if let Some(letter) = letters.iter().find(is_number)
        && !found.contains(&letter.number)
    {
        found.push(letter.number);
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::input(format!(
            "there is no dead letter `{name}`\n  help: `wasi-pubsub dead list` shows those that are there"
        ))),
        several => {
            let several: Vec<_> = several.iter().map(|number| format!("#{number}")).collect();
            Err(Failure::input(format!(
                "`{name}` means several dead letters: say which one, as in {}",
                several.join(" or ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Event;

    #[test]
    fn a_letter_goes_by_its_number_or_its_id() {
        let letter = |number, id: &str| Letter {
            number,
            collected: String::new(),
            topic: "dead".into(),
            event: Event { id: id.into(), ..Event::default() },
        };
        let letters =
            [letter(1, "a"), letter(2, "b"), letter(3, "b"), letter(4, "2"), letter(5, "5")];
        let letters: Vec<&Letter> = letters.iter().collect();
        let select = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            select(&letters, &names).map_err(|failure| failure.render(false))
        };
        assert_eq!(select(&["3", "a", "1", "#2"]), Ok(vec![1, 2, 3]));
        assert_eq!(select(&["5"]), Ok(vec![5]));
        assert!(select(&["b"]).unwrap_err().contains("as in #2 or #3"));
        assert!(select(&["2"]).unwrap_err().contains("as in #4 or #2"));
        assert!(select(&["x"]).unwrap_err().contains("there is no dead letter `x`"));
        assert!(select(&["0"]).is_err());
    }
}
