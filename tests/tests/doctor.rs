//! `spillway doctor`: whether it can work here, and why not. `spillway init`: a configuration to begin with.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::Value;
use spillway_tests::asks::chat;
use spillway_tests::between::{Between, Seen};
use spillway_tests::certificates::{Authority, self_signed};
use spillway_tests::http::Connection;
use spillway_tests::log::Log;
use spillway_tests::provider::{Provider, header, respond, stall};
use spillway_tests::spillway::{Setup, binary};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a doctor is shown: a folder with a configuration, and an environment with nothing else in it.
struct Patient {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    /// Open files, at most.
    descriptors: Option<u32>,
}

/// What a command has said.
struct Heard {
    code: Option<i32>,
    text: String,
    complaint: String,
}

impl Patient {
    fn with(configuration: &str) -> Patient {
        let folder = TempDir::with_prefix("spillway-test-").expect("a folder");
        fs::write(folder.path().join("spillway.toml"), configuration).expect("written");
        Patient { folder, environment: Vec::new(), descriptors: None }
    }

    /// One whose providers are all there, on ports that the system chooses, and with this besides.
    fn at(provider: &Provider, more: &str) -> Patient {
        let url = provider.url();
        let upstreams = ["openai", "anthropic", "gemini"].map(|name| format!("[upstreams.{name}]\nurl = \"{url}\"\n"));
        Patient::with(&format!("{ANY_PORT}{}{more}", upstreams.concat()))
    }

    /// One whose only provider that anybody wants is here.
    fn wanting(url: &str, more: &str) -> Patient {
        Patient::with(&format!("{ANY_PORT}[upstreams.mine]\nurl = \"{url}\"\n{more}"))
    }

    fn variable(mut self, name: &'static str, value: &str) -> Patient {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(binary()),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -Sn {most} && ulimit -Hn {most} && exec \"$@\""), "sh"]);
                shell.arg(binary());
                shell
            }
        };
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn say(&self, arguments: &[&str]) -> Heard {
        let output = self.command().args(arguments).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Heard { code: output.status.code(), text: text(&output.stdout), complaint: text(&output.stderr) }
    }

    /// The doctor's report, and the exit code.
    fn report(&self, arguments: &[&str]) -> (Report, Option<i32>) {
        let heard = self.say(&[&["doctor", "--json"], arguments].concat());
        let report = serde_json::from_str(&heard.text);
        (Report(report.unwrap_or_else(|error| panic!("{error}: {}{}", heard.text, heard.complaint))), heard.code)
    }
}

const ANY_PORT: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";

struct Report(Value);

impl Report {
    /// The verdict about something, and what was said with what to do.
    #[track_caller]
    fn about(&self, area: &str) -> (String, String) {
        let findings = self.0["findings"].as_array().into_iter().flatten();
        let all: Vec<_> = findings.filter(|finding| finding["area"] == area).collect();
        assert!(!all.is_empty(), "nothing about {area}: {:#}", self.0);
        let said = all.iter().map(|finding| format!("{} {}", finding["said"], finding["next"]));
        let worst = ["broken", "doubtful", "well"];
        let worst = worst.into_iter().find(|verdict| all.iter().any(|finding| finding["verdict"] == *verdict));
        (worst.unwrap_or_default().to_owned(), said.collect())
    }

    #[track_caller]
    fn expect(&self, area: &str, verdict: &str, words: &[&str]) {
        let (found, said) = self.about(area);
        assert!(found == verdict && words.iter().all(|word| said.contains(word)), "{area} is {found}: {said}");
    }
}

/// Everything in a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn where_all_is_well_it_says_so_and_changes_nothing() {
    let provider = Provider::start();
    let patient = Patient::at(&provider, "");
    let before = files(patient.folder.path());
    let (report, code) = patient.report(&[]);
    assert_eq!((code, &report.0["can_serve"]), (Some(0), &Value::Bool(true)), "{:#}", report.0);
    for name in ["openai", "anthropic", "gemini"] {
        report.expect(name, "well", &["answers", "connection"]);
    }
    report.expect("clock", "well", &["right to a few seconds"]);
    report.expect("data folder", "well", &["can be made"]);
    report.expect("this shell", "doubtful", &["eval"]);
    let heard = patient.say(&["doctor"]);
    assert!(
        heard.code == Some(0) && heard.text.contains("Spillway can work here"),
        "{}{}",
        heard.text,
        heard.complaint
    );
    assert_eq!(files(patient.folder.path()), before);
    assert!(provider.requests().iter().all(|request| request.method == "GET"), "nothing that costs was asked");
}

