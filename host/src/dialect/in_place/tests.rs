use super::*;
use proptest::prelude::*;

fn changed(body: &str, model: &str) -> Option<String> {
    let changed = with_model(&Bytes::copy_from_slice(body.as_bytes()), model)?;
    Some(String::from_utf8(changed.to_vec()).expect("Unicode"))
}

#[test]
fn a_model_is_replaced_wherever_it_stands_and_nothing_else_is() {
    let cases = [
        (r#"{"model":"a"}"#, r#"{"model":"new"}"#),
        (" {\n\t\"model\" : \"a\" ,\r\n \"x\":1.0}\n", " {\n\t\"model\" : \"new\" ,\r\n \"x\":1.0}\n"),
        (
            r#"{"seed":1e3,"model":"a","n":99999999999999999999}"#,
            r#"{"seed":1e3,"model":"new","n":99999999999999999999}"#,
        ),
        (r#"{"mod\u0065l":"a"}"#, r#"{"mod\u0065l":"new"}"#),
        (r#"{"model":"a","x":1,"model":"b"}"#, r#"{"model":"new","x":1,"model":"new"}"#),
        (r#"{"model":"new","x":1,"model":"b"}"#, r#"{"model":"new","x":1,"model":"new"}"#),
        (r#"{"model":null}"#, r#"{"model":"new"}"#),
        (r#"{"model":{"model":"a"}}"#, r#"{"model":"new"}"#),
        (r#"{"x":{"model":"a"},"y":"\"model\":\"a\""}"#, r#"{"model":"new","x":{"model":"a"},"y":"\"model\":\"a\""}"#),
        (r#"{"tools":[{"model":"a"}],"model":"a"}"#, r#"{"tools":[{"model":"a"}],"model":"new"}"#),
        (r#"{"x":"\ud800","model":"a","\udfff":0}"#, r#"{"x":"\ud800","model":"new","\udfff":0}"#),
        (r#"{}"#, r#"{"model":"new"}"#),
        (" { } ", " {\"model\":\"new\" } "),
    ];
    for (body, expected) in cases {
        assert_eq!(changed(body, "new").as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn a_model_is_written_as_json_whatever_is_in_its_name() {
    assert_eq!(changed(r#"{"model":1}"#, "a\"b\\c\n").as_deref(), Some(r#"{"model":"a\"b\\c\n"}"#));
}

#[test]
fn a_body_that_names_the_model_already_is_the_same_bytes() {
    for text in [r#"{"model":"new"}"#, r#"{"model":"n\u0065w"}"#, r#"{"model":"new","model":"\u006eew"}"#] {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let same = with_model(&body, "new").expect("an object");
        assert_eq!((same.as_ptr(), same.len()), (body.as_ptr(), body.len()), "{text}");
    }
}

#[test]
fn what_is_no_object_has_no_model() {
    for body in
        ["", "[]", "\"model\"", "{", "{\"model\":\"a\"", "{\"model\":\"a\"} {}", "{\"model\":\"a\",}", "data: {}"]
    {
        assert_eq!(changed(body, "new"), None, "{body}");
    }
}

/// Blanks as JSON knows them.
const BLANK: &str = "[ \t\r\n]{0,2}";

/// A text as it may be written: escapes, whole and half pairs of surrogates, quotes, brackets.
fn written_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => r#"[a-zäß{}\[\],: ]{1,4}"#,
        1 => Just("\\\"".to_owned()),
        1 => Just("\\\\".to_owned()),
        1 => Just("\\u006D".to_owned()),
        1 => Just("\\ud83d\\ude00".to_owned()),
        1 => Just("\\ud83d".to_owned()),
        1 => Just("model".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn written_value() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![number, written_text(), "(true|false|null)", r#"\{"model":"m"\}"#];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let element = (BLANK, inner.clone(), BLANK).prop_map(|(before, value, behind)| before + &value + &behind);
        let member = (BLANK, written_text(), BLANK, inner, BLANK)
            .prop_map(|(before, key, blank, value, behind)| format!("{before}{key}{blank}:{value}{behind}"));
        prop_oneof![
            prop::collection::vec(element, 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// How a member's text begins, its value, and how it ends; and whether it is a model.
fn written_member() -> impl Strategy<Value = (String, String, String, bool)> {
    let key = prop_oneof![
        2 => Just((r#""model""#.to_owned(), true)),
        1 => Just((r#""m\u006fdel""#.to_owned(), true)),
        1 => Just((r#""Model""#.to_owned(), false)),
        // The x tells these from a model.
        6 => written_text().prop_map(|text| (format!("\"x{}", &text[1..]), false)),
    ];
    (BLANK, key, BLANK, BLANK, written_value(), BLANK).prop_map(|(before, (key, is_model), a, b, value, behind)| {
        (format!("{before}{key}{a}:{b}"), value, behind, is_model)
    })
}

proptest! {
    #[test]
    fn the_output_is_the_input_but_for_the_models(
        members in prop::collection::vec(written_member(), 0..6),
        blank in BLANK,
        model in "[a-z\"\\\\/\n\u{1f600}]{0,8}",
    ) {
        let new = Value::from(&*model).to_string();
        // A value that means the same already stays as it is written.
        let means_it = |value: &str| raw::text(value).as_deref() == Some(&*model);
        let text = |changes: bool| {
            let written = members.iter().map(|(before, value, behind, is_model)| {
                let value = if changes && *is_model && !means_it(value) { &new } else { value };
                format!("{before}{value}{behind}")
            });
            written.collect::<Vec<_>>().join(",")
        };
        let has_model = members.iter().any(|(_, _, _, is_model)| *is_model);
        let inserted = match (has_model, members.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("\"model\":{new}"),
            (false, false) => format!("\"model\":{new},"),
        };
        let body = format!("{blank}{{{}{blank}}}{blank}", text(false));
        let expected = format!("{blank}{{{inserted}{}{blank}}}{blank}", text(true));
        let output = changed(&body, &model).expect("an object");
        prop_assert_eq!(&output, &expected);
        let mut models = Vec::new();
        raw::members(output.as_bytes(), |key, value| {
            if key == "model" {
                models.push(raw::text(value).map(std::borrow::Cow::into_owned));
            }
        });
        prop_assert!(!models.is_empty() && models.iter().all(|named| named.as_deref() == Some(&*model)));
        prop_assert_eq!(changed(&output, &model), Some(output));
    }

    #[test]
    fn no_bytes_are_too_odd(body in prop::collection::vec(any::<u8>(), 0..40), model in ".{0,8}") {
        let is_object = serde_json::from_slice::<serde_json::Map<String, Value>>(&body).is_ok();
        let changed = with_model(&Bytes::from(body), &model);
        prop_assert!(!is_object || changed.is_some());
    }
}
