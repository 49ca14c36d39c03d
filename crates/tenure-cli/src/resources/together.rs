//! The text that the editor is opened on after somebody else was faster.

use serde_json::Value;
use tenure::resources::Document;

use crate::error::CliError;
use crate::resources::file;
use crate::resources::merge::{Merged, merge};

/// Characters of a remark; a value may be large.
const REMARK: usize = 200;
/// Remarks about contradictions.
const REMARKS: usize = 20;

/// What two people made of one value, for one of them to look through.
pub(crate) struct Together {
    pub(crate) text: String,
    /// Both changed the same, and nobody but the user can say which it is to be. As it stands the
    /// text would overwrite what somebody else wrote.
    pub(crate) is_contradictory: bool,
}

/// Brings together what became of `before`. `None` is a value that is not there.
pub(crate) fn together(
    before: Option<&Document>,
    mine: &Document,
    theirs: Option<&Document>,
) -> Result<Together, CliError> {
    let Some(theirs) = theirs else {
        let text = remark("Somebody else deleted it.") + &undecided() + &file::yaml(mine)?;
        return Ok(Together { text, is_contradictory: true });
    };
    let base = before.map_or(Ok(Value::Null), file::value)?;
    let theirs = file::value(theirs)?;
    let Merged { value, contradictions } = merge(&base, file::value(mine)?, theirs.clone());
    let mut text = remark("With what somebody else wrote meanwhile.");
    if !contradictions.is_empty() {
        text += &undecided();
    }
    for pointer in contradictions.iter().take(REMARKS) {
        text += &contradiction(pointer, theirs.pointer(pointer));
    }
    if let more @ 1.. = contradictions.len().saturating_sub(REMARKS) {
        text += &remark(&format!("and {more} more"));
    }
    text += &file::yaml(&Document::from_value(&value)?)?;
    Ok(Together { text, is_contradictory: !contradictions.is_empty() })
}

fn undecided() -> String {
    remark("Take these remarks away when you have decided: as it stands, nothing is stored.")
}

fn contradiction(pointer: &str, theirs: Option<&Value>) -> String {
    let what = if pointer.is_empty() { "the whole value" } else { pointer };
    let theirs = match theirs {
        Some(theirs) => format!("theirs is {theirs}"),
        None => "they took it away".into(),
    };
    remark(&format!("Both changed {what}, and this is yours; {theirs}"))
}

/// A line that is no part of the value: nothing in it ends the line, in any version of YAML.
fn remark(text: &str) -> String {
    let breaks = |it: char| it.is_control() || matches!(it, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let text = text.chars().take(REMARK).map(|it| if breaks(it) { '\u{fffd}' } else { it });
    format!("# {}\n", text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(before: Value, mine: Value, theirs: Value) -> Together {
        let [before, mine, theirs] =
            [before, mine, theirs].map(|it| Document::from_value(&it).unwrap());
        together(Some(&before), &mine, Some(&theirs)).unwrap()
    }

    #[test]
    fn a_remark_about_any_value_leaves_the_value_as_it_is() {
        let document = |text: &str| Document::parse(text).unwrap();
        let hostile = "\\n\\r\u{85}\u{2028}b: 2\u{2029}c: 3\\u0000".repeat(100);
        let theirs = format!("{{\"a\\nd: 4\":\"{hostile}\"}}");
        let mine = document(r#"{"a\nd: 4":1}"#);
        let text = together(None, &mine, Some(&document(&theirs))).unwrap().text;
        assert!(text.contains("Both changed /a"), "{text}");
        let path = std::path::Path::new("x.yaml");
        assert_eq!(file::parse(path, &text).unwrap(), mine);
    }

    #[test]
    fn what_does_not_contradict_needs_no_decision() {
        let both = of(json!({}), json!({ "a": 1 }), json!({ "b": 1 }));
        assert!(!both.is_contradictory);
        assert_eq!(both.text, "# With what somebody else wrote meanwhile.\na: 1\nb: 1\n");
    }

    #[test]
    fn a_contradiction_of_the_whole_value_is_called_so() {
        let both = of(json!(1), json!(2), json!(3));
        assert!(both.is_contradictory);
        let remark = "# Both changed the whole value, and this is yours; theirs is 3\n";
        assert!(both.text.contains(remark), "{}", both.text);
    }

    #[test]
    fn a_flood_of_contradictions_is_told_in_few_remarks() {
        let all = |value: u32| (0..50).map(|name| (name.to_string(), value.into())).collect();
        let [before, mine, theirs] = [1, 2, 3].map(|value| Value::Object(all(value)));
        let text = of(before, mine, theirs).text;
        assert_eq!(text.matches("# Both changed").count(), 20, "{text}");
        assert!(text.contains("# and 30 more\n"), "{text}");
        assert_eq!(text.lines().filter(|it| it.starts_with('#')).count(), 23, "{text}");
    }
}
