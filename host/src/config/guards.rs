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
        let mut guards = GuardsConfig::fresh(section.folder());
        guards.take(&section);
        section.finish();
        guards
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

/// Guards of a group's or a tenant's own, as far as they differ from those above.
#[derive(Clone, Debug)]
pub struct OwnGuards {
    /// Those that are in force for it.
    pub in_force: GuardsConfig,
    /// Which of them are its own.
    said: Vec<&'static str>,
}

impl OwnGuards {
    /// None that differ.
    pub(super) fn fresh(folder: &Path) -> OwnGuards {
        OwnGuards { in_force: GuardsConfig::fresh(folder), said: Vec::new() }
    }

    /// Those that a section says, and the others as they are above.
    pub(super) fn read(section: Section<'_>, above: &GuardsConfig) -> OwnGuards {
        let mut in_force = above.clone();
        in_force.take(&section);
        let keys = GuardsConfig::describe().keys.into_iter().map(|key| key.name);
        let said = keys.filter(|key| section.has_taken(key)).collect();
        section.finish();
        OwnGuards { in_force, said }
    }

    /// What is in force where these are above: its own guards, and the others as they are there.
    pub fn below(&self, above: &GuardsConfig) -> GuardsConfig {
        GuardsConfig {
            max_tokens_per_request: self.or(above, "max_tokens_per_request").max_tokens_per_request,
            max_turns_per_conversation: self.or(above, "max_turns_per_conversation").max_turns_per_conversation,
            max_tokens_per_conversation: self.or(above, "max_tokens_per_conversation").max_tokens_per_conversation,
            max_tokens_per_hour: self.or(above, "max_tokens_per_hour").max_tokens_per_hour,
            max_repeats: self.or(above, "max_repeats").max_repeats,
            growth_alarm: self.or(above, "growth_alarm").growth_alarm,
            warn_only: self.or(above, "warn_only").warn_only.clone(),
            watch_only: self.or(above, "watch_only").watch_only,
        }
    }

    /// Who says this: it itself, or those above.
    fn or<'g>(&'g self, above: &'g GuardsConfig, key: &str) -> &'g GuardsConfig {
        if self.said.contains(&key) { &self.in_force } else { above }
    }
}

impl Table for OwnGuards {
    fn describe() -> Description {
        let of_all = GuardsConfig::describe();
        let keys = of_all
            .keys
            .into_iter()
            .map(|key| Key { default_words: Some("as in the group above, or `[guards]`"), ..key });
        let doc = "Guards against agents that run away, where they differ from those of the group above, or else from \
                   `[guards]`; 0 switches one off.";
        Description { doc: doc.to_owned(), keys: keys.collect(), tables: of_all.tables }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<toml::Value>)> {
        // What is as above is said there, and may be another for a key of another group.
        let entries = self.in_force.entries().into_iter();
        let of_its_own = entries.map(|(key, value)| {
            let is_own = self.said.contains(&&*key);
            (key, value.filter(|_| is_own))
        });
        of_its_own.collect()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.in_force.tables()
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
    use super::{GuardsConfig, OwnGuards};
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
        let of = |tenant: &str| config.tenants[tenant].guards.in_force.settings();
        assert_eq!((of("monitor").max_repeats, of("monitor").max_tokens_per_hour), (None, Some(1_000)));
        assert_eq!(of("shop"), config.guards.settings());
    }

    #[test]
    fn the_nearest_group_that_says_something_of_a_guard_decides_it_and_a_tenant_before_its_group() {
        let text = "[guards]\nmax_repeats = 1\nmax_tokens_per_hour = 1\ngrowth_alarm = 9\n[groups.top.guards]\n\
                    max_tokens_per_hour = 2\nmax_tokens_per_request = 2\n[groups.middle]\nparent = \"top\"\n\
                    [groups.below]\nparent = \"middle\"\n[groups.below.guards]\nmax_tokens_per_request = 0\n\
                    [tenants.t]\ngroup = \"below\"\n[tenants.t.guards]\nmax_repeats = 4";
        let config = parse(text, Path::new("")).expect("a configuration");
        let figures = |guards: &GuardsConfig| {
            let RunawaySettings { max_repeats, max_tokens_per_hour, max_tokens_per_request, growth_alarm, .. } =
                guards.settings();
            (max_repeats, max_tokens_per_hour, max_tokens_per_request, growth_alarm)
        };
        let of = |group: &str| figures(&config.groups[group].guards.in_force);
        assert_eq!(of("top"), (Some(1), Some(2), Some(2), Some(9.0)));
        assert_eq!(of("middle"), of("top"));
        assert_eq!(of("below"), (Some(1), Some(2), None, Some(9.0)));
        let tenant = &config.tenants["t"].guards;
        assert_eq!(figures(&tenant.in_force), (Some(4), Some(2), None, Some(9.0)));
        let elsewhere = tenant.below(&config.groups["top"].guards.in_force);
        assert_eq!(figures(&elsewhere), (Some(4), Some(2), Some(2), Some(9.0)), "what it says, it says in every group");
    }

    #[test]
    fn every_guard_that_is_said_goes_before_what_is_above() {
        let said = "max_tokens_per_request = 1\nmax_turns_per_conversation = 2\nmax_tokens_per_conversation = 3\n\
                    max_tokens_per_hour = 4\nmax_repeats = 5\ngrowth_alarm = 6\nwarn_only = []\nwatch_only = true";
        let config = parse(&format!("[groups.g.guards]\n{said}"), Path::new("")).expect("a configuration");
        let own = &config.groups["g"].guards;
        assert_eq!(own.below(&config.guards).settings(), own.in_force.settings());
        let nothing = OwnGuards::fresh(Path::new(""));
        assert_eq!(nothing.below(&own.in_force).settings(), own.in_force.settings());
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
