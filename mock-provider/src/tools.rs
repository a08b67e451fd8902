//! Tool calls, in the shapes of each API.

use serde_json::{Value, json};

/// What is called where the request offers no tool and the script names none.
const DEFAULT_NAME: &str = "get_weather";

/// A call of a tool, as the script wants it.
#[derive(Clone, Debug)]
pub(super) struct Scripted {
    /// `None`: the first tool that the request offers.
    pub(super) name: Option<String>,
    pub(super) arguments: Value,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { name: None, arguments: json!({"city": "Paris"}) }
    }
}

/// A call of a tool within one answer.
pub(super) struct ToolCall {
    index: usize,
    id: String,
    name: String,
    arguments: Value,
}

impl ToolCall {
    /// The calls of the answer to this request. Ids are the same for the same request of a provider's life.
    pub(super) fn answering(scripted: &[Scripted], request: &Value, number: u64) -> Vec<Self> {
        let offered = first_tool(request).unwrap_or(DEFAULT_NAME);
        let calls = scripted.iter().enumerate().map(|(index, call)| Self {
            index,
            id: format!("mock{number:06}{index}"),
            name: call.name.as_deref().unwrap_or(offered).to_owned(),
            arguments: call.arguments.clone(),
        });
        calls.collect()
    }

    /// The arguments as they are streamed: in two pieces, of which neither is JSON.
    fn pieces(&self) -> [String; 2] {
        let text = self.arguments.to_string();
        let middle = (text.len() / 2..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (first, second) = text.split_at(middle);
        [first.to_owned(), second.to_owned()]
    }

    pub(super) fn in_chat(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments.to_string()});
        json!({"id": format!("call_{}", self.id), "type": "function", "function": function})
    }

    pub(super) fn chat_deltas(&self) -> Vec<Value> {
        let opening = json!({"index": self.index, "id": format!("call_{}", self.id), "type": "function",
                             "function": {"name": self.name, "arguments": ""}});
        let pieces = self.pieces().map(|piece| json!({"index": self.index, "function": {"arguments": piece}}));
        std::iter::once(opening).chain(pieces).map(|call| json!({"tool_calls": [call]})).collect()
    }

    pub(super) fn in_responses(&self, status: &str, whole: bool) -> Value {
        let arguments = if whole { self.arguments.to_string() } else { String::new() };
        json!({"type": "function_call", "id": format!("fc_{}", self.id), "call_id": format!("call_{}", self.id),
               "name": self.name, "arguments": arguments, "status": status})
    }

    pub(super) fn responses_events(&self, output_index: usize) -> Vec<(&'static str, Value)> {
        let id = format!("fc_{}", self.id);
        let item = |status, whole| json!({"output_index": output_index, "item": self.in_responses(status, whole)});
        let mut events = vec![("response.output_item.added", item("in_progress", false))];
        events.extend(self.pieces().map(|piece| {
            let delta = json!({"item_id": id, "output_index": output_index, "delta": piece});
            ("response.function_call_arguments.delta", delta)
        }));
        let done = json!({"item_id": id, "output_index": output_index, "name": self.name,
                          "arguments": self.arguments.to_string()});
        events.push(("response.function_call_arguments.done", done));
        events.push(("response.output_item.done", item("completed", true)));
        events
    }

    pub(super) fn in_messages(&self) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_{}", self.id), "name": self.name, "input": self.arguments})
    }

    pub(super) fn messages_events(&self, index: usize) -> Vec<Value> {
        let mut block = self.in_messages();
        block["input"] = json!({});
        let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
        events.extend(self.pieces().map(|piece| {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            json!({"type": "content_block_delta", "index": index, "delta": delta})
        }));
        events.push(json!({"type": "content_block_stop", "index": index}));
        events
    }

    pub(super) fn in_gemini(&self) -> Value {
        json!({"functionCall": {"name": self.name, "args": self.arguments}})
    }
}

/// The first tool that a request offers, wherever its API names it.
fn first_tool(request: &Value) -> Option<&str> {
    let tool = request["tools"].get(0)?;
    let places = [&tool["function"]["name"], &tool["name"], &tool["functionDeclarations"][0]["name"]];
    places.into_iter().find_map(Value::as_str)
}
