//! Makes `host/src/prices/table.json` of LiteLLM's table, `model_prices_and_context_window.json`: those vendors, and
//! those keys, that Spillway reads. A model is a line, so that a change can be read.
//!
//! `cargo run -p spillway --example price_table -- FILE DAY > host/src/prices/table.json`

use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::ExitCode;

/// Vendors at whose hosts an upstream may be, as LiteLLM calls them. Those of Vertex have many names.
const VENDORS: [&str; 25] = [
    "anthropic",
    "azure",
    "azure_ai",
    "bedrock",
    "bedrock_converse",
    "cerebras",
    "cohere",
    "cohere_chat",
    "dashscope",
    "deepinfra",
    "deepseek",
    "fireworks_ai",
    "gemini",
    "groq",
    "minimax",
    "mistral",
    "moonshot",
    "openai",
    "perplexity",
    "sambanova",
    "text-completion-openai",
    "together_ai",
    "voyage",
    "xai",
    "zai",
];

/// How the keys begin that are read.
const KEYS: [&str; 9] = [
    "input_cost_per_token",
    "output_cost_per_token",
    "input_cost_per_audio_token",
    "output_cost_per_audio_token",
    "input_cost_per_image_token",
    "output_cost_per_image_token",
    "output_cost_per_reasoning_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
];

/// Rows of one region, or of models that somebody else sells as well, have names of this many parts.
const PARTS_MAX: [(&str, usize); 3] = [("azure", 2), ("bedrock", 1), ("perplexity", 2)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, day] = &arguments[..] else {
        eprintln!("expected LiteLLM's file, and the day on which it was taken, such as 2026-11-30");
        return ExitCode::from(2);
    };
    let made = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match made.and_then(|text| table(&text, day)) {
        Ok(table) => match std::io::stdout().write_all(table.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(text: &str, day: &str) -> Result<String, String> {
    let models: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut lines = vec![format!("\"_as_of\":\"{day}\"")];
    for (name, row) in models {
        let Ok(row) = serde_json::from_str::<BTreeMap<String, &RawValue>>(row.get()) else { continue };
        let fields = fields(&name, &row);
        if !fields.is_empty() {
            lines.push(format!("{}:{{{}}}", serde_json::Value::from(name), fields.join(",")));
        }
    }
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// What is kept of a row; nothing, where it is of no use.
fn fields(name: &str, row: &BTreeMap<String, &RawValue>) -> Vec<String> {
    let vendor: String =
        row.get("litellm_provider").and_then(|vendor| serde_json::from_str(vendor.get()).ok()).unwrap_or_default();
    let is_known = VENDORS.contains(&&*vendor) || vendor.starts_with("vertex_ai");
    let parts = PARTS_MAX.iter().find(|(known, _)| *known == vendor).map_or(usize::MAX, |(_, parts)| *parts);
    if !is_known || name.split('/').count() > parts {
        return Vec::new();
    }
    let is_price = |key: &str| KEYS.iter().any(|begin| key.starts_with(begin));
    let mut kept: Vec<String> = Vec::new();
    for (key, value) in row {
        let written = value.get();
        match &**key {
            "mode" if written == "\"image_generation\"" => kept.push(format!("\"mode\":{written}")),
            "tiered_pricing" => kept.push(format!("\"{key}\":{}", compact(written))),
            "provider_specific_entry" => {
                let entry: HashMap<String, &RawValue> = serde_json::from_str(written).unwrap_or_default();
                kept.extend(entry.get("fast").map(|fast| format!("\"{key}\":{{\"fast\":{}}}", fast.get())));
            }
            key if is_price(key) && written.starts_with(|first: char| first.is_ascii_digit()) => {
                kept.push(format!("\"{key}\":{written}"));
            }
            _ => {}
        }
    }
    // Where all that is known costs nothing, nothing is known.
    let costs = |field: &String| !(field.ends_with(":0") || field.ends_with(":0.0"));
    if kept.iter().any(costs) { kept } else { Vec::new() }
}

/// JSON without the spaces and the lines between its parts; in these tables there are none within texts.
fn compact(written: &str) -> String {
    written.split_whitespace().collect()
}
