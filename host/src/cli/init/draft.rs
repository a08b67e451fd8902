//! A configuration file in the making: live settings, and choices behind a `#` that stand there to be taken.
//!
//! As in other programs' files, a `#` with a space behind it begins a sentence, and one without a setting. What a
//! setting means, and its default, are the declarations' own words.

use crate::config::declared;

/// Longest line of a sentence, `#` included, in characters.
const LINE_MAX: usize = 100;

/// The text so far, and the table that the next settings belong to.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    table: String,
    /// Whether the table is itself a choice: then all that follows in it is one.
    is_choice: bool,
}

impl Draft {
    /// The file's text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A sentence, broken into lines.
    pub(super) fn say(&mut self, sentence: &str) {
        let mut line = "#".to_owned();
        for word in sentence.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > LINE_MAX {
                self.write(&line);
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        self.write(&line);
    }

    /// A table, with settings that are in force.
    pub(super) fn table(&mut self, path: &str) {
        self.is_choice = false;
        path.clone_into(&mut self.table);
        self.write(&format!("[{path}]"));
    }

    /// A table that stands there to be taken, with all that is in it.
    pub(super) fn choice_of_table(&mut self, path: &str) {
        self.is_choice = true;
        path.clone_into(&mut self.table);
        self.write(&format!("#[{path}]"));
    }

    /// An empty line.
    pub(super) fn space(&mut self) {
        self.write("");
    }

    /// A setting of the table, which is in force where the table is.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let mark = if self.is_choice { "#" } else { "" };
        self.write(&format!("{mark}{key} = {value}"));
    }

    /// A setting that stands there to be taken, with its default.
    pub(super) fn choice(&mut self, key: &str) {
        let default = declared(&format!("{}.{key}", self.table)).and_then(|declared| declared.default);
        // What has no default that can be written down is shown with an example, by `example`.
        if let Some(default) = default {
            self.write(&format!("#{key} = {default}"));
        }
    }

    /// The same, after what it means.
    pub(super) fn explained(&mut self, key: &str) {
        if let Some(declared) = declared(&format!("{}.{key}", self.table)) {
            self.say(&declared.doc);
        }
        self.choice(key);
    }

    /// A setting that stands there to be taken, with a value for an example, after what it means.
    pub(super) fn example(&mut self, key: &str, value: &str) {
        if let Some(declared) = declared(&format!("{}.{key}", self.table)) {
            self.say(&format!("{} An example:", declared.doc));
        }
        self.write(&format!("#{key} = {value}"));
    }

    /// The same without a word.
    pub(super) fn bare_example(&mut self, key: &str, value: &str) {
        self.write(&format!("#{key} = {value}"));
    }

    fn write(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_setting_means_and_its_default_are_the_declarations_words() {
        let mut draft = Draft::default();
        draft.table("spool");
        draft.explained("max_jobs");
        let text = draft.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[2]), ("[spool]", "#max_jobs = 100000"), "{text}");
        let said = lines[1].strip_prefix("# ").expect("a comment");
        assert!(crate::config::reference().contains(said), "the reference says it in other words: {said}");
    }

    #[test]
    fn sentences_are_broken_where_lines_are_too_long() {
        let mut draft = Draft::default();
        draft.say(&"word ".repeat(50));
        let text = draft.finish();
        assert!(
            text.lines().count() > 1 && text.lines().all(|line| line.starts_with("# word") && line.len() <= LINE_MAX)
        );
    }
}
