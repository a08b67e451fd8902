//! Whether a request is content with some text. One that asks for calls of tools, for JSON of a form or for sound
//! cannot be answered by a sentence that is always the same.

use super::raw;

/// Whether a request that generates asks for more than text: for tools, for a form of the answer, or for another
/// modality, in the words of any API. A body that cannot be read might.
pub(crate) fn wants_more_than_text(body: &[u8]) -> bool {
    let mut wants_more = false;
    let read = raw::members(body, |key, value| wants_more |= is_more(key, value));
    wants_more || read.is_none()
}

/// Whether this field asks for more.
fn is_more(key: &str, value: &str) -> bool {
    let inside = |keys: &[&str]| keys.iter().any(|key| raw::member(value, key).is_some_and(is_form));
    match key {
        "tools" | "functions" | "mcp_servers" | "web_search_options" | "audio" => is_set(value),
        // `format` is Ollama's.
        "response_format" | "output_format" | "format" => is_form(value),
        "text" | "output_config" => inside(&["format"]),
        "modalities" => is_modal(value),
        // What vLLM and llama.cpp have of their own.
        "structured_outputs" | "guided_json" | "guided_regex" | "guided_choice" | "guided_grammar" | "grammar"
        | "json_schema" => is_set(value),
        "generationConfig" | "generation_config" => {
            let mut wants_more = false;
            let _is_one = raw::members(value.as_bytes(), |key, value| wants_more |= is_more_of_google(key, value));
            wants_more
        }
        _ => false,
    }
}

/// Whether this setting of Google's asks for more.
fn is_more_of_google(key: &str, value: &str) -> bool {
    match key {
        "responseSchema"
        | "response_schema"
        | "responseJsonSchema"
        | "response_json_schema"
        | "speechConfig"
        | "speech_config" => is_set(value),
        "responseMimeType" | "response_mime_type" => is_set(value) && raw::text(value).as_deref() != Some("text/plain"),
        "responseModalities" | "response_modalities" => is_modal(value),
        _ => false,
    }
}

/// Whether there is something: neither null, nor empty.
fn is_set(value: &str) -> bool {
    let inside = value.strip_prefix(['[', '{', '"']).and_then(|rest| rest.strip_suffix([']', '}', '"']));
    value != "null" && inside.is_none_or(|inside| !inside.trim().is_empty())
}

/// Whether a form is set that is another one than text.
fn is_form(value: &str) -> bool {
    let kind = raw::member(value, "type").unwrap_or(value);
    is_set(value) && raw::text(kind).as_deref() != Some("text")
}

/// Whether a list names something else than text.
fn is_modal(value: &str) -> bool {
    let mut is_modal = false;
    let read = raw::elements(value.as_bytes(), |modality| {
        is_modal |= !raw::text(modality).is_some_and(|modality| modality.eq_ignore_ascii_case("text"));
    });
    is_set(value) && (is_modal || read.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_text_will_do_where_nothing_else_is_asked_for() {
        let bodies = [
            // Chat completions, and completions.
            r#"{"model":"m","messages":[{"role":"user","content":"tools"}]}"#,
            r#"{"tools":[ ],"functions":null,"response_format":{"type":"text"},"audio":null}"#,
            r#"{"modalities":["text"],"messages":[{"content":[{"type":"image_url"}]}]}"#,
            r#"{"prompt":"a"}"#,
            // Responses.
            r#"{"input":"a","text":{"format":{"type":"text"},"verbosity":"low"}}"#,
            // Ollama's chat.
            r#"{"format":""}"#,
            // Messages.
            r#"{"tools":[],"output_config":{"effort":"low"},"messages":[]}"#,
            // Gemini.
            r#"{"contents":[],"generationConfig":{"responseMimeType":"text/plain"}}"#,
            r#"{"generationConfig":{"responseModalities":["TEXT"],"temperature":1}}"#,
        ];
        for body in bodies {
            assert!(!wants_more_than_text(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn tools_forms_and_other_modalities_are_more_than_text() {
        let bodies = [
            r#"{"tools":[{"type":"function"}]}"#,
            r#"{"t\u006fols":[{"type":"function"}]}"#,
            r#"{"functions":[{"name":"f"}]}"#,
            r#"{"response_format":{"type":"json_object"}}"#,
            r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#,
            r#"{"modalities":["text","audio"]}"#,
            r#"{"audio":{"voice":"alloy"}}"#,
            r#"{"guided_json":{"type":"object"}}"#,
            r#"{"text":{"format":{"type":"json_schema"}}}"#,
            r#"{"tools":[{"type":"web_search"}]}"#,
            r#"{"format":"json"}"#,
            r#"{"format":{"type":"object"}}"#,
            r#"{"output_format":{"type":"json_schema"}}"#,
            r#"{"output_config":{"format":{"type":"json_schema"}}}"#,
            r#"{"mcp_servers":[{"url":"u"}]}"#,
            r#"{"tools":[{"functionDeclarations":[]}]}"#,
            r#"{"generationConfig":{"responseMimeType":"application/json"}}"#,
            r#"{"generation_config":{"response_schema":{"type":"OBJECT"}}}"#,
            r#"{"generationConfig":{"responseJsonSchema":{"type":"object"}}}"#,
            r#"{"generationConfig":{"responseModalities":["TEXT","IMAGE"]}}"#,
            "no JSON",
        ];
        for body in bodies {
            assert!(wants_more_than_text(body.as_bytes()), "{body}");
        }
    }
}
