//! `GET /v1/models`: the served model, with its depth settings.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Router, routing::get};
use ruminate::Criterion;
use serde_json::{Value, json};

use crate::app::{App, Loaded};
use crate::body::Json;
use crate::depth::share_name;
use crate::error::ApiError;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*name}", get(one)).route("/models", get(list))
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "object": "list", "data": [describe(&app, app.ready()?)] })))
}

async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let loaded = app.ready()?;
    loaded.check_name(Some(&name))?;
    Ok(Json(describe(&app, loaded)))
}

fn describe(app: &App, loaded: &Loaded) -> Value {
    let spec = loaded.model.spec();
    let criteria = Criterion::ALL.into_iter().filter(|criterion| *criterion != Criterion::Gate || spec.gate);
    json!({
        "id": loaded.name,
        "object": "model",
        "created": loaded.created,
        "owned_by": "ruminate",
        "max_model_len": loaded.context,
        "meta": {
            "context": loaded.context,
            "vocab": spec.padded_vocab,
            "steps": {
                "default": app.options.steps.unwrap_or(spec.steps.default).min(app.max_steps()),
                "most_useful": spec.steps.most_useful,
                "max": app.max_steps(),
            },
            "exit_criteria": criteria.map(Criterion::name).collect::<Vec<_>>(),
            "kv_share": share_name(loaded.kv_share),
            "max_tokens": app.options.max_tokens,
            "chat": loaded.model.chat().is_some(),
            "dtype": loaded.model.dtypes().to_string(),
            "device": loaded.model.device().name(),
        },
    })
}
