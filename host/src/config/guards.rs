//! `[guards]`: what stops agents that run away.

use super::kind::{AboveOrOff, Flag, List, Whole, ZeroIsOff};
use super::limits::QUOTA_MAX;
use super::reader::{Section, nearest};
use super::section::{Description, Key, Table, section};
use spillway_resilience::{GuardKind, GuardSet, RunawaySettings};
use std::borrow::Cow;
use std::path::Path;

/// Most turns and repetitions that make sense to write down.
const TIMES: ZeroIsOff<Whole> = ZeroIsOff(Whole(0..=1_000_000));
/// Numbers of tokens that make sense to write down.
const TOKENS: ZeroIsOff<Whole> = ZeroIsOff(Whole(0..=QUOTA_MAX));

section! {
    /// Guards against agents that run away: programs that ask again and again, or for more and more, since they no
    /// longer notice that they should stop. All are off by default. [guards.md](guards.md) says what each counts, and
    /// what its callers hear. They are for accidents; whoever means harm can evade most of them, and budgets are for
    /// that.
    pub struct GuardsConfig {
        /// Most tokens that one request may cost, input and the most that may be answered together, as they are
        /// [estimated](estimates.md).
        max_tokens_per_request: Option<u64> = None, TOKENS;
        /// Most turns of one conversation.
        max_turns_per_conversation: Option<u64> = None, TIMES;
        /// Tokens, input and output together, after which a conversation gets no further turn.
        max_tokens_per_conversation: Option<u64> = None, TOKENS;
        /// Tokens, input and output together, after which a caller gets no further request until less than that was
        /// used within an hour. A caller is a key; without one a tenant, or a credential.
        max_tokens_per_hour: Option<u64> = None, TOKENS;
        /// How often the same request may come in a row, from the same caller.
        max_repeats: Option<u64> = None, TIMES;
        /// How many times as many tokens as they used to a caller's requests may cost.
        growth_alarm: Option<f64> = None, AboveOrOff(1.0);
        /// Guards that refuse nothing: what they find is told in the log, counted, and shown by `spillway status`.
        warn_only: Vec<GuardKind> = vec![GuardKind::Growth], List("names of guards", guard);
        /// Whether that is so for all of them: to see what they would refuse.
        watch_only: bool = false, Flag;
    }
}

impl GuardsConfig {
    pub(super) fn read(section: Section<'_>) -> GuardsConfig {
        let guards = GuardsConfig::fresh(section.folder());
        guards.with(section)
    }

    /// These, but for what a section says.
    fn with(mut self, section: Section<'_>) -> GuardsConfig {
        self.take(&section);
        section.finish();
        self
    }

    /// The same as the guards take it.
    pub fn settings(&self) -> RunawaySettings {
        RunawaySettings {
            max_tokens_per_request: self.max_tokens_per_request,
            max_turns_per_conversation: self.max_turns_per_conversation,
            max_tokens_per_conversation: self.max_tokens_per_conversation,
            max_tokens_per_hour: self.max_tokens_per_hour,
            max_repeats: self.max_repeats,
            growth_alarm: self.growth_alarm,
            warn_only: GuardSet::of(&self.warn_only),
            watch_only: self.watch_only,
        }
    }
}

/// Guards of somebody's own, beside `[guards]`.
#[derive(Clone, Debug)]
pub struct OwnGuards(pub GuardsConfig);

impl OwnGuards {
    /// None that differ.
    pub(super) fn fresh(folder: &Path) -> OwnGuards {
        OwnGuards(GuardsConfig::fresh(folder))
    }

    /// Those that a section says, and the others as they are for all.
    pub(super) fn read(section: Section<'_>, of_all: &GuardsConfig) -> OwnGuards {
        OwnGuards(of_all.clone().with(section))
    }
}

impl Table for OwnGuards {
    fn describe() -> Description {
        let of_all = GuardsConfig::describe();
        let keys = of_all.keys.into_iter().map(|key| Key { default_words: Some("as in `[guards]`"), ..key });
        let doc = "Guards against agents that run away, where they differ from `[guards]`; 0 switches one off.";
        Description { doc: doc.to_owned(), keys: keys.collect(), tables: of_all.tables }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<toml::Value>)> {
        self.0.entries()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.0.tables()
    }
}

fn guard(word: &str) -> Result<GuardKind, String> {
    let names = GuardKind::ALL.map(GuardKind::as_str);
    let known = GuardKind::ALL.into_iter().find(|guard| guard.as_str() == word);
    known.ok_or_else(|| match nearest(word, &names) {
        Some(near) => format!("there is no guard \"{word}\"; did you mean \"{near}\"?"),
        None => format!("there is no guard \"{word}\"; they are {}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use spillway_resilience::{GuardKind, RunawaySettings};
    use std::path::Path;

    #[test]
    fn all_guards_are_off_and_growth_only_warns_unless_something_else_is_said() {
        let settings = |text: &str| parse(text, Path::new("")).expect("a configuration").guards.settings();
        let off = settings("");
        assert!(!off.is_on());
        assert_eq!(off.warn_only, RunawaySettings::DEFAULT_WARN_ONLY);
        let on = settings("[guards]\nmax_repeats = 3\ngrowth_alarm = 4\nwarn_only = [\"max_repeats\"]");
        assert!(on.is_on() && on.refuses(GuardKind::Growth) && !on.refuses(GuardKind::Repeats));
        let watching = settings("[guards]\nmax_turns_per_conversation = 3\nwatch_only = true");
        assert!(GuardKind::ALL.into_iter().all(|guard| !watching.refuses(guard)));
    }

    #[test]
    fn a_tenant_may_differ_in_some_of_them() {
        let text = "[guards]\nmax_repeats = 3\nmax_tokens_per_hour = 1000\n[tenants.monitor.guards]\nmax_repeats = 0\n\
                    [tenants.shop]\nweight = 2";
        let config = parse(text, Path::new("")).expect("a configuration");
        let of = |tenant: &str| config.tenants[tenant].guards.0.settings();
        assert_eq!((of("monitor").max_repeats, of("monitor").max_tokens_per_hour), (None, Some(1_000)));
        assert_eq!(of("shop"), config.guards.settings());
    }

    #[test]
    fn a_guard_that_does_not_exist_is_a_mistake_with_what_was_meant() {
        let text = "[guards]\nwarn_only = [\"max_repeat\", \"everything\"]\ngrowth_alarm = 1";
        let found: Vec<String> =
            parse(text, Path::new("")).expect_err("mistakes").iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found.concat().contains("did you mean \"max_repeats\"?"), "{found:#?}");
        assert!(found.concat().contains("they are max_tokens_per_request, "), "{found:#?}");
        assert!(found.concat().contains("must be a number above 1"), "{found:#?}");
    }
}
