//! The example in the documentation does what it says.

#[path = "../examples/wrap.rs"]
#[allow(dead_code)]
mod wrap;

#[tokio::test]
async fn the_wrapped_tool_runs_as_a_task() {
    let said = wrap::survey().await.unwrap();
    assert_eq!(said, r#""3 fields, no comets" ("field 3 of 3")"#);
}
