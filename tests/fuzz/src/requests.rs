//! Requests: whatever stands in one, its readers find what a plain reading of its JSON finds, and what they change is
//! what they are asked to change.

use crate::dialect::auth::{Auth, Credential};
use crate::dialect::conversation::conversation;
use crate::dialect::estimate::Estimate;
use crate::dialect::kept::references;
use crate::dialect::library::Library;
use crate::dialect::plain::wants_more_than_text;
use crate::dialect::preference::Preference;
use crate::dialect::signature::Signature;
use crate::dialect::{Dialect, Operation, Parameters, Tier, compression, headers, query, with_model};
use crate::message::Message;
use bytes::Bytes;
use serde_json::Value;

/// More of a compressed body is not decoded here. The proxy reads more, which would only be slower.
const DECODED_BYTES_MAX: usize = 64 << 10;
/// What is known of output where a request names no bound of it.
const OUTPUT_DEFAULT: u64 = 1_024;
/// As much is kept of a text by those who read single fields.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// What must hold of any bytes that come as a request: its line, its headers, an empty line, its body.
pub fn check(bytes: &[u8]) {
    let Message { line, headers, body } = Message::read(bytes);
    let path_and_query = line.get(1).copied().unwrap_or("/");
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    check_head(path_and_query, query, &headers);

    let body = compression::decoded(&headers, body, DECODED_BYTES_MAX);
    let recognised = Dialect::recognise(path, &headers).unwrap_or(Dialect::Other);
    for spoken in Dialect::ALL {
        let (dialect, operation) = spoken.along(path);
        assert_eq!(operation == Operation::Generate, Dialect::operation(path).is_some() && spoken != Dialect::Other);
        let dialect = dialect.in_body(path, &body);
        let asked = dialect.read_request(path, &body);
        if let Ok(json) = serde_json::from_slice::<Value>(&body)
            && let Some(plainly) = read_plainly(dialect, path, &json)
        {
            assert_eq!(asked, plainly, "{dialect:?} {path}");
        }
        let estimate = Estimate::of(dialect, &asked, &body, OUTPUT_DEFAULT, None);
        assert!(estimate.total >= estimate.input, "{estimate:?}");
        let _canonical = dialect.canonical_path(path, true);
        let _told = conversation(dialect, path, &headers, &body);
        let _kept = references(dialect, path, &body);
    }
    let _wants_more = wants_more_than_text(&body);
    assert!(Dialect::ALL.contains(&recognised));
    check_other_model(path, &body);
}

fn check_head(path_and_query: &str, query: &str, received: &http::HeaderMap) {
    let _preference = Preference::read(received);
    let _library = Library::of(received);
    let _loop = headers::is_loop(received);
    let upstream = headers::for_upstream(received, "upstream", true, Signature::of(received, query));
    assert!(!upstream.contains_key("connection") && upstream.get("host").is_some_and(|host| host == "upstream"));
    let shown: Vec<Vec<u8>> = headers::credentials(received, query).map(<[u8]>::to_vec).collect();
    assert_eq!(headers::credential(received, query).map(<[u8]>::to_vec), shown.first().cloned());
    // With a key of ours in their place, none of the caller's own is left.
    for auth in Auth::ALL {
        let (mut placed, mut to) = (received.clone(), path_and_query.to_owned());
        let ours = Credential::new(auth, "sk-ours").expect("a key that a header can hold");
        ours.place(&mut placed, &mut to);
        let query = to.split_once('?').map_or("", |(_, query)| query);
        let left: Vec<&[u8]> = headers::credentials(&placed, query).collect();
        assert_eq!(left, [ours.as_bytes()], "{auth:?}: {to}");
    }
    let mut same = path_and_query.to_owned();
    query::remove(&mut same, |_| false);
    assert_eq!(same, path_and_query);
}

