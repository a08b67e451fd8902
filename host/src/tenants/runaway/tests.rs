use super::*;
use crate::config::parse;
use crate::keys::record::KeyRecord;
use crate::keys::record::tests::record;
use crate::keys::table::{Key, KeyTable};
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::tenants::callers::{Callers, Rights};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::path::Path;

const CHAT: &str = "/v1/chat/completions";

/// The guards of a configuration, and time that passes as a test says.
struct Scene {
    guards: RunawayGuards,
    callers: Callers,
    seconds: u64,
}

/// What came of one request.
#[derive(Debug, PartialEq)]
enum Told {
    Served(Trail),
    Refused(GuardKind, u64),
}

impl Scene {
    fn new(text: &str) -> Scene {
        let config = parse(&format!("[guards]\n{text}"), Path::new("")).expect("a configuration");
        let callers = Callers::new(&config, FingerprintKey::from_bytes([1; 32]), Clock::start(), None);
        Scene { guards: RunawayGuards::new(config.guards.settings()), callers, seconds: 1_000 }
    }

    /// Asks as this tenant, a second after the last time, and spends what it says if it is served.
    fn ask(&mut self, tenant: &'static str, body: &Value, tokens: u64) -> Told {
        self.ask_as(&[("x-spillway-tenant", tenant)], body, tokens)
    }

    fn ask_as(&mut self, pairs: &[(&'static str, &'static str)], body: &Value, tokens: u64) -> Told {
        self.ask_with(None, pairs, body, tokens)
    }

    fn ask_with(
        &mut self,
        key: Option<Arc<Key>>,
        pairs: &[(&'static str, &'static str)],
        body: &Value,
        tokens: u64,
    ) -> Told {
        self.seconds += 1;
        let now = Timestamp::from_micros(self.seconds * 1_000_000);
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let caller = self.callers.identify(&headers, "", Rights { may_spend: key.is_some(), key });
        let body = body.to_string();
        let (path, dialect) = (CHAT, Dialect::OpenAi);
        let body = Some(body.as_bytes());
        let asked = Asked { caller: &caller, dialect, path, headers: &headers, body, tokens };
        let (trail, found) = self.guards.ask(&asked, now);
        match found.iter().find(|(tripped, _)| self.guards.settings(&caller).refuses(tripped.guard)) {
            Some((tripped, _)) => Told::Refused(tripped.guard, tripped.figure),
            None => {
                self.guards.answered(trail, tokens, now);
                Told::Served(trail)
            }
        }
    }
}

/// A conversation after so many turns.
fn conversation(first: &str, turns: u64) -> Value {
    let mut messages = vec![json!({"role": "user", "content": first})];
    for turn in 1..turns {
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
        messages.push(json!({"role": "user", "content": format!("and then {turn}?")}));
    }
    json!({"model": "m", "messages": messages})
}

fn is_served(told: &Told) -> bool {
    matches!(told, Told::Served(_))
}

#[test]
fn keys_of_one_group_are_callers_of_their_own_and_have_the_guards_of_its_tenant() {
    let mut scene = Scene::new("max_repeats = 1\n[tenants.team.guards]\nmax_repeats = 2");
    let table = KeyTable::default();
    let of_team = |id, secret| KeyRecord { group: Some("team".to_owned()), ..record(id, secret) };
    table.replace(vec![of_team("k_1", "one"), of_team("k_2", "two"), record("k_3", "three")]);
    let body = conversation("the same", 1);
    for (id, times) in [("k_1", 2), ("k_2", 2), ("k_3", 1)] {
        let key = || table.of_id(id, 0).ok();
        assert!(key().is_some(), "{id}");
        for time in 1..=times {
            assert!(is_served(&scene.ask_with(key(), &[], &body, 10)), "{id}, time {time}");
        }
        let refused = Told::Refused(GuardKind::Repeats, times + 1);
        assert_eq!(scene.ask_with(key(), &[], &body, 10), refused, "{id}");
    }
    // Whoever names the tenant and shows no key is another caller.
    assert!(is_served(&scene.ask("team", &body, 10)));
}

