//! Scenarios that differ in a few values only, from one text.
//!
//! ```toml
//! [[vary]]                                # each axis: some keys, and their values
//! keys = ["provider.failure_rate"]
//! values = [0.3, 0.5]
//! names = ["30", "50"]
//!
//! [variants."50".goals]                   # one combination, by the names joined with hyphens
//! served_percent = 95
//! ```
//!
//! Every combination of the axes becomes a scenario, whose name is that of the family and those of
//! the values. Without an axis, the variants themselves are the scenarios, each a patch of what all
//! have in common.

use toml::{Table, Value};

use super::Scenario;

/// Reads a text: one scenario, or as many as its family has.
pub(super) fn read(text: &str) -> Result<Vec<Scenario>, String> {
    let mut common: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let (axes, variants) = (common.remove("vary"), common.remove("variants"));
    if axes.is_none() && variants.is_none() {
        // Read from the text, so that a mistake is told with its line.
        return toml::from_str(text).map(|scenario| vec![scenario]).map_err(|error| error.to_string());
    }
    let mut patches = match variants {
        None => Table::new(),
        Some(Value::Table(patches)) => patches,
        Some(_) => return Err("variants: a table for each".to_owned()),
    };
    let mut members = match axes {
        None => patches.keys().map(|name| (name.clone(), common.clone())).collect(),
        Some(Value::Array(axes)) => combinations(common, &axes)?,
        Some(_) => return Err("vary: tables, each with keys, values and names".to_owned()),
    };
    for (name, member) in &mut members {
        if let Some(Value::Table(patch)) = patches.remove(name) {
            merge(member, patch);
        }
    }
    if let Some(unknown) = patches.keys().next() {
        return Err(format!("variants.{unknown}: no combination of vary is called that"));
    }
    members.into_iter().map(|(name, member)| scenario(&name, member)).collect()
}

fn scenario(name: &str, mut member: Table) -> Result<Scenario, String> {
    if let Some(Value::String(family)) = member.get_mut("name") {
        *family = format!("{family}-{name}");
    }
    Value::Table(member).try_into().map_err(|error| format!("variant {name}: {error}"))
}

fn combinations(common: Table, axes: &[Value]) -> Result<Vec<(String, Table)>, String> {
    let mut members = vec![(String::new(), common)];
    for axis in axes {
        let list = |key: &str| axis.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let strings =
            |key: &str| -> Vec<String> { list(key).iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect() };
        let (keys, values, names) = (strings("keys"), list("values"), strings("names"));
        if keys.is_empty() || values.is_empty() || values.len() != names.len() {
            return Err("vary: keys, values, and as many names as values".to_owned());
        }
        let mut more = Vec::new();
        for (name, member) in members {
            for (value, value_name) in values.iter().zip(&names) {
                let mut member = member.clone();
                for key in &keys {
                    set(&mut member, key, value)?;
                }
                let between = if name.is_empty() { "" } else { "-" };
                more.push((format!("{name}{between}{value_name}"), member));
            }
        }
        members = more;
    }
    Ok(members)
}

/// Sets what a dotted path names; a number in it is a place in an array that is there already.
fn set(table: &mut Table, path: &str, value: &Value) -> Result<(), String> {
    let mut steps = path.split('.').peekable();
    let first = steps.next().unwrap_or_default();
    let mut place = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    for step in steps {
        place = match place {
            Value::Table(table) => table.entry(step).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(array) => step
                .parse()
                .ok()
                .and_then(|index: usize| array.get_mut(index))
                .ok_or_else(|| format!("vary.keys: there is no {path}"))?,
            _ => return Err(format!("vary.keys: {path} leads through a value")),
        };
    }
    *place = value.clone();
    Ok(())
}

/// Lays a patch over a table; tables are merged, everything else is replaced.
fn merge(table: &mut Table, patch: Table) {
    for (key, value) in patch {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    const FAMILY: &str = "name = 'f'\nrequests_per_run = 600\n[[tenants]]\nrequests_per_second = 1\n\
        [[vary]]\nkeys = ['provider.failure_rate']\nvalues = [0.3, 0.5]\nnames = ['30', '50']\n\
        [[vary]]\nkeys = ['tenants.0.requests_per_second']\nvalues = [50, 1]\nnames = ['at-50', 'at-1']\n";

    #[test]
    fn every_combination_becomes_a_scenario_and_a_variant_patches_one_of_them() {
        let text = format!("{FAMILY}[variants.50-at-1.goals]\nserved_percent = 95\n");
        let scenarios = Scenario::read_all(&text).unwrap();
        let facts: Vec<_> = scenarios
            .iter()
            .map(|one| {
                (one.name.as_str(), one.provider.failure_rate, one.seconds, one.goals.get(&Figure::ServedPercent))
            })
            .collect();
        let expected = [
            ("f-30-at-50", 0.3, 12.0, None),
            ("f-30-at-1", 0.3, 600.0, None),
            ("f-50-at-50", 0.5, 12.0, None),
            ("f-50-at-1", 0.5, 600.0, Some(&95.0)),
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn without_an_axis_the_variants_are_the_scenarios() {
        let text = "name = 'f'\nseconds = 10\n[[tenants]]\nrequests_per_second = 1\n[client]\npatience_seconds = 5\n\
                    [variants.a]\n[variants.b]\nseconds = 20\nclient.timeout_seconds = 2\n";
        let scenarios = Scenario::read_all(text).unwrap();
        let facts: Vec<_> = scenarios
            .iter()
            .map(|one| (one.name.as_str(), one.seconds, one.client.patience_seconds, one.client.timeout_seconds))
            .collect();
        assert_eq!(facts, [("f-a", 10.0, 5.0, 10.0), ("f-b", 20.0, 5.0, 2.0)]);
    }

    #[test]
    fn a_variant_or_a_key_that_is_not_there_is_a_mistake() {
        let wrong = |more: &str| Scenario::read_all(&format!("{FAMILY}{more}")).unwrap_err();
        assert!(wrong("[variants.70-at-1]\nseconds = 5\n").contains("70-at-1"));
        let axis = |key: &str| format!("[[vary]]\nkeys = ['{key}']\nvalues = [1]\nnames = ['x']\n");
        assert!(wrong(&axis("tenants.1.weight")).contains("tenants.1.weight"));
        assert!(wrong(&axis("provider.failure_rat")).contains("failure_rat"));
        assert!(wrong("[[vary]]\nkeys = ['seeds']\nvalues = [1, 2]\nnames = ['x']\n").contains("names"));
    }
}