#[test]
fn a_name_that_does_not_resolve_and_a_port_that_refuses_are_told_apart() {
    let (report, code) = Patient::wanting("https://no-such-host.invalid", "").report(&[]);
    report.expect("mine", "broken", &["the name did not resolve: no-such-host.invalid", "online"]);
    assert_eq!(code, Some(1));
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (report, code) = Patient::wanting(&format!("http://127.0.0.1:{free}"), "").report(&[]);
    report.expect("mine", "broken", &["connection refused", "Start the server"]);
    assert_eq!(code, Some(1));
}

#[test]
fn each_mistake_with_a_certificate_is_named_with_what_to_do() {
    let provider = Provider::start();
    let authority = Authority::new();
    let cases = [
        (authority.certify_until("localhost", 2025), "certificate expired on 2025-11-30", "renew"),
        (authority.certify("elsewhere.example"), "certificate is for another name", "upstreams.mine.url"),
        (Authority::new().certify("localhost"), "unknown authority (it calls itself", "SSL_CERT_FILE"),
        (self_signed("localhost"), "unknown authority (it calls itself", "ca_file"),
        (authority.certify("localhost"), "answers", "connection with TLS"),
    ];
    for (index, (identity, words, advice)) in cases.into_iter().enumerate() {
        let front = Between::tls(provider.address(), &identity);
        let patient = Patient::wanting(&format!("https://localhost:{}", front.port()), "ca_file = \"ca.pem\"\n");
        patient.file("ca.pem", &authority.pem);
        let (report, _) = patient.report(&[]);
        report.expect("mine", if index == 4 { "well" } else { "broken" }, &[words, advice]);
    }
    let (report, _) = Patient::wanting(&provider.url().replace("http://", "https://"), "").report(&[]);
    report.expect("mine", "broken", &["does not speak TLS", "http://"]);
}

#[test]
fn the_way_is_the_proxys_own_and_one_that_refuses_is_named_without_its_password() {
    let provider = Provider::start();
    let identity = self_signed("api.example");
    let front = Between::tls(provider.address(), &identity);
    let front_address = SocketAddr::from(([127, 0, 0, 1], front.port()));
    let opening = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    for (base, variable, target) in [
        ("https://api.example", "HTTPS_PROXY", front_address),
        ("http://api.example", "HTTP_PROXY", provider.address()),
    ] {
        let proxy = Between::proxy(target, opening);
        let patient = |password: &str| {
            let url = format!("http://Aladdin:{password}@localhost:{}", proxy.port());
            let more = "ca_file = \"ca.pem\"\n";
            let patient = Patient::wanting(base, more).variable(variable, &url);
            patient.file("ca.pem", &identity.pem);
            patient.report(&[]).0
        };
        let named = format!("through the proxy http://localhost:{}", proxy.port());
        patient("open%20sesame").expect("mine", "well", &["answers", &named]);
        let asked = proxy.seen().len();
        let report = patient("locked");
        report.expect("mine", "broken", &["407", "NAME:PASSWORD"]);
        assert!(!report.0.to_string().contains("locked"), "{:#}", report.0);
        let asked_for_mine = proxy.seen().into_iter().skip(asked);
        let asked_for_mine =
            asked_for_mine.filter(|seen| matches!(seen, Seen::Asked { line, .. } if line.contains("api.example")));
        assert_eq!(asked_for_mine.count(), 1, "an account is locked by whoever shows a wrong password again and again");
    }
    let socks = Between::socks(provider.address());
    let url = format!("socks5h://localhost:{}", socks.port());
    let report = Patient::wanting("http://api.example:8080", "").variable("ALL_PROXY", &url).report(&[]).0;
    report.expect("mine", "well", &["answers", "through the proxy socks5h://localhost"]);
}

#[test]
fn a_clock_that_is_off_is_told_by_the_date_of_answers() {
    let provider = Provider::start();
    provider.always(respond(401).header("date", "Sun, 06 Nov 2016 08:49:37 GMT"));
    let (report, code) = Patient::at(&provider, "").report(&[]);
    report.expect("clock", "broken", &["ahead of", "3 answers", "timedatectl"]);
    assert_eq!(code, Some(1));
}