#[test]
fn a_key_has_its_own_bounds_then_its_tenants_then_its_groups_and_then_everybodys() {
    let mut scene = Scene::new(
        "max_tokens_per_request = 100\n[groups.above.guards]\nmax_tokens_per_request = 200\n\
         [groups.team]\nparent = \"above\"\n[groups.team.guards]\nmax_tokens_per_hour = 1000\n\
         [tenants.shop.guards]\nmax_tokens_per_request = 300",
    );
    let table = KeyTable::default();
    let text = |text: &str| Some(text.to_owned());
    let in_team = |id| KeyRecord { group: text("team"), ..record(id, id) };
    table.replace(vec![
        record("k_1", "k_1"),
        in_team("k_2"),
        KeyRecord { tenant: text("shop"), ..in_team("k_3") },
        KeyRecord { tenant: text("shop"), max_tokens_per_request: Some(400), ..in_team("k_4") },
        KeyRecord { max_tokens_per_request: Some(0), max_tokens_per_hour: Some(5_000), ..in_team("k_5") },
    ]);
    scene.callers.take_keys(&table.all());
    for (id, per_request) in [("k_1", 100), ("k_2", 200), ("k_3", 300), ("k_4", 400)] {
        let key = || table.of_id(id, 0).ok();
        assert!(is_served(&scene.ask_with(key(), &[], &conversation("one", 1), per_request)), "{id}");
        let refused = Told::Refused(GuardKind::TokensPerRequest, per_request + 1);
        assert_eq!(scene.ask_with(key(), &[], &conversation("one", 1), per_request + 1), refused, "{id}");
    }
    for (id, tokens, per_hour) in [("k_3", 300, 1_000), ("k_5", 5_000, 5_000)] {
        let key = || table.of_id(id, 0).ok();
        let told =
            (0..10).map(|_| scene.ask_with(key(), &[], &conversation("one", 1), tokens)).find(|told| !is_served(told));
        let Some(Told::Refused(GuardKind::TokensPerHour, figure)) = told else { panic!("{id}: {told:?}") };
        assert!(figure >= per_hour, "{id}: {figure}");
    }
}

#[test]
fn an_agent_that_goes_on_and_on_is_stopped_and_others_are_not() {
    let mut scene = Scene::new("max_turns_per_conversation = 5");
    for turn in 1..=5 {
        assert!(is_served(&scene.ask("a", &conversation("one", turn), 10)), "turn {turn}");
    }
    let refused = Told::Refused(GuardKind::TurnsPerConversation, 6);
    assert_eq!(scene.ask("a", &conversation("one", 6), 10), refused);
    assert_eq!(scene.ask("a", &conversation("one", 7), 10), refused);
    // Another conversation, another caller with the same words, and the same begun anew.
    assert!(is_served(&scene.ask("a", &conversation("two", 6), 10)));
    assert!(is_served(&scene.ask("b", &conversation("one", 6), 10)));
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 10)));
}

#[test]
fn a_conversation_that_costs_too_much_gets_no_further_turn() {
    let mut scene = Scene::new("max_tokens_per_conversation = 1000");
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 600)));
    // What is asked again from the beginning is not counted as its turn.
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 900)));
    assert!(is_served(&scene.ask("a", &conversation("one", 2), 600)));
    assert_eq!(scene.ask("a", &conversation("one", 3), 600), Told::Refused(GuardKind::TokensPerConversation, 1_200));
}

#[test]
fn a_conversation_with_a_name_is_told_by_that_alone() {
    let mut scene = Scene::new("max_turns_per_conversation = 2");
    let named = |name| [("x-spillway-tenant", "a"), ("x-spillway-conversation", name)];
    let body = conversation("one", 1);
    assert!(is_served(&scene.ask_as(&named("x"), &body, 10)));
    assert!(is_served(&scene.ask_as(&named("x"), &conversation("two", 1), 10)));
    let refused = Told::Refused(GuardKind::TurnsPerConversation, 3);
    assert_eq!(scene.ask_as(&named("x"), &body, 10), refused);
    assert!(is_served(&scene.ask_as(&named("y"), &body, 10)));
}

