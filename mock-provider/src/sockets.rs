//! WebSockets, as OpenAI's Realtime and Responses and Gemini's Live API speak over them; along other paths each message
//! is echoed.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::dialects::Answer;
use super::failures::Failure;
use super::observe::{Exchange, Outcome, RecordedRequest};
use super::plan::{Break, Step};
use super::reply::{Content, Reply};

/// A subprotocol that begins so is a key, and none to agree on.
const KEY: &str = "openai-insecure-api-key.";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Which API's messages a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Realtime,
    Responses,
    Live,
    Echo,
}

/// The head of an answer that agrees to a WebSocket; `None` if the request asks for none, or the reply is none that is
/// well.
pub(super) fn agree(request: &RecordedRequest, reply: &Reply) -> Option<(StatusCode, HeaderMap)> {
    let key = request.header("sec-websocket-key")?;
    let asks = request.header("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
    if !asks || !matches!(reply.content, Content::Healthy) || reply.status.is_some() {
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?);
    let offered = request.header("sec-websocket-protocol").unwrap_or_default();
    let agreed = offered.split(',').map(str::trim).find(|name| !name.is_empty() && !name.starts_with(KEY));
    if let Some(agreed) = agreed.and_then(|agreed| HeaderValue::from_str(agreed).ok()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, agreed);
    }
    headers.extend(reply.headers.clone());
    Some((StatusCode::SWITCHING_PROTOCOLS, headers))
}

/// Speaks until either side ends it. What a reply does within a stream it does between messages here: after so many of
/// them it waits, tells an error, or breaks off, which `break_off` prepares.
pub(super) async fn speak(
    connection: OnUpgrade,
    request: Arc<RecordedRequest>,
    reply: Reply,
    mut exchange: Exchange,
    break_off: impl Fn(Break) -> io::Error + Send,
) {
    let Ok(connection) = connection.await else { return };
    let mut session = Session {
        socket: WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await,
        steps: reply.steps.clone(),
        sent: 0,
        request,
        reply,
    };
    match session.speak().await {
        Ok(()) => exchange.settle(Outcome::Completed),
        Err(Some(kind)) => {
            // The error itself is for a body that is being sent.
            let _ = break_off(kind);
            exchange.settle(Outcome::Broken);
        }
        // It has gone without a goodbye.
        Err(None) => exchange.settle(Outcome::Aborted),
    }
}

struct Session {
    socket: Socket,
    request: Arc<RecordedRequest>,
    reply: Reply,
    steps: Vec<(Option<usize>, Step)>,
    /// Messages that were sent.
    sent: usize,
}

/// The script breaks it off in this way, or the client has gone.
type Broken = Option<Break>;

