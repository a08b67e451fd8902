//! Whether a virtual key is for a request: for the model that it asks for, and for whoever is to serve it.

use crate::dialect::Operation;
use crate::keys::table::Key;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::InboundRequest;
use http::Method;

/// Paths that count the tokens of a prompt, and cost nothing. Their bodies are not read, so that their models are not
/// known.
const COUNTING: [&str; 2] = ["/messages/count_tokens", "/responses/input_tokens"];

/// Whether the key that the request's caller has shown, if it has shown one, is for this request at this route, or at
/// this upstream where no route takes it.
///
/// # Errors
/// What it is for instead.
pub(super) fn check(request: &InboundRequest, route: &str) -> Result<(), Refusal> {
    let Some(key) = &request.caller.key else { return Ok(()) };
    if !key.allows_route(route) {
        return Err(forbids(format!("what {route} serves"), "routes and upstreams", &key.record.routes));
    }
    check_model(key, request)
}

fn check_model(key: &Key, request: &InboundRequest) -> Result<(), Refusal> {
    if key.allows_any_model() {
        return Ok(());
    }
    let asks_for = match &request.parameters.model {
        Some(model) if key.allows_model(model) => return Ok(()),
        Some(model) => format!("the model {model}"),
        None if spends_nothing(request) => return Ok(()),
        None => "requests whose model is not known, such as this one".to_owned(),
    };
    Err(forbids(asks_for, "models", &key.record.models))
}

/// Whether a request that names no model makes none answer: it looks at something, deletes it, or counts.
fn spends_nothing(request: &InboundRequest) -> bool {
    let looks = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    let passes = request.operation == Operation::PassThrough;
    let counts = COUNTING.iter().any(|end| request.path().ends_with(end));
    // What a connection is used for is not known either.
    passes && request.upgrade.is_none() && (looks || counts)
}

fn forbids(what: String, of: &str, allowed: &[String]) -> Refusal {
    RefusalKind::KeyForbids { what, allowed: format!("these {of}: {}", allowed.join(", ")) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::keys::record::KeyRecord;
    use crate::keys::record::tests::record;
    use crate::keys::table::KeyTable;
    use crate::observe::labels::Label;
    use crate::proxy::load_share::{HeldBytes, LoadShare};
    use crate::proxy::request::InboundBody;
    use crate::proxy::route::RequestLine;
    use crate::runtime::gauge::Gauge;
    use crate::tenants::callers::Caller;
    use bytes::Bytes;
    use http::HeaderMap;
    use spillway_resilience::{Priority, Tenant};
    use std::sync::Arc;
    use tokio::time::Instant;

    fn caller(key: Option<Arc<Key>>) -> Caller {
        let (tenant, priority) = (Tenant::new(1), Priority::Normal);
        Caller {
            tenant,
            name: None,
            priority,
            credential: 0,
            may_spend: true,
            key,
            gate: None,
            payer: None,
            group: None,
            label: Label::default(),
            guards: None,
        }
    }

    fn share() -> LoadShare {
        LoadShare::of(Arc::<Gauge>::default().begin(), &Arc::new(HeldBytes::of_at_most(1)))
    }

    fn request(method: Method, path: &str, body: &'static str, key: Option<Arc<Key>>) -> InboundRequest {
        let (dialect, operation) = Dialect::OpenAi.along(path.split('?').next().unwrap_or_default());
        let operation = if method == Method::POST { operation } else { Operation::PassThrough };
        let line = RequestLine { dialect, operation, path_and_query: path.to_owned() };
        let body = InboundBody::Whole(Bytes::from_static(body.as_bytes()));
        let parts = (method, HeaderMap::new());
        InboundRequest::new(line, parts, body, "id".into(), caller(key), Instant::now(), share())
    }

    fn key(models: &[&str], routes: &[&str]) -> Arc<Key> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let table = KeyTable::default();
        table.replace(vec![KeyRecord { models: owned(models), routes: owned(routes), ..record("k_1", "one") }]);
        table.of_id("k_1", 0).expect("a key")
    }

    #[test]
    fn a_key_is_for_the_models_that_it_names_and_for_what_makes_no_model_answer() {
        let (chat, post, get) = ("/v1/chat/completions", Method::POST, Method::GET);
        let cases = [
            (&post, chat, r#"{"model": "gpt-5-mini"}"#, true),
            (&post, chat, r#"{"model": "gpt-4o"}"#, false),
            (&post, chat, r#"{"model": "gpt-5", "model": "gpt-4o"}"#, false),
            (&post, chat, r#"{"messages": []}"#, false),
            (&post, chat, "no JSON", false),
            (&post, "/v1/files", "", false),
            (&post, "/v1/batches", r#"{"model": "gpt-5"}"#, false),
            (&post, "/v1/messages/count_tokens", r#"{"model": "gpt-4o"}"#, true),
            (&post, "/v1/responses/input_tokens", "{}", true),
            (&get, "/v1/models", "", true),
            (&Method::DELETE, "/v1/files/1", "", true),
            (&post, "/v1beta/models/gpt-5:generateContent", "{}", true),
            (&post, "/v1beta/models/gemini:generateContent", r#"{"model": "gpt-5"}"#, false),
        ];
        for (method, path, body, passes) in cases {
            let narrow = request(method.clone(), path, body, Some(key(&["gpt-5*", "o4"], &[])));
            let found = check(&narrow, "openai");
            assert_eq!(found.is_ok(), passes, "{method} {path} {body}");
            if let Err(refusal) = found {
                assert!(refusal.reason().contains("these models: gpt-5*, o4"), "{}", refusal.reason());
            }
            for wide in [None, Some(key(&[], &[]))] {
                assert!(check(&request(method.clone(), path, body, wide), "openai").is_ok());
            }
        }
    }

    #[test]
    fn a_key_is_for_the_routes_that_it_names_and_hears_of_no_other() {
        let with = |route| check(&request(Method::GET, "/v1/models", "", Some(key(&[], &["chat", "azure"]))), route);
        assert!(with("chat").is_ok() && with("azure").is_ok());
        let told = with("secret-route").expect_err("not for it").reason();
        assert!(told.contains("these routes and upstreams: chat, azure"), "{told}");
    }
}
