//! JSON bodies whose shape is known only at run time, because a user's configuration names the field to look at.
//!
//! ```
//! use holdfast_sdk::json;
//! let body = serde_json::json!({ "sensor": "a", "data": { "temperature": 21.5 } });
//! assert_eq!(json::number(&body, "data.temperature"), Ok(21.5));
//! assert_eq!(json::label(&body, "sensor").as_deref(), Ok("a"));
//! assert!(json::number(&body, "data.humidity").is_err());
//! ```

use crate::Failure;
pub use serde_json::Value;

/// The value at a path of names with dots between them, for example `data.temperature`.
pub fn at<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(body, |value, name| value.get(name))
}

/// The number at a path. A body that has none there is rejected.
pub fn number(body: &Value, path: &str) -> Result<f64, Failure> {
    at(body, path)
        .and_then(Value::as_f64)
        .ok_or_else(|| Failure::reject(format_args!("the body has no number at {path:?}")))
}

/// The text, number or boolean at a path as text, to tell things apart by it. A body that has none there is rejected.
pub fn label(body: &Value, path: &str) -> Result<String, Failure> {
    match at(body, path) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        _ => Err(Failure::reject(format_args!("the body has no text, number or boolean at {path:?}"))),
    }
}
