# Only forwards: what is needed to work here is in the README and in .ci/run.

test:
    cargo test --workspace

ci:
    .ci/run

deny:
    cargo deny --locked check

bench *ARGS:
    cargo run --release --manifest-path bench-compare/Cargo.toml -- {{ARGS}}