#[test]
fn the_same_request_again_and_again_is_refused_until_something_else_comes() {
    let mut scene = Scene::new("max_repeats = 3");
    let (same, other) = (conversation("one", 1), conversation("two", 1));
    for _ in 0..3 {
        assert!(is_served(&scene.ask("a", &same, 10)));
        assert!(is_served(&scene.ask("b", &same, 10)), "of another caller");
    }
    assert_eq!(scene.ask("a", &same, 10), Told::Refused(GuardKind::Repeats, 4));
    assert_eq!(scene.ask("a", &same, 10), Told::Refused(GuardKind::Repeats, 4));
    assert!(is_served(&scene.ask("a", &other, 10)));
    assert!(is_served(&scene.ask("a", &same, 10)));
}

#[test]
fn what_was_used_within_the_hour_is_refused_until_it_is_over() {
    let mut scene = Scene::new("max_tokens_per_hour = 1000");
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 999)));
    assert!(is_served(&scene.ask("a", &conversation("two", 1), 999)));
    assert_eq!(scene.ask("a", &conversation("three", 1), 1), Told::Refused(GuardKind::TokensPerHour, 1_998));
    assert!(is_served(&scene.ask("b", &conversation("three", 1), 1)));
    scene.seconds += 3_600;
    assert!(is_served(&scene.ask("a", &conversation("three", 1), 1)));
}

#[test]
fn a_request_that_may_cost_too_much_is_refused_by_itself() {
    let mut scene = Scene::new("max_tokens_per_request = 1000");
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 1_000)));
    assert_eq!(scene.ask("a", &conversation("one", 1), 1_001), Told::Refused(GuardKind::TokensPerRequest, 1_001));
    assert!(is_served(&scene.ask("a", &conversation("one", 1), 1_000)));
}

#[test]
fn growth_refuses_only_large_requests_and_only_where_that_is_said() {
    for (warn_only, refused) in [("warn_only = []", true), ("", false)] {
        let mut scene = Scene::new(&format!("growth_alarm = 4\n{warn_only}"));
        let mut asked = 0;
        let mut ask = |scene: &mut Scene, tokens| {
            asked += 1;
            is_served(&scene.ask("a", &conversation(&asked.to_string(), 1), tokens))
        };
        assert!((0..200).all(|_| ask(&mut scene, 1_000)));
        let served = (0..40).filter(|_| ask(&mut scene, 30_000)).count();
        assert_eq!(served < 20, refused, "{served} were served");
        assert!(ask(&mut scene, 1_000), "what is as large as ever is served");
    }
}

#[test]
fn a_tenant_may_have_guards_of_its_own() {
    let mut scene =
        Scene::new("max_repeats = 1\n[tenants.monitor.guards]\nmax_repeats = 0\n[tenants.shop]\nweight = 2");
    let same = conversation("one", 1);
    assert!((0..9).all(|_| is_served(&scene.ask("monitor", &same, 10))));
    for tenant in ["shop", "unknown"] {
        assert!(is_served(&scene.ask(tenant, &same, 10)), "{tenant}");
        assert_eq!(scene.ask(tenant, &same, 10), Told::Refused(GuardKind::Repeats, 2), "{tenant}");
    }
}

#[test]
fn whoever_only_watches_refuses_nothing() {
    let all = "max_tokens_per_request = 1\nmax_turns_per_conversation = 1\nmax_tokens_per_conversation = 1\n\
               max_tokens_per_hour = 1\nmax_repeats = 1\ngrowth_alarm = 2\nwatch_only = true";
    let mut scene = Scene::new(all);
    for turn in [1, 1, 2, 2, 3] {
        assert!(is_served(&scene.ask("a", &conversation("one", turn), 100)));
    }
}

#[test]
fn what_is_refused_by_one_guard_is_no_turn_for_another() {
    let mut scene = Scene::new("max_turns_per_conversation = 3\nmax_tokens_per_request = 100");
    let named = [("x-spillway-tenant", "a"), ("x-spillway-conversation", "x")];
    for _ in 0..9 {
        let refused = Told::Refused(GuardKind::TokensPerRequest, 101);
        assert_eq!(scene.ask_as(&named, &conversation("one", 1), 101), refused);
    }
    assert!((0..3).all(|_| is_served(&scene.ask_as(&named, &conversation("one", 1), 100))));
}

