//! A policy's settings: from the operator's configuration into a type of the policy's own.
//!
//! serde_json reads the text, and serde is handed its values from here. Doing without serde_json's own way to a type
//! names a mistake by its key, where the operator would otherwise be told a column of JSON that he never wrote; and it
//! keeps the formatting of fractions, of which serde_json's messages make use, out of the policy's module, which is
//! little more than half as large for it.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use std::fmt;
use std::vec::IntoIter;

/// A policy's own table from the configuration, `[policies.settings.NAME]`.
///
/// ```
/// use spillway_sdk::Settings;
/// use std::collections::BTreeMap;
///
/// // [policies.settings.patient]
/// // wait_ms = 250
/// let settings = Settings::from_json(r#"{"wait_ms":250}"#);
/// assert_eq!(settings.parse(), Ok(BTreeMap::from([("wait_ms".to_owned(), 250)])));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    json: &'a str,
}

impl<'a> Settings<'a> {
    /// Wraps a table that was turned into JSON; empty means an empty table. Other text is an error of
    /// [`Settings::parse`].
    ///
    /// Tests write settings in this way; in production the host passes them.
    ///
    /// ```
    /// use spillway_sdk::{Policy, Settings};
    ///
    /// #[derive(Default)]
    /// struct Plain;
    ///
    /// impl Policy for Plain {}
    ///
    /// assert_eq!(Plain.configure(Settings::from_json("")), Ok(()));
    /// assert_eq!(Plain.configure(Settings::from_json(r#"{"x":1}"#)), Err("this policy has no settings".to_owned()));
    /// ```
    pub fn from_json(json: &'a str) -> Self {
        Settings { json: if json.is_empty() { "{}" } else { json } }
    }

    /// Reads the table into a type that derives `serde::Deserialize`.
    ///
    /// Put `#[serde(default, deny_unknown_fields)]` on that type: what is absent keeps its default, and a
    /// misspelt key is an error instead of a silent nothing.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use spillway_sdk::Settings;
    ///
    /// #[derive(Debug, Default, Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct Mine {
    ///     wait_ms: u64,
    ///     codes: Vec<String>,
    /// }
    ///
    /// let mine: Mine = Settings::from_json(r#"{"codes":["too_fast"]}"#).parse().expect("valid settings");
    /// assert_eq!((mine.wait_ms, mine.codes), (0, vec!["too_fast".to_owned()]));
    ///
    /// let mistake = Settings::from_json(r#"{"wait_ms":"2s"}"#).parse::<Mine>().expect_err("a text is no number");
    /// assert_eq!(mistake, "wait_ms: the text \"2s\" stands where u64 is expected");
    /// ```
    ///
    /// # Errors
    /// What does not fit, naming the key, in words made for the operator.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        let value: Json = serde_json::from_str(self.json).map_err(|error| error.to_string())?;
        T::deserialize(value).map_err(|mistake| mistake.to_string())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.json.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b'{' || byte == b'}')
    }
}

/// JSON, as plain as it gets: `serde_json::Value` would bring its maps along.
enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Table(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Signed(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut table: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Table(entries))
    }
}

impl<'de> Deserializer<'de> for Json {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(value),
            Json::Unsigned(value) => visitor.visit_u64(value),
            Json::Signed(value) => visitor.visit_i64(value),
            Json::Float(value) => visitor.visit_f64(value),
            Json::Text(value) => visitor.visit_string(value),
            Json::List(items) => visitor.visit_seq(Items { rest: items.into_iter(), index: 0 }),
            Json::Table(entries) => visitor.visit_map(Entries { rest: entries.into_iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Json::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Json::Text(variant) => visitor.visit_enum(StrDeserializer::new(&variant)),
            Json::Table(entries) => {
                let entries = Entries { rest: entries.into_iter(), current: None };
                visitor.visit_enum(MapAccessDeserializer::new(entries))
            }
            other => other.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A list on its way into a type.
struct Items {
    rest: IntoIter<Json>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(item) = self.rest.next() else { return Ok(None) };
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|mistake| mistake.within(&self.index.to_string()))
    }
}

/// A table on its way into a type.
struct Entries {
    rest: IntoIter<(String, Json)>,
    current: Option<(String, Json)>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        self.current = self.rest.next();
        let Some((key, _)) = &self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Mistake> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (key, value) = self.current.take().ok_or_else(|| de::Error::custom("a value was read before its key"))?;
        seed.deserialize(value).map_err(|mistake| mistake.within(&key))
    }
}

