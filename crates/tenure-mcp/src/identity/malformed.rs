//! What to say of a description of callers that is none, without a word of it: it has secrets.

use crate::identity::CallersError;

/// Errors of these kinds quote what they found, and then say what they expected.
const QUOTING: [&str; 5] =
    ["invalid type", "invalid value", "invalid length", "unknown field", "unknown variant"];

/// Where and why the text is not of the expected form.
pub(super) fn malformed(text: &str, error: &toml::de::Error) -> CallersError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |it| it + 1);
    CallersError::Malformed {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        reason: without_quotation(error.message()),
    }
}

fn without_quotation(message: &str) -> String {
    let Some(kind) = QUOTING.into_iter().find(|kind| message.starts_with(kind)) else {
        return message.lines().collect::<Vec<_>>().join(", ");
    };
    // The last one: what was found may have such words in it, too.
    match message.rfind(", expected ") {
        Some(expected) => format!("{kind}{}", &message[expected..]),
        None => kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::identity::Callers;

    #[track_caller]
    fn told(text: &str) -> String {
        let error = Callers::from_toml(text).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("s3cret") && !told.contains('\n'), "{told}");
        error.to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_the_text() {
        assert_eq!(
            told("caller = 3"),
            "callers: line 1, column 10: invalid type, expected a sequence"
        );
        assert_eq!(
            told("[[caller]]\ntoken = \"s3cret\"\nowner = 7\n"),
            "callers: line 3, column 9: invalid type, expected a string"
        );
        assert!(told("\n\n[[caller]]\n# é\ntoken = s3cret\n").contains("line 5, column 9: "));
    }

    #[test]
    fn a_secret_in_a_wrong_place_is_not_told() {
        for text in [
            "caller = \"s3cret, expected s3cret\"",
            "s3cret = 1",
            "[[caller]]\ns3cret = 1",
            "[[caller]]\n\"s`3, expected `s3cret\" = 1",
            "[[caller]]\ntoken = \"t\"\nowner = \"a\"\nprojects = { acme = \"s3cret\" }",
            "[[caller]]\ntoken = \"t\"\nowner = \"a\"\nprojects = \"s3cret\"",
            "[[caller]]\ntoken = \"s3cret",
            "[[caller]]\ntoken = \"\\s3cret\"",
            "[[caller]]\ntoken = 's3cret' 's3cret'",
            "caller = s3cret",
            "caller = [{ s3cret = 1, s3cret = 2 }]",
            "[s3cret]\n[s3cret]",
            "jwt = { algorithm = \"s3cret\", key = \"s3cret\" }",
            "jwt = \"s3cret\"",
            "jwt.s3cret = 1\njwt.s3cret = 1",
            "\"s3cret",
            "= s3cret",
        ] {
            told(text);
        }
    }
}