#[test]
fn what_no_api_answers_is_doubted_and_does_not_keep_it_from_serving() {
    let provider = Provider::start();
    provider.always(respond(302).header("location", "https://login.example/"));
    let (report, code) = Patient::at(&provider, "").report(&[]);
    report.expect("openai", "doubtful", &["https://login.example/"]);
    assert_eq!(code, Some(0), "{:#}", report.0);
}

#[test]
fn whoever_is_silent_is_told_in_time() {
    let provider = Provider::start();
    provider.always(stall());
    let began = Instant::now();
    let (report, code) = Patient::at(&provider, "").report(&["--with-keys"]);
    report.expect("openai", "broken", &["accepts connections and does not answer within 4 s"]);
    assert_eq!(code, Some(1));
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
}

#[test]
fn a_port_is_free_or_spillways_or_somebody_elses() {
    let provider = Provider::start();
    let taken = provider.address();
    let (report, code) = Patient::with(&format!("[server]\nlisten = \"{taken}\"\n")).report(&[]);
    report.expect("server.listen", "broken", &["somebody else", "names it"]);
    assert_eq!(code, Some(1));

    let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (listen, admin) = (free(), free());
    let setup = Setup::with(&provider).set("server", &format!("listen = \"{listen}\""));
    let spillway = setup.set("admin", &format!("listen = \"{admin}\"")).start();
    let file = spillway.folder().join("spillway.toml");
    let bystander = Patient::at(&provider, "");
    let (report, code) = bystander.report(&["--config", &file.to_string_lossy()]);
    report.expect("server.listen", "well", &["a Spillway runs and answers"]);
    report.expect("admin.listen", "well", &["a Spillway 0.1.0 runs"]);
    report.expect("data folder", "well", &["in use by the Spillway that runs"]);
    assert_eq!(code, Some(0), "{:#}", report.0);
}

#[test]
fn a_second_spillway_would_have_neither_the_port_nor_the_folder_of_the_first() {
    let spillway = Setup::with(&Provider::start()).start();
    let listen = spillway.address();
    let dir = spillway.folder().join("spillway-data");
    let other = format!("[server]\nlisten = \"{listen}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[spool]\ndir = {dir:?}\n");
    let (report, code) = Patient::with(&other).report(&[]);
    report.expect("server.listen", "broken", &["another Spillway has"]);
    report.expect("data folder", "broken", &[&format!("another Spillway (process {})", spillway.pid())]);
    assert_eq!(code, Some(1));
}

#[test]
fn a_data_folder_that_cannot_be_is_told_with_what_it_means() {
    let provider = Provider::start();
    let patient = Patient::at(&provider, "[spool]\ndir = \"spillway.toml/data\"\n");
    let (report, code) = patient.report(&[]);
    report.expect("data folder", "broken", &["spillway.toml", "no request can be kept", "spool.dir"]);
    assert_eq!(code, Some(1));
    let patient = Patient::at(&provider, "[spool]\ndir = \".\"\n");
    for (mode, verdict, words) in [(0o755, "broken", "others can read this folder"), (0o700, "well", "can be used")] {
        fs::set_permissions(patient.folder.path(), fs::Permissions::from_mode(mode)).expect("set");
        patient.report(&[]).0.expect("data folder", verdict, &[words]);
    }
    let (report, _) = Patient::at(&provider, "[spool]\ndir = \"/\"\n").report(&[]);
    report.expect("data folder", "broken", &["spool.dir"]);
}

#[test]
fn a_policy_file_that_would_not_serve_is_told() {
    let provider = Provider::start();
    let patient = Patient::at(&provider, "policy = \"mine\"\n");
    fs::create_dir(patient.folder.path().join("policies")).expect("made");
    patient.file("policies/broken.wasm", "no policy");
    let (report, code) = patient.report(&[]);
    report.expect("policies", "broken", &["broken.wasm", "spillway policy check", "no mine.wasm"]);
    assert_eq!(code, Some(1));
}

