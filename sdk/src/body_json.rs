//! Reads single values out of a response's JSON, for policies that want one word of it and no parser.

use serde_json::Value;

/// Reads a body, or the data of a stream's event. `None` when it is not JSON, such as when its end was cut off.
///
/// ```
/// use spillway_sdk::body_json::{at, parse};
///
/// let json = parse(br#"{"model":"gpt-5","state":"drained"}"#).expect("JSON");
/// assert_eq!(at(&json, "/state").as_deref(), Some("drained"));
/// assert_eq!(parse(br#"{"model":"gpt-5","sta"#), None);
/// ```
pub fn parse(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// What stands at `pointer`, a JSON Pointer (RFC 6901): a string without its quotes, another value as JSON, and `None`
/// for nothing or a null.
///
/// ```
/// use spillway_sdk::body_json::{at, parse};
///
/// let json = parse(br#"{"error":{"status":"UNAVAILABLE","code":503,"param":null}}"#).expect("JSON");
/// assert_eq!(at(&json, "/error/status").as_deref(), Some("UNAVAILABLE"));
/// assert_eq!(at(&json, "/error/code").as_deref(), Some("503"));
/// assert_eq!(at(&json, "/error/param"), None);
/// ```
pub fn at(json: &Value, pointer: &str) -> Option<String> {
    match json.pointer(pointer)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_rfc_6901_writes_them() {
        let json = parse(br#"{"foo":["bar","baz"],"":0,"a/b":1,"m~n":8,"deep":{"list":[{"x":true}]}}"#).expect("JSON");
        let cases = [
            ("/foo/0", Some("bar")),
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/m~0n", Some("8")),
            ("/deep/list/0/x", Some("true")),
            ("/deep/list/0", Some(r#"{"x":true}"#)),
            ("/foo/2", None),
            ("/foo/-", None),
            ("/nothing", None),
            ("foo", None),
        ];
        for (pointer, expected) in cases {
            assert_eq!(at(&json, pointer).as_deref(), expected, "{pointer}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_json() {
        assert_eq!(parse(br#"{"error":{"code":"#), None);
        assert_eq!(parse(b""), None);
    }
}
