//! `GET /openapi.json`: machine-readable description of the API.

use std::sync::Arc;

use axum::extract::State;
use axum::{Router, routing::get};
use serde_json::{Value, json};

use crate::app::App;
use crate::body::Json;

/// Description, without the values that depend on the server's options.
const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(describe))
}

async fn describe(State(app): State<Arc<App>>) -> Json<Value> {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    schemas["Depth"]["properties"]["steps"]["maximum"] = json!(app.max_steps());
    if let Some(loaded) = app.loaded() {
        let last = json!(loaded.model.spec().padded_vocab - 1);
        schemas["DetokenizeRequest"]["properties"]["tokens"]["items"]["maximum"] = last;
    }
    if app.options.api_keys.is_empty() {
        document["security"] = json!([]);
    }
    Json(document)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;
    use crate::body::names;
    use crate::chat::Chat;
    use crate::completions::Completion;
    use crate::depth::Depth;
    use crate::sampling::Sampling;
    use crate::tokens::{Detokenize, Tokenize};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("the description is JSON")
    }

    #[test]
    fn description_lists_exactly_the_supported_fields() {
        let (sampling, depth) = (names::<Sampling>(), names::<Depth>());
        let requests: [(&str, &[&[&str]]); 6] = [
            ("Depth", &[depth]),
            ("Sampling", &[sampling]),
            ("CompletionRequest", &[names::<Completion>(), sampling, depth]),
            ("ChatRequest", &[names::<Chat>(), sampling, depth]),
            ("TokenizeRequest", &[names::<Tokenize>()]),
            ("DetokenizeRequest", &[names::<Detokenize>()]),
        ];
        let document = document();
        for (name, obeyed) in requests {
            let schema = &document["components"]["schemas"][name];
            let described: BTreeSet<&str> =
                schema["properties"].as_object().expect("properties").keys().map(String::as_str).collect();
            let obeyed: BTreeSet<&str> = obeyed.iter().flat_map(|names| names.iter().copied()).collect();
            assert_eq!(described, obeyed, "{name}");
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(to)) = map.get("$ref") {
                        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                    }
                    map.values().for_each(|value| check(value, document));
                }
                Value::Array(list) => list.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        check(&document(), &document());
    }
}
