//! The reference of the configuration, `docs/configuration.md`, made of what its keys say about themselves.

use super::Config;
use super::section::{Description, Key, Table, Tables};
use std::fmt::Write;

/// What is said before the sections.
const INTRODUCTION: &str = r#"# Configuration

<!-- Written by `spillway config reference > docs/configuration.md`, of what host/src/config/ says about each key. -->

One TOML file: `spillway.toml` in the working directory, or `--config FILE`. Everything in it is optional. Relative paths are relative to the folder in which it lies.

| Command | What it does |
|---|---|
| `spillway check` | lists every mistake, with its line and what was probably meant |
| `spillway config show` | prints what the file says, as it was understood |
| `spillway config show --effective` | prints all that is in force, and marks what is a default |
| `spillway config schema` | prints JSON Schema, from which editors complete and explain keys |
| `spillway config reference` | prints this page |

Editors that speak TOML through taplo, such as VS Code with Even Better TOML, take the schema from the file's first line:

```sh
spillway config schema > spillway.schema.json
```

```toml
#:schema ./spillway.schema.json
```

A **duration** is a text with its units: `"500ms"`, `"30s"`, `"1h30m"`; from a millisecond to a year. A **size** likewise: `"64KiB"`, `"32MiB"`, `"1GiB"`. The policies' own tables, which policies carry an interpreter, and what stands in files of keys and of prices are followed while Spillway serves; everything else needs a restart.
"#;

/// The reference, in Markdown.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    write_table(&mut text, "", &Config::describe());
    text
}

fn write_table(text: &mut String, path: &str, table: &Description) {
    // Writing to a string cannot fail.
    if !table.doc.is_empty() {
        let _ = write!(text, "\n## `[{path}]`\n\n{}\n", table.doc);
    }
    if !table.keys.is_empty() {
        text.push_str("\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        for key in &table.keys {
            let _ = writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.kind, default(key), key.doc);
        }
    }
    let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match &table.tables {
        Tables::These(tables) => tables.iter().for_each(|(name, table)| write_table(text, &within(name), table)),
        Tables::Named(table) => write_table(text, &within("NAME"), table),
        Tables::Anything => {}
    }
}

fn default(key: &Key) -> String {
    match (key.default_words, &key.default) {
        (Some(words), _) => words.to_owned(),
        (None, Some(value)) => format!("`{value}`"),
        (None, None) => "none".to_owned(),
    }
}