fn check_other_model(path: &str, body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    for model in ["new", "a/b?c d", "ft:x@1", "\u{1f600}\"\\"] {
        let Some((renamed, changed)) = with_model(path, &body, model) else {
            assert!(!is_object(&body), "an object can name a model");
            continue;
        };
        if renamed == path && Dialect::Gemini.read_request(path, b"").model.is_none() {
            assert_eq!(Dialect::OpenAi.read_request("/", &changed).model.as_deref(), Some(model));
        } else {
            let named = Dialect::Gemini.read_request(&renamed, b"").model.expect("a model in the path");
            assert_eq!(query::decoded(&named), query::decoded(model), "{renamed}");
        }
    }
}

fn is_object(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, Value>>(body).is_ok()
}

/// The tier that a word of OpenAI's asks for; the usual one for any other word.
fn openais_tier(said: &Value) -> Tier {
    let word = said.as_str().unwrap_or_default();
    if word == "fast" {
        return Tier::Priority;
    }
    let word = word.trim_start_matches("ON_DEMAND_").trim_start_matches("SERVICE_TIER_").to_ascii_lowercase();
    Tier::ALL.into_iter().find(|tier| tier.as_str() == word).unwrap_or_default()
}

/// What a reader finds who has parsed all of it, where it is an object; of keys that stand twice the last one counts.
/// `None` where a request of this dialect is read by other things than its body.
fn read_plainly(dialect: Dialect, path: &str, json: &Value) -> Option<Parameters> {
    let number = |value: &Value| {
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
        value.as_u64().or_else(|| whole.and_then(|number| format!("{number:.0}").parse().ok()))
    };
    let text = |value: &Value| value.as_str().map(|text| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned());
    let in_path = Dialect::Other.read_request(path, b"").model;
    let prompts = |value: &Value| match value.as_array() {
        Some(list) if !list.iter().any(Value::is_number) => list.len().max(1) as u64,
        _ => 1,
    };
    match dialect {
        Dialect::Anthropic => Some(Parameters {
            model: text(&json["model"]).or(in_path),
            streaming: json["stream"] == true,
            output_tokens_max: number(&json["max_tokens"]),
            tier: if json["speed"] == "fast" { Tier::Fast } else { Tier::Standard },
            ..Parameters::default()
        }),
        Dialect::OpenAi => {
            let streaming = json["stream"] == true;
            let alternatives = number(&json["n"]).unwrap_or(1).max(1).saturating_mul(prompts(&json["prompt"]));
            let bounds = ["/max_completion_tokens", "/max_output_tokens", "/max_tokens"];
            let bound = bounds.iter().find_map(|bound| number(json.pointer(bound)?));
            let embeds = path.ends_with("/embeddings");
            let is_withheld = path.ends_with("/chat/completions") && json["stream_options"]["include_usage"] != true;
            let asked = Parameters {
                model: text(&json["model"]).or(in_path.clone()),
                streaming,
                creates: json["background"] == true || !json["conversation"].is_null(),
                alternatives,
                prompts: if embeds { prompts(&json["input"]) } else { prompts(&json["prompt"]) },
                output_tokens_max: if embeds { Some(0) } else { bound.map(|bound| bound.saturating_mul(alternatives)) },
                usage_withheld: streaming && is_withheld,
                tier: openais_tier(&json["service_tier"]),
            };
            Some(if json.is_object() { asked } else { Parameters { model: in_path, ..Parameters::default() } })
        }
        Dialect::Ollama => {
            let embeds = path.ends_with("/embed");
            let bound = json.pointer("/options/num_predict").and_then(number);
            let asked = Parameters {
                model: text(&json["model"]).or(in_path.clone()),
                streaming: !embeds && json["stream"] != false,
                prompts: if embeds { prompts(&json["input"]) } else { 1 },
                output_tokens_max: if embeds { Some(0) } else { bound },
                ..Parameters::default()
            };
            let unread = Parameters {
                model: in_path,
                streaming: !embeds,
                output_tokens_max: embeds.then_some(0),
                ..Parameters::default()
            };
            Some(if json.is_object() { asked } else { unread })
        }
        Dialect::Gemini | Dialect::Other => None,
    }
}