impl Session {
    async fn speak(&mut self) -> Result<(), Broken> {
        let api = Api::of(&self.request.path);
        if api == Api::Realtime {
            let model = self.model();
            self.send(json!({"type": "session.created", "event_id": "event_mock",
                "session": {"id": "sess_mock", "object": "realtime.session", "type": "realtime", "model": model}}))
                .await?;
        }
        self.follow_script().await?;
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                None => return Ok(()),
                Some(Err(_)) => return Err(None),
            };
            let text = match &message {
                Message::Text(text) => text.as_str(),
                Message::Binary(bytes) => str::from_utf8(bytes).unwrap_or_default(),
                // The library answers pings and closes as it goes on.
                _ => continue,
            };
            let json: Value = serde_json::from_str(text).unwrap_or(Value::Null);
            let kind = json["type"].as_str().unwrap_or_default();
            match (api, kind) {
                (Api::Echo, _) => self.send_message(message).await?,
                (Api::Realtime, "response.create") => self.respond().await?,
                (Api::Realtime, "session.update") => {
                    self.send(json!({"type": "session.updated", "event_id": "event_mock", "session": json["session"]}))
                        .await?;
                }
                (Api::Realtime, "conversation.item.create") => {
                    self.send(json!({"type": "conversation.item.added", "event_id": "event_mock",
                        "previous_item_id": null, "item": json["item"]}))
                        .await?;
                }
                (Api::Responses, "response.create") => self.stream_response(json).await?,
                (Api::Live, _) if json.get("setup").is_some() => {
                    self.send_binary(&json!({"setupComplete": {}})).await?
                }
                (Api::Live, _) => self.answer_live().await?,
                (Api::Realtime | Api::Responses, _) => {}
            }
        }
    }

    fn model(&self) -> String {
        let pairs = self.request.query.as_deref().unwrap_or_default().split('&');
        let named = pairs.filter_map(|pair| pair.strip_prefix("model=")).next();
        named.unwrap_or("mock-realtime").to_owned()
    }

    fn text(&self) -> String {
        self.reply.text.clone().unwrap_or_else(|| super::healthy::DEFAULT_TEXT.to_owned())
    }

    /// One answer of the Realtime API.
    async fn respond(&mut self) -> Result<(), Broken> {
        let text = self.text();
        let pieces: Vec<&str> = text.split_inclusive(' ').collect();
        let (input, output) = self.reply.usage.unwrap_or((4, pieces.len() as u64));
        let response = |status: &str, output: Value, usage: Value| {
            json!({"object": "realtime.response", "id": "resp_mock", "status": status, "status_details": null,
                "output": output, "conversation_id": "conv_mock", "usage": usage})
        };
        let of_item = json!({"event_id": "event_mock", "response_id": "resp_mock", "item_id": "item_mock",
            "output_index": 0, "content_index": 0});
        let with = |kind: &str, key: &str, value: &str| {
            let mut event = of_item.clone();
            (event["type"], event[key]) = (kind.into(), value.into());
            event
        };
        self.send(json!({"type": "response.created", "event_id": "event_mock",
            "response": response("in_progress", json!([]), Value::Null)}))
            .await?;
        for piece in pieces {
            self.send(with("response.output_text.delta", "delta", piece)).await?;
        }
        self.send(with("response.output_text.done", "text", &text)).await?;
        let item = json!({"id": "item_mock", "object": "realtime.item", "type": "message", "status": "completed",
            "role": "assistant", "content": [{"type": "output_text", "text": text}]});
        let usage = json!({"total_tokens": input + output, "input_tokens": input, "output_tokens": output});
        self.send(json!({"type": "response.done", "event_id": "event_mock",
            "response": response("completed", json!([item]), usage)}))
            .await
    }

    /// The events of a streamed response, each as a message.
    async fn stream_response(&mut self, mut asked: Value) -> Result<(), Broken> {
        asked["stream"] = true.into();
        let request = RecordedRequest {
            method: "POST".to_owned(),
            body: Bytes::from(asked.to_string()),
            json: asked,
            ..RecordedRequest::clone(&self.request)
        };
        for event in Answer::to(&self.reply, &request).events {
            let event = String::from_utf8_lossy(&event).into_owned();
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
            self.send_message(Message::text(data.to_owned())).await?;
        }
        Ok(())
    }

    /// One turn of the Live API, whose servers send JSON in binary messages.
    async fn answer_live(&mut self) -> Result<(), Broken> {
        let text = self.text();
        for piece in text.split_inclusive(' ') {
            self.send_binary(&json!({"serverContent": {"modelTurn": {"parts": [{"text": piece}]}}})).await?;
        }
        let (input, output) = self.reply.usage.unwrap_or((4, 5));
        self.send_binary(&json!({"serverContent": {"turnComplete": true}, "usageMetadata": {
            "promptTokenCount": input, "responseTokenCount": output, "totalTokenCount": input + output}}))
            .await
    }

    async fn send(&mut self, event: Value) -> Result<(), Broken> {
        self.send_message(Message::text(event.to_string())).await
    }

    async fn send_binary(&mut self, message: &Value) -> Result<(), Broken> {
        self.send_message(Message::binary(message.to_string().into_bytes())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Broken> {
        self.socket.send(message).await.map_err(|_| None)?;
        self.sent += 1;
        self.follow_script().await
    }

    /// Does what the script wants at this place. What names no place is done at the beginning.
    async fn follow_script(&mut self) -> Result<(), Broken> {
        while let Some(at) = self.steps.iter().position(|(wanted, _)| wanted.unwrap_or(0) <= self.sent) {
            match self.steps.remove(at).1 {
                Step::Send(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.socket.send(Message::text(text)).await.map_err(|_| None)?;
                }
                Step::Hold(pause) => pause.wait().await,
                Step::ErrorEvent => {
                    let failure = json!({"type": "error", "event_id": "event_mock",
                        "error": Failure::Overloaded.envelope(super::dialects::Dialect::OpenAi, None)["error"]});
                    self.socket.send(Message::text(failure.to_string())).await.map_err(|_| None)?;
                }
                Step::End => {
                    self.socket.close(None).await.map_err(|_| None)?;
                    return Err(None);
                }
                Step::Break(kind) => return Err(Some(kind)),
            }
        }
        Ok(())
    }
}

impl Api {
    fn of(path: &str) -> Api {
        match path {
            path if path.ends_with("/realtime") => Api::Realtime,
            path if path.ends_with("/responses") => Api::Responses,
            path if path.ends_with("BidiGenerateContent") => Api::Live,
            _ => Api::Echo,
        }
    }
}
