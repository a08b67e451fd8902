//! What is found of what callers show, taken away, and let in.

use super::*;
use crate::keys::record::KeyRecord;
use crate::keys::record::tests::record;

const KEY: &str = "sk-spillway-0123/456";

fn access() -> Access {
    Access::new(Some(&Secret::parse(KEY).expect("a secret")), false)
}

/// With these virtual keys and no access key.
fn with_keys(records: Vec<KeyRecord>) -> Access {
    let access = Access::new(None, false);
    access.keys.replace(records);
    access
}

fn headers_of(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn look(access: &Access, headers: &HeaderMap, path: &str) -> Look {
    access.look(headers, path.split_once('?').map_or("", |(_, query)| query), || 100)
}

/// What is left of a request with this header and this path, and what it has shown, in a word.
fn taken_by(access: &Access, pairs: &[(&'static str, &str)], path: &str) -> (String, String, String) {
    let (mut headers, mut path) = (headers_of(pairs), path.to_owned());
    let found = look(access, &headers, &path);
    access.take(&found, &mut headers, &mut path);
    let shown = match found.shown {
        Shown::Nothing { .. } => "nothing".to_owned(),
        Shown::AccessKey => "access key".to_owned(),
        Shown::Key(key) => key.id().to_owned(),
        Shown::Void(_, void) => void.as_str().to_owned(),
    };
    let left: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    (shown, left.join(", "), path)
}

/// The same, and whether the access key was shown.
fn taken(access: &Access, pairs: &[(&'static str, &str)], path: &str) -> (bool, String, String) {
    let (shown, left, path) = taken_by(access, pairs, path);
    (shown == "access key", left, path)
}

#[test]
fn the_key_is_found_wherever_sdks_put_one_and_goes_no_further() {
    let bearer = format!("Bearer {KEY}");
    let cases = [
        ("authorization", bearer.as_str()),
        ("authorization", &format!("bearer  {KEY}")),
        ("authorization", KEY),
        ("x-api-key", KEY),
        ("api-key", KEY),
        ("x-goog-api-key", KEY),
        (ACCESS_KEY_HEADER, KEY),
        (ACCESS_KEY_HEADER, &bearer),
        ("sec-websocket-protocol", &format!("openai-insecure-api-key.{KEY}")),
    ];
    for (name, value) in cases {
        let (is_shown, left, path) = taken(&access(), &[(name, value)], "/v1/models?a=b");
        assert_eq!((is_shown, left.as_str(), path.as_str()), (true, "", "/v1/models?a=b"), "{name}: {value}");
    }
    for query in ["key=sk-spillway-0123/456", "%6Bey=sk-spillway%2D0123%2f456", "access_token=sk-spillway-0123/456"] {
        let (is_shown, _, path) = taken(&access(), &[], &format!("/v1/models?a=b&{query}&c"));
        assert_eq!((is_shown, path.as_str()), (true, "/v1/models?a=b&c"), "{query}");
    }
}

#[test]
fn a_credential_of_the_callers_own_stays_beside_it() {
    let all = [
        ("authorization", "Bearer sk-own"),
        ("authorization", "Bearer sk-spillway-0123/456"),
        ("x-api-key", "sk-own"),
        (ACCESS_KEY_HEADER, KEY),
    ];
    let (is_shown, left, path) = taken(&access(), &all, "/p?key=own");
    assert_eq!((is_shown, path.as_str()), (true, "/p?key=own"));
    assert!(left.contains("authorization: Bearer sk-own") && left.contains("x-api-key: sk-own"), "{left}");
    assert!(!left.contains("spillway"), "{left}");
}

#[test]
fn what_is_only_like_the_key_is_none_and_what_is_said_to_spillway_alone_is_not_passed_on() {
    for wrong in ["sk-spillway-0123/45", "sk-spillway-0123/4567", "SK-SPILLWAY-0123/456", "", "Bearer"] {
        let (is_shown, left, _) = taken(&access(), &[("authorization", wrong)], "/p");
        assert_eq!((is_shown, left), (false, format!("authorization: {wrong}")));
    }
    for access in [access(), Access::new(None, false)] {
        let pairs =
            [(ACCESS_KEY_HEADER, "wrong"), (MAY_SPEND_HEADER, "1"), (KEY_ID_HEADER, "k_1"), ("x-api-key", "own")];
        let (is_shown, left, path) = taken(&access, &pairs, "/p?key=");
        assert_eq!((is_shown, left.as_str(), path.as_str()), (false, "x-api-key: own", "/p?key="));
    }
}

#[test]
fn a_key_that_has_been_replaced_is_shown_in_vain() {
    let access = access();
    access.replace(&Secret::parse("another-access-key").expect("a secret"));
    let (is_shown, headers, path) = taken(&access, &[("api-key", KEY)], &format!("/p?key={KEY}"));
    assert!(!is_shown && !headers.contains(KEY) && !path.contains(KEY), "no provider's to see: {headers} {path}");
    assert!(taken(&access, &[("api-key", "another-access-key")], "/p").0);
    assert!(!format!("{access:?}").contains("another"));
}

#[test]
fn a_virtual_key_is_found_in_the_same_places_and_told_from_those_that_count_for_nothing() {
    let access = with_keys(vec![
        record("k_1", "sk-spillway-one"),
        KeyRecord { revoked_unix_ms: Some(1), ..record("k_2", "sk-spillway-two") },
        KeyRecord { expires_unix_ms: Some(100), ..record("k_3", "imported-from-elsewhere") },
    ]);
    for (shown, word) in [
        ("sk-spillway-one", "k_1"),
        ("sk-spillway-two", "revoked"),
        ("imported-from-elsewhere", "expired"),
        ("sk-spillway-three", "unknown"),
    ] {
        let in_headers = [
            ("authorization", format!("Bearer {shown}")),
            ("authorization", format!("Token {shown}")),
            ("authorization", shown.to_owned()),
            ("x-api-key", shown.to_owned()),
            ("api-key", shown.to_owned()),
            ("x-goog-api-key", shown.to_owned()),
            (ACCESS_KEY_HEADER, shown.to_owned()),
            ("sec-websocket-protocol", format!("openai-insecure-api-key.{shown}")),
        ];
        for (name, value) in in_headers {
            let expected = (word.to_owned(), String::new(), "/p?a=b".to_owned());
            assert_eq!(taken_by(&access, &[(name, &value)], "/p?a=b"), expected, "{name}: {value}");
        }
        for name in ["key", "%6Bey", "access_token"] {
            let (said, _, path) = taken_by(&access, &[], &format!("/p?{name}={shown}&a=b"));
            assert_eq!((said.as_str(), path.as_str()), (word, "/p?a=b"), "{name}: {shown}");
        }
    }
    let own = taken_by(&access, &[("authorization", "Bearer sk-proj-own")], "/p");
    assert_eq!(own, ("nothing".to_owned(), "authorization: Bearer sk-proj-own".to_owned(), "/p".to_owned()));
}

#[test]
fn of_several_that_are_shown_one_that_counts_wins_and_all_of_ours_are_taken_away() {
    let access = access();
    access.keys.replace(vec![
        record("k_1", "sk-spillway-one"),
        KeyRecord { revoked_unix_ms: Some(1), ..record("k_2", "sk-spillway-two") },
    ]);
    let own = ("x-goog-api-key", "own");
    let (gone, key, operators) =
        (("authorization", "Bearer sk-spillway-two"), ("x-api-key", "sk-spillway-one"), ("api-key", KEY));
    for (pairs, word) in [
        (&[own, gone, key, operators][..], "k_1"),
        (&[own, operators, key], "k_1"),
        (&[own, gone, operators], "access key"),
        (&[own, gone], "revoked"),
        (&[own], "nothing"),
    ] {
        let (shown, left, _) = taken_by(&access, pairs, "/p");
        assert_eq!((shown.as_str(), left.as_str()), (word, "x-goog-api-key: own"), "{pairs:?}");
    }
}

#[test]
fn where_keys_are_demanded_nobody_comes_in_without_one_that_counts() {
    let records = || vec![record("k_1", "sk-spillway-one")];
    let (optional, demanded) = (with_keys(records()), Access::new(None, true));
    demanded.keys.replace(records());
    let admitted = |access: &Access, shown: &str, entrance| {
        let pairs = [("authorization", shown)];
        access.admit(&look(access, &headers_of(if shown.is_empty() { &[] } else { &pairs }), "/p").shown, entrance)
    };
    use Entrance::{Network, Port, UnixSocket};
    for (access, shown, entrance, expected) in [
        (&optional, "", Port, Ok(())),
        (&optional, "own", Port, Ok(())),
        (&optional, "", UnixSocket, Ok(())),
        (&optional, "own", Network, Err(Turned::Stranger)),
        (&optional, "sk-spillway-one", Network, Ok(())),
        (&optional, "sk-spillway-two", Port, Err(Turned::KeyRefused)),
        (&demanded, "", Port, Err(Turned::KeyRequired)),
        (&demanded, "", UnixSocket, Err(Turned::KeyRequired)),
        (&demanded, "own", Port, Err(Turned::KeyRefused)),
        (&demanded, "own", Network, Err(Turned::KeyRefused)),
        (&demanded, "sk-spillway-one", UnixSocket, Ok(())),
    ] {
        assert_eq!(admitted(access, shown, entrance), expected, "{shown} through {entrance:?}");
    }
}