/// What is wrong with the settings, and where: keys, and places in lists counted from 1, joined by dots.
#[derive(Debug)]
struct Mistake {
    place: String,
    what: String,
}

impl Mistake {
    fn within(mut self, outer: &str) -> Self {
        self.place = if self.place.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.place) };
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            f.write_str(&self.place)?;
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Mistake { place: String::new(), what: what.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Mistake::custom(format_args!("{} stands where {expected} is expected", named(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

/// Names what was found. A fraction is not shown, because no message is worth the code that formats one.
fn named(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(value) => format!("{value}"),
        Unexpected::Signed(value) => format!("{value}"),
        Unexpected::Float(_) => "a number with a fraction".into(),
        Unexpected::Str(value) => format!("the text \"{value}\""),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a table".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        // None of these comes from JSON.
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => "something else".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Mine {
        flag: bool,
        count: u32,
        offset: i64,
        share: f32,
        name: Option<String>,
        codes: Vec<String>,
        scope: Scope,
        per_model: BTreeMap<String, Limit>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Scope {
        #[default]
        WholeUpstream,
        Models(Vec<String>),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Limit(u64);

    fn read(json: &str) -> Result<Mine, String> {
        Settings::from_json(json).parse()
    }

    #[test]
    fn every_kind_of_value_finds_its_field() {
        let json = r#"{"flag":true,"count":7,"offset":-3,"share":1,"name":"a\"\u00e9","codes":["x","y"],
            "scope":{"models":["m"]},"per_model":{"gpt":9}}"#;
        let expected = Mine {
            flag: true,
            count: 7,
            offset: -3,
            share: 1.0,
            name: Some("a\"é".into()),
            codes: vec!["x".into(), "y".into()],
            scope: Scope::Models(vec!["m".into()]),
            per_model: BTreeMap::from([("gpt".into(), Limit(9))]),
        };
        assert_eq!(read(json), Ok(expected));
        assert_eq!(read(r#"{"share":0.25}"#).map(|mine| mine.share), Ok(0.25));
        assert_eq!(read(r#"{"name":null}"#).map(|mine| mine.name), Ok(None));
        assert_eq!(read(r#"{"scope":"whole-upstream"}"#), Ok(Mine::default()));
        assert_eq!(read(""), Ok(Mine::default()));
    }

    #[test]
    fn a_mistake_is_named_by_its_place() {
        let cases = [
            (r#"{"count":"ten"}"#, "count: the text \"ten\" stands where u32 is expected"),
            (r#"{"count":-1}"#, "count: -1 stands where u32 is expected"),
            (r#"{"count":0.5}"#, "count: a number with a fraction stands where u32 is expected"),
            (r#"{"codes":["x",3]}"#, "codes.2: 3 stands where a string is expected"),
            (r#"{"codes":"x"}"#, "codes: the text \"x\" stands where a sequence is expected"),
            (r#"{"per_model":{"gpt":[]}}"#, "per_model.gpt: a list stands where u64 is expected"),
            (r#"{"scope":"all"}"#, "scope: unknown variant `all`, expected `whole-upstream` or `models`"),
        ];
        for (json, expected) in cases {
            assert_eq!(read(json), Err(expected.to_owned()), "{json}");
        }
        let misspelt = read(r#"{"cuont":3}"#).expect_err("a misspelt key");
        assert!(misspelt.starts_with("unknown field `cuont`, expected one of `flag`, `count`"), "{misspelt}");
        assert!(read("{").is_err_and(|mistake| mistake.contains("EOF")));
    }
}
