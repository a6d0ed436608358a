//! Structured output through flags, with the embedded demo.

use ruminate_tests::trial;

use crate::call::{output, piped, text};

const PROMPT: &str = "The ball is under cup C. Swap CE AC AB AD AE";

/// Temporary file with `content`.
fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), content).expect("it can be written");
    file
}

#[trial]
fn run_output_matches_schema() {
    let schema = file(
        r#"{"type": "object", "properties": {"cup": {"enum": ["A", "B"]}}, "required": ["cup"], "additionalProperties": false}"#,
    );
    let path = schema.path().to_str().expect("a path");
    for seed in ["1", "2", "3"] {
        let flags = [
            "run",
            "--cpu",
            "-q",
            "--steps",
            "2",
            "--temp",
            "2",
            "--seed",
            seed,
            "--json",
            "--json-schema",
            path,
            PROMPT,
        ];
        let done = output(&flags);
        let object: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
        let value: serde_json::Value =
            serde_json::from_str(object["text"].as_str().expect("text")).expect("a JSON value");
        assert!(["A", "B"].contains(&value["cup"].as_str().expect("a cup")), "{value}");
        assert_eq!((object["stop"].as_str(), done.status.code()), (Some("complete"), Some(0)));
    }
}

#[trial]
fn run_output_matches_regex_and_grammar_from_stdin() {
    let done = output(&["run", "--cpu", "-q", "--steps", "2", "--temp", "3", "--regex", "(left|right){2}", PROMPT]);
    let said = text(&done.stdout);
    assert!(["leftleft", "leftright", "rightleft", "rightright"].contains(&said.trim_end()), "{said:?}");
    let done =
        piped(&["run", "--cpu", "-q", "--steps", "2", "--grammar", "-", "-p", PROMPT], b"start: \"yes\" | \"no\"\n");
    let said = text(&done.stdout);
    assert!(["yes\n", "no\n"].contains(&said.as_str()), "{said:?}, {}", text(&done.stderr));
}

#[trial]
fn chat_answers_match_schema() {
    let schema = file(r#"{"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}"#);
    let path = schema.path().to_str().expect("a path");
    let done =
        piped(&["chat", "--cpu", "-q", "--steps", "1", "--json-schema", path, "--no-history"], b"hello\nagain\n");
    let said = text(&done.stdout);
    let values: Vec<Vec<bool>> =
        serde_json::Deserializer::from_str(&said).into_iter().map(|value| value.expect("a value")).collect();
    assert_eq!(values.len(), 2, "{said:?}, {}", text(&done.stderr));
}

#[trial]
fn invalid_constraints_are_usage_errors_that_name_the_flag() {
    let refused = |arguments: &[&str], words: &[&str]| {
        let done = output(&[&["run", "--cpu", "-q"], arguments, &[PROMPT]].concat());
        let problem = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {problem}");
        assert!(words.iter().all(|word| problem.contains(word)), "{arguments:?}: {problem}");
        assert!(done.stdout.is_empty());
    };
    let broken = file("{\"type\": ");
    let unknown = file("{\"type\": \"nonsense\"}");
    let grammar = file("start: missing");
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("a path").to_owned();
    refused(&["--json-schema", &path(&broken)], &["--json-schema", &path(&broken), "not valid JSON", "line 1"]);
    refused(&["--json-schema", &path(&unknown)], &["--json-schema", "JSON schema", "nonsense"]);
    refused(&["--grammar", &path(&grammar)], &["--grammar", "missing"]);
    refused(&["--regex", "(a"], &["--regex", "regular expression", "unclosed group"]);
    refused(&["--regex", "a", "--speculate"], &["--regex", "--speculate", "cannot be used"]);
    refused(&["--regex", "a", "--json-schema", &path(&unknown)], &["cannot be used"]);
    let absent = output(&["run", "--cpu", "-q", "--json-schema", "/nonexistent/schema.json", PROMPT]);
    assert!(text(&absent.stderr).contains("cannot read the JSON schema") && absent.status.code() == Some(1));
    let both = piped(&["run", "--cpu", "-q", "--grammar", "-"], b"start: \"a\"");
    assert!(text(&both.stderr).contains("--grammar - reads stdin") && both.status.code() == Some(2));
}
