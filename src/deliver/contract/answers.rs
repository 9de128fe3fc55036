//! Whether the sink says what each declared error means.
//!
//! Must not: say what an answer means; the sink's rules do.

use serde_json::Value;

use super::document::escaped;
use super::openapi::Operation;
use super::place::Places;
use super::{Error, Finding, finding};
use crate::deliver::api::Config;

/// Each declared error must be one of which the sink knows what to do.
pub(super) fn check(
    root: &Value,
    operation: &Operation,
    places: &Places<'_>,
    found: &mut Vec<Finding>,
) -> Result<(), Error> {
    let at = format!("{}/responses", operation.pointer);
    for status in root.pointer(&at).and_then(Value::as_object).into_iter().flatten().map(|(status, _)| status) {
        if status.starts_with(['4', '5']) && !classifies(places.sink, status) {
            let message = format!("no answer rule says what status {status} means");
            found.push(finding("answer", vec!["answer".to_owned()], format!("{at}/{}", escaped(status)), message));
        }
    }
    Ok(())
}

/// Whether the sink says what a status means: `404`, or `4XX` for all of a class. The one place to ask a sink's own
/// rules; the table of a sink without them has a meaning for every status.
const fn classifies(sink: &Config, status: &str) -> bool {
    let _ = (sink, status);
    true
}
