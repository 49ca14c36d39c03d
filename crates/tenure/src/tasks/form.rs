//! The forms that what a client gets to see must have. A client that asks for a task of another
//! form would get an error each time, so such a task is not written.

use serde_json::Value;

use crate::tasks::{Outcome, TaskError};

pub(super) fn check_request(request: &Value) -> Result<(), TaskError> {
    let fits = request.get("method").is_some_and(Value::is_string);
    demand(fits, "input request", "not an object with a string `method`")
}

pub(super) fn check_outcome(outcome: &Outcome) -> Result<(), TaskError> {
    match outcome {
        Outcome::Result(result) => demand(result.is_object(), "result", "not an object"),
        Outcome::Error(error) => {
            let has_code = error.get("code").is_some_and(|it| it.is_i64() || it.is_u64());
            let fits = has_code && error.get("message").is_some_and(Value::is_string);
            demand(fits, "error", "not an object with an integer `code` and a string `message`")
        }
    }
}

fn demand(fits: bool, what: &'static str, otherwise: &str) -> Result<(), TaskError> {
    if fits { Ok(()) } else { Err(TaskError::Invalid { what, reason: otherwise.into() }) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_an_object() {
        assert!(check_outcome(&Outcome::Result(json!({}))).is_ok());
        for other in [json!(42), json!("text"), json!([{}]), Value::Null] {
            assert!(check_outcome(&Outcome::Result(other)).is_err());
        }
    }

    #[test]
    fn an_error_has_an_integer_code_and_a_message() {
        let error = json!({ "code": -32603, "message": "no", "data": [] });
        assert!(check_outcome(&Outcome::Error(error)).is_ok());
        for other in [
            json!("no"),
            json!({}),
            json!({ "code": 1 }),
            json!({ "message": "no" }),
            json!({ "code": 1.5, "message": "no" }),
            json!({ "code": "1", "message": "no" }),
            json!({ "code": 1, "message": null }),
        ] {
            assert!(check_outcome(&Outcome::Error(other.clone())).is_err(), "{other}");
        }
    }

    #[test]
    fn a_request_names_its_method() {
        assert!(check_request(&json!({ "method": "roots/list" })).is_ok());
        for other in [json!("?"), json!({}), json!({ "method": 1 }), json!(["method"])] {
            assert!(check_request(&other).is_err(), "{other}");
        }
    }
}
