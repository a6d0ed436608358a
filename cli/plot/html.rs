//! HTML pages: one self-contained file with data, style and script.

use anyhow::Result;
use serde_json::Value;

const STYLE: &str = include_str!("page/base.css");
const SCRIPT: &str = include_str!("page/axes.js");

/// Inserts style, script and data into a page, after the shared style and script.
pub(crate) fn page(page: &str, style: &str, script: &str, data: &Value) -> Result<String> {
    // A `<` in the data could end the script element.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let page = page.replace("/*STYLE*/", &[STYLE, style].concat()).replace("/*SCRIPT*/", &[SCRIPT, script].concat());
    // The data goes last, because it may contain the other placeholders.
    Ok(page.replace("/*DATA*/", &data))
}
