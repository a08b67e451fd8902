use super::*;
use crate::runtime::clock::Clock;
use std::sync::LazyLock;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);
/// What no runtime takes for a policy.
const JUNK: &[u8] = b"hello";

/// One for all tests: an engine is slow to start.
static RUNTIME: LazyLock<Arc<Runtime>> = LazyLock::new(|| Arc::new(Runtime::start(None).expect("an engine")));

/// Of no policy is anything said.
#[derive(Debug)]
struct NothingSaid;

impl PolicySettings for NothingSaid {
    fn of(&self, _policy: &str) -> &str {
        "{}"
    }

    fn limits_of(&self, _policy: &str) -> Limits {
        Limits::STANDARD
    }

    fn follow(&mut self, _settle: Duration) -> Followed {
        Followed::AsBefore
    }
}

fn loader() -> (Loader, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Box::new(NothingSaid);
    let dir = folder.path().join("policies");
    fs::create_dir(&dir).expect("a folder");
    let registry = Arc::new(Registry::new(Clock::start()));
    (Loader::new(dir, settings, Trust::default(), registry, Arc::clone(&RUNTIME)), folder)
}

fn drop_junk(loader: &Loader, name: &str) {
    fs::write(loader.dir.join(name), JUNK).expect("written");
}

#[cfg(unix)]
fn reason(loader: &Loader, name: &str) -> String {
    let status = loader.registry.status();
    let policy = status.iter().find(|policy| policy.name == name).expect("a policy");
    serde_json::to_value(&policy.rejected).expect("values")["reason"].as_str().unwrap_or_default().to_owned()
}

fn active(name: &str) -> Place {
    (name.to_owned(), Role::Active)
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_reached_is_rejected_and_the_others_are_looked_at() {
    use std::os::unix::fs::symlink;
    let (mut loader, _folder) = loader();
    let circle = loader.dir.join("circle.wasm");
    symlink(&circle, &circle).expect("a link");
    drop_junk(&loader, "file");
    symlink("file/within", loader.dir.join("through.wasm")).expect("a link");
    drop_junk(&loader, "other.wasm");
    assert!(!loader.look(Duration::ZERO));
    assert!(loader.look(Duration::ZERO));
    assert!(reason(&loader, "circle").contains("cannot be reached"), "{}", reason(&loader, "circle"));
    assert!(reason(&loader, "through").contains("cannot be reached"), "{}", reason(&loader, "through"));
    assert!(reason(&loader, "other").contains("no WebAssembly"), "{}", reason(&loader, "other"));
    fs::remove_file(circle).expect("removed");
    loader.look(Duration::ZERO);
    assert!(loader.registry.status().iter().all(|policy| policy.name != "circle"), "it is forgotten with the link");
}

#[test]
#[cfg(target_os = "linux")]
fn what_could_not_be_read_is_tried_again_though_it_has_not_changed() {
    let (mut loader, _folder) = loader();
    // Every user may open it, and reading it from the beginning fails as a broken disk does.
    std::os::unix::fs::symlink("/proc/self/mem", loader.dir.join("broken.wasm")).expect("a link");
    loader.look(Duration::ZERO);
    loader.look(Duration::ZERO);
    assert!(reason(&loader, "broken").contains("tried again"), "{}", reason(&loader, "broken"));
    let seen = &loader.seen[&active("broken")];
    assert!(matches!(seen.progress, Progress::Retried(_)));
    assert_eq!(Step::of(Some(seen), &seen.sighting, HOUR), Step::Load);
}

#[test]
fn what_was_rejected_for_good_is_left_alone_until_it_changes() {
    let (mut loader, _folder) = loader();
    drop_junk(&loader, "junk.wasm");
    loader.look(Duration::ZERO);
    loader.look(Duration::ZERO);
    let seen = &loader.seen[&active("junk")];
    assert_eq!(Step::of(Some(seen), &seen.sighting, Duration::ZERO), Step::Nothing);
    fs::write(loader.dir.join("junk.wasm"), b"hello again").expect("written");
    let changed = Sighting::of(&loader.dir.join("junk.wasm")).expect("a file");
    assert_eq!(Step::of(Some(seen), &changed, Duration::ZERO), Step::Settle);
}

#[test]
fn however_many_files_come_those_that_were_there_first_stay() {
    let (mut loader, _folder) = loader();
    // Last by name, so that it would be the one to go.
    drop_junk(&loader, "zzz.wasm");
    loader.look(HOUR);
    for number in 0..POLICIES_MAX + 10 {
        drop_junk(&loader, &format!("a{number:03}.wasm"));
    }
    loader.look(HOUR);
    assert_eq!(loader.seen.len(), POLICIES_MAX);
    assert_eq!(loader.left_out, 11);
    assert!(loader.seen.contains_key(&active("zzz")));
    // A newcomer that would be first by name displaces nobody.
    drop_junk(&loader, "0.wasm");
    loader.look(HOUR);
    assert!(!loader.seen.contains_key(&active("0")));
    assert!(loader.seen.contains_key(&active("a254")));
}
