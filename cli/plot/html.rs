//! Pages: one file with data, style and script, which a browser opens from anywhere.

use anyhow::Result;
use serde_json::Value;

const STYLE: &str = include_str!("page/base.css");
const SCRIPT: &str = include_str!("page/axes.js");

/// Puts style, script and data into a page, behind those that all pages share.
pub(crate) fn page(page: &str, style: &str, script: &str, data: &Value) -> Result<String> {
    // What ends a script in HTML must not appear in it.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let page = page.replace("/*STYLE*/", &[STYLE, style].concat()).replace("/*SCRIPT*/", &[SCRIPT, script].concat());
    // Last, for it may hold any text.
    Ok(page.replace("/*DATA*/", &data))
}
