//! `GET /`: built-in chat page.
//!
//! The page is one file without a build step: style and script are inserted on the first request. It sends no request to another host, and its content
//! security policy forbids it: only the script and style with these digests are allowed, and only connections to this server.

use std::sync::{Arc, LazyLock};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::app::App;

const MARKUP: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page and its policy.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = MARKUP.replacen("/*STYLE*/", STYLE, 1).replacen("/*SCRIPT*/", SCRIPT, 1);
    let digest = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    // A digest covers the whole content of an element, including the line breaks around the inserted text. Scripts may still set styles through the DOM.
    let (style, script) = (digest(&format!("\n{STYLE}\n")), digest(&format!("\n{SCRIPT}\n")));
    let policy = format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    (page, policy)
});

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(page))
}

async fn page() -> Response {
    let (page, policy) = &*PAGE;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, page.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::{MARKUP, PAGE};

    #[test]
    fn style_and_script_are_in_the_page_once() {
        let (page, policy) = &*PAGE;
        assert!(MARKUP.contains("/*STYLE*/") && MARKUP.contains("/*SCRIPT*/"));
        assert!(!page.contains("/*STYLE*/") && !page.contains("/*SCRIPT*/"));
        assert_eq!((page.matches("<style>").count(), page.matches("<script>").count()), (1, 1));
        assert_eq!(policy.matches("sha256-").count(), 2);
    }

    #[test]
    fn page_sends_no_request_to_another_host() {
        let (page, _) = &*PAGE;
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
