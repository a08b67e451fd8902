//! The configuration as JSON Schema, so that editors complete it, explain it and underline what is wrong with it.

use super::Config;
use super::section::{Description, Key, Table, Tables};
use serde_json::{Map, Value, json};

/// The dialect of JSON Schema that is written.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// JSON Schema of the configuration file. Rules between keys are not in it; `spillway check` knows them.
pub fn schema() -> Value {
    let mut schema = of_table(&Config::describe());
    schema.insert("title".to_owned(), "Spillway's configuration".into());
    // First, where tools look for it.
    let named = [("$schema".to_owned(), Value::from(DIALECT))];
    Value::Object(named.into_iter().chain(schema).collect())
}

fn of_table(table: &Description) -> Map<String, Value> {
    let mut properties: Map<String, Value> =
        table.keys.iter().map(|key| (key.name.to_owned(), Value::Object(of_key(key)))).collect();
    let others = match &table.tables {
        Tables::These(tables) => {
            properties.extend(tables.iter().map(|(name, table)| ((*name).to_owned(), of_table(table).into())));
            Value::Bool(false)
        }
        Tables::Named(table) => of_table(table).into(),
        Tables::Anything => Value::Bool(true),
    };
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    if !table.doc.is_empty() {
        schema.insert("description".to_owned(), table.doc.as_str().into());
    }
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), properties.into());
    }
    schema.insert("additionalProperties".to_owned(), others);
    schema
}

fn of_key(key: &Key) -> Map<String, Value> {
    let mut schema = match &key.schema {
        Value::Object(schema) => schema.clone(),
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    schema.insert("description".to_owned(), key.doc.as_str().into());
    let default = key.default.as_ref().filter(|_| key.default_words.is_none());
    if let Some(default) = default.and_then(|default| serde_json::to_value(default).ok()) {
        schema.insert("default".to_owned(), default);
    }
    schema
}
