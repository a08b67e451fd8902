//! The bill of materials: what is in a binary, for programs that compare it with known holes. CycloneDX 1.6, as JSON.

use super::others::Other;
use super::packages::{Id, Package};
use super::target::Target;
use std::fmt::Write as _;

/// The bill. It says nothing of when and where, so that the same binary has the same one.
pub(crate) fn bill(packages: &[Package], others: &[Other], target: Target) -> String {
    let ours = packages.iter().find(|package| package.id.0 == "spillway");
    let version = ours.map_or("", |package| &package.id.1);
    let root = ours.map_or_else(String::new, reference);
    let mut components: Vec<String> =
        packages.iter().filter(|package| package.id.0 != "spillway").map(component).collect();
    components.extend(others.iter().map(other));
    let dependencies: Vec<String> = packages.iter().map(|package| dependency(package, packages)).collect();
    format!(
        "{{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.6\",\n  \"version\": 1,\n  \"metadata\": {{\n    \
         \"component\": {{\"type\": \"application\", \"bom-ref\": {}, \"name\": \"spillway\", \"version\": {}, \
         \"licenses\": [{{\"expression\": \"MIT OR Apache-2.0\"}}], \"properties\": [{{\"name\": \"target\", \
         \"value\": {}}}]}}\n  }},\n  \"components\": [\n    {}\n  ],\n  \"dependencies\": [\n    {}\n  ]\n}}\n",
        json(&root),
        json(version),
        json(target.triple()),
        components.join(",\n    "),
        dependencies.join(",\n    ")
    )
}

fn component(package: &Package) -> String {
    let mut text = format!(
        "{{\"type\": \"library\", \"bom-ref\": {0}, \"name\": {1}, \"version\": {2}, \
         \"licenses\": [{{\"expression\": {3}}}]",
        json(&reference(package)),
        json(&package.id.0),
        json(&package.id.1),
        json(&package.licence)
    );
    // Ours are in no registry.
    if let Some(checksum) = &package.checksum {
        let _ = write!(text, ", \"hashes\": [{{\"alg\": \"SHA-256\", \"content\": {}}}]", json(checksum));
        let _ = write!(text, ", \"purl\": {}", json(&reference(package)));
    }
    if !package.repository.is_empty() {
        let url = json(&package.repository);
        let _ = write!(text, ", \"externalReferences\": [{{\"type\": \"vcs\", \"url\": {url}}}]");
    }
    text + "}"
}

fn other(part: &Other) -> String {
    let mut text = format!("{{\"type\": \"library\", \"name\": {}", json(part.name));
    if let Some(version) = &part.version {
        let _ = write!(text, ", \"version\": {}", json(version));
    }
    let _ = write!(text, ", \"licenses\": [{{\"expression\": {}}}]", json(part.licence));
    if let Some(cpe) = &part.cpe {
        let _ = write!(text, ", \"cpe\": {}", json(cpe));
    }
    text + "}"
}

fn dependency(package: &Package, packages: &[Package]) -> String {
    let known = |id: &&Id| packages.iter().any(|package| package.id == **id);
    let needs = package.needs.iter().filter(known).map(|(name, version)| json(&purl(name, version)));
    let needs = needs.collect::<Vec<_>>().join(", ");
    format!("{{\"ref\": {}, \"dependsOn\": [{needs}]}}", json(&reference(package)))
}

fn reference(package: &Package) -> String {
    purl(&package.id.0, &package.id.1)
}

/// The name that crates have everywhere. A `+` of a version's metadata would be a space there.
fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// A text of JSON.
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn package(name: &str, version: &str, needs: &[(&str, &str)], checksum: Option<&str>) -> Package {
        Package {
            id: (name.to_owned(), version.to_owned()),
            licence: "MIT OR Apache-2.0".to_owned(),
            repository: String::new(),
            needs: needs
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
                .collect::<BTreeSet<_>>(),
            folder: PathBuf::new(),
            checksum: checksum.map(str::to_owned),
        }
    }

    #[test]
    fn each_part_is_listed_once_and_with_what_it_needs() {
        let packages = [
            package("http", "1.0.0", &[], Some("abc")),
            package("spillway", "0.1.0", &[("http", "1.0.0")], None),
            package("zstd", "2.0.0+zstd.1", &[], Some("def")),
        ];
        let others =
            [Other { name: "SQLite", version: Some("3.51.0".into()), licence: "blessing", cpe: None, text: None }];
        let bill = bill(&packages, &others, Target::Aarch64);
        for part in [
            "\"bomFormat\": \"CycloneDX\"",
            "\"name\": \"http\", \"version\": \"1.0.0\"",
            "\"alg\": \"SHA-256\", \"content\": \"abc\"",
            "{\"ref\": \"pkg:cargo/spillway@0.1.0\", \"dependsOn\": [\"pkg:cargo/http@1.0.0\"]}",
            "\"purl\": \"pkg:cargo/zstd@2.0.0%2Bzstd.1\"",
            "\"name\": \"SQLite\", \"version\": \"3.51.0\"",
            "\"value\": \"aarch64-unknown-linux-musl\"",
        ] {
            assert_eq!(bill.matches(part).count(), 1, "{part} in\n{bill}");
        }
        assert_eq!(bill.matches("\"name\": \"spillway\"").count(), 1, "{bill}");
    }

    #[test]
    fn whatever_stands_in_a_text_stays_a_text() {
        assert_eq!(json("a \"b\" \\ \n"), "\"a \\\"b\\\" \\\\ \\u000a\"");
    }
}