#[test]
fn too_few_descriptors_are_told_and_survived() {
    let provider = Provider::start();
    for (descriptors, verdict) in [(12, "broken"), (40, "broken"), (256, "doubtful")] {
        let patient = Patient { descriptors: Some(descriptors), ..Patient::at(&provider, "") };
        let (report, code) = patient.report(&[]);
        report.expect("open files", verdict, &["may be open", "ulimit -Hn"]);
        assert_eq!(code, Some(i32::from(verdict == "broken")), "{:#}", report.0);
    }
}

#[test]
fn keys_are_shown_only_on_demand_and_never_told() {
    let provider = Provider::start();
    provider.always(respond(401));
    provider.when(header("authorization", "Bearer sk-right-0123456789"), respond(200));
    let with_key =
        |key: &str, arguments: &[&str]| Patient::at(&provider, "").variable("OPENAI_API_KEY", key).report(arguments);
    with_key("sk-right-0123456789", &[]);
    let shown = || provider.requests().iter().any(|request| request.header("authorization").is_some());
    assert!(!shown());
    let (report, code) = with_key("sk-right-0123456789", &["--with-keys"]);
    report.expect("openai key", "well", &["OPENAI_API_KEY is taken"]);
    assert!(shown() && code == Some(0));
    let (report, code) = with_key("sk-wrong-0123456789", &["--with-keys"]);
    report.expect("openai key", "broken", &["OPENAI_API_KEY is refused (401"]);
    assert!(code == Some(1) && !report.0.to_string().contains("0123456789"), "{:#}", report.0);
}

#[test]
fn a_wrong_configuration_is_broken_with_each_mistake() {
    let (report, code) = Patient::with("[server]\nlisten = \"4141\"\nmax_bodi = 1\n").report(&[]);
    report.expect("configuration", "broken", &["line 2: server.listen", "did you mean `max_body`"]);
    assert_eq!(code, Some(1));
}

/// A child that does not outlive us.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a child that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn init_writes_what_check_takes_and_run_serves() {
    let provider = Provider::start();
    let patient = Patient::with("").variable("OPENAI_API_KEY", "sk-canary").variable("GROQ_API_KEY", "sk-canary");
    let patient = patient.variable("OPENAI_BASE_URL", &provider.url());
    let file = patient.folder.path().join("spillway.toml");
    let refused = patient.say(&["init"]);
    assert_eq!((refused.code, fs::read_to_string(&file).expect("a file").len()), (Some(2), 0));
    assert!(refused.complaint.contains("--force"), "{}", refused.complaint);
    fs::remove_file(&file).expect("removed");

    let told = patient.say(&["init"]);
    assert_eq!(told.code, Some(0), "{}", told.complaint);
    for words in ["openai", "GROQ_API_KEY", "http://127.0.0.1:4141/groq/v1", "spillway doctor"] {
        assert!(told.text.contains(words), "no {words}: {}", told.text);
    }
    let text = fs::read_to_string(&file).expect("a file");
    assert!(!text.contains("canary") && !told.text.contains("canary"), "{text}");
    assert_eq!(patient.say(&["init", "--print"]).text, text);
    assert_eq!(patient.say(&["init", "--path", "other.toml"]).code, Some(0));
    assert_eq!(patient.say(&["init", "--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(&file).expect("a file"), text);
    let checked = patient.say(&["check"]);
    assert!(
        checked.code == Some(0) && !checked.text.contains("Is this meant"),
        "{}{}",
        checked.text,
        checked.complaint
    );

    // Some of its choices, taken as a person takes them.
    let taken = text
        .replace("#listen = \"127.0.0.1:4141\"", "listen = \"127.0.0.1:0\"")
        .replace("#listen = \"127.0.0.1:4142\"", "listen = \"127.0.0.1:0\"")
        .replace("#format = \"text\"", "format = \"json\"");
    fs::write(&file, taken).expect("written");
    let child = patient.command().arg("run").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    let mut child = Owned(child);
    let log = Log::follow(child.0.stderr.take().expect("a log")).expect("a log");
    let ready = log.wait_for(&["Spillway is ready"]);
    let listen: SocketAddr = ready["listen"].as_str().and_then(|listen| listen.parse().ok()).expect("an address");
    let answer = Connection::open(listen).and_then(|mut spillway| spillway.exchange(&chat())).expect("an answer");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(provider.stats().started, 1);
}