/// What ordinary programs do in a day trips none of these, though each is low for what it stops.
const FOR_ORDINARY_TRAFFIC: &str = "max_tokens_per_request = 200000\nmax_turns_per_conversation = 100\n\
                                    max_tokens_per_conversation = 10000000\nmax_tokens_per_hour = 30000000\n\
                                    max_repeats = 5\ngrowth_alarm = 4\nwarn_only = []";

#[test]
fn ordinary_programs_trip_no_guard() {
    let mut scene = Scene::new(FOR_ORDINARY_TRAFFIC);
    let mut all_served = |pairs: &[(&'static str, &'static str)], pause: u64, requests: Vec<(Value, u64)>| {
        for (number, (body, tokens)) in requests.into_iter().enumerate() {
            scene.seconds += pause;
            let told = scene.ask_as(pairs, &body, tokens);
            assert!(is_served(&told), "{pairs:?}, request {number}: {told:?}");
        }
    };
    let ask = |system: &str, text: String| json!({"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]});

    // Twenty people who chat, each in a conversation of forty turns, and all by one key.
    let chats = (1..=40).flat_map(|turn| {
        (0..20).map(move |person| (conversation(&format!("Hello, I am {person}."), turn), 300 + 200 * turn))
    });
    all_served(&[("x-spillway-tenant", "chat")], 1, chats.collect());

    // A classifier with three examples in front of each text.
    let examples = "example ".repeat(300);
    let classifier = (0_u64..3_000).map(|number| {
        let text = "word ".repeat(usize::try_from(number * 7_919 % 400).unwrap_or(0));
        let mut body = conversation(&examples, 4);
        if let Some(messages) = body["messages"].as_array_mut() {
            messages.push(json!({"role": "user", "content": format!("{number} {text}")}));
        }
        (body, 900 + number * 7_919 % 400)
    });
    all_served(&[("x-spillway-tenant", "classifier")], 0, classifier.collect());

    // A job of every night, and a look each quarter of an hour whether all is well.
    let nightly = (0..30).map(|_| (ask("You write reports.", "Write the daily report.".to_owned()), 4_000));
    all_served(&[("x-spillway-tenant", "report")], 24 * 3_600, nightly.collect());
    let look = (0..96).map(|_| (ask("", "ping".to_owned()), 12));
    all_served(&[("x-spillway-tenant", "monitor")], 900, look.collect());

    // A coding agent that names its session: turns that grow up to its context, summaries, and titles between.
    let mut session = Vec::new();
    for round in 0..3_u64 {
        for turn in 1..=30 {
            session.push((conversation(&format!("summary {round}"), turn), 15_000 + 4_000 * turn));
        }
        session.push((ask("You write titles.", format!("title {round}")), 600));
    }
    let named = [("x-spillway-tenant", "agent"), ("x-claude-code-session-id", "one")];
    all_served(&named, 10, session);
}

#[test]
fn however_many_callers_and_conversations_come_what_is_remembered_is_bounded() {
    let mut scene = Scene::new("max_turns_per_conversation = 5\nmax_tokens_per_hour = 1000000\nmax_repeats = 5");
    for number in 0..150_000_u64 {
        let name: &'static str = Box::leak(number.to_string().into_boxed_str());
        scene.ask(name, &json!({"messages": [{"role": "user", "content": name}]}), 1);
    }
    let remembered = |count: usize, max: usize| assert!((max / 3..=max).contains(&count), "{count} of {max}");
    let sum = |sizes: Vec<usize>| sizes.iter().sum::<usize>();
    remembered(sum(scene.guards.callers.0.iter().map(|part| lock(part).len()).collect()), CALLERS_MAX);
    remembered(sum(scene.guards.conversations.0.iter().map(|part| lock(part).len()).collect()), CONVERSATIONS_MAX);
    remembered(sum(scene.guards.rows.0.iter().map(|part| lock(part).len()).collect()), ROWS_MAX);
}
