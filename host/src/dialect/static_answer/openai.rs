//! Chat completions, and the text completions before them.

use super::{Said, StaticAnswer};
use serde_json::{Value, json};

/// What the answers of a path look like. Mistral's other completions are answered as chat is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Chat,
    Text,
}

impl Form {
    fn of(path: &str) -> Self {
        let chat = ["/chat/completions", "/fim/completions", "/agents/completions"];
        if chat.iter().any(|end| path.ends_with(end)) { Form::Chat } else { Form::Text }
    }

    /// The prefix of an answer's id, what an answer is called, and what a stream's part of one is called.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Form::Chat => ("chatcmpl-", "chat.completion", "chat.completion.chunk"),
            Form::Text => ("cmpl-", "text_completion", "text_completion"),
        }
    }
}

pub(super) fn answer(said: &Said<'_>) -> StaticAnswer {
    let form = Form::of(said.path);
    if !said.streaming {
        let choices = (0..said.alternatives).map(|index| match form {
            Form::Chat => {
                let message = json!({"role": "assistant", "content": said.text, "refusal": null, "annotations": []});
                choice(index, ("message", message), Some("stop"))
            }
            Form::Text => choice(index, ("text", json!(said.text)), Some("stop")),
        });
        let mut body = object(said, form, form.words().1, choices.collect());
        body["usage"] = usage();
        return StaticAnswer::json(&body);
    }
    // Usage on demand is told of chat alone. It then stands in a part of its own, and as null in all others.
    let reports_usage = said.path.ends_with("/chat/completions") && !said.usage_withheld;
    let part = |choices: Vec<Value>, usage: Value| {
        let mut part = object(said, form, form.words().2, choices);
        if reports_usage {
            part["usage"] = usage;
        }
        part
    };
    let parts = (0..said.alternatives).flat_map(|index| {
        let (text, end) = match form {
            Form::Chat => {
                let text = json!({"role": "assistant", "content": said.text, "refusal": null});
                (("delta", text), ("delta", json!({})))
            }
            Form::Text => (("text", json!(said.text)), ("text", json!(""))),
        };
        [vec![choice(index, text, None)], vec![choice(index, end, Some("stop"))]]
    });
    let mut events: Vec<_> = parts.map(|choices| part(choices, Value::Null)).collect();
    if reports_usage {
        events.push(part(Vec::new(), usage()));
    }
    StaticAnswer::events(events).done()
}

impl StaticAnswer {
    /// With the words that end a stream of OpenAI's.
    fn done(self) -> Self {
        StaticAnswer { body: [&self.body[..], b"data: [DONE]\n\n"].concat().into(), ..self }
    }
}

fn object(said: &Said<'_>, form: Form, name: &str, choices: Vec<Value>) -> Value {
    json!({
        "id": format!("{}{}", form.words().0, said.id), "object": name, "created": said.created_unix_s,
        "model": said.model, "choices": choices, "system_fingerprint": null,
    })
}

fn choice(index: u64, (key, value): (&str, Value), finish_reason: Option<&str>) -> Value {
    json!({"index": index, key: value, "logprobs": null, "finish_reason": finish_reason})
}

fn usage() -> Value {
    json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
}
