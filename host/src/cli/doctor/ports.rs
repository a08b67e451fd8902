//! The addresses that Spillway listens on: free, held by a Spillway that answers, or by somebody else.

use super::finding::Finding;
use crate::cli::running::{self, AdminAddress};
use crate::runtime::port;
use crate::runtime::unix_socket;
use crate::upstream::client::Trust;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How long whoever listens on this machine may take to say who it is.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// What every answer of Spillway's own to a question about jobs has.
const REFUSAL_HEADER: &str = "x-spillway-refusal";

/// One of the two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    /// `server.listen`.
    Data,
    /// `admin.listen`.
    Admin,
}

impl Plane {
    fn setting(self) -> &'static str {
        match self {
            Plane::Data => "server.listen",
            Plane::Admin => "admin.listen",
        }
    }
}

/// How a port stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// Nobody has it.
    Free,
    /// The system chooses one.
    Any,
    /// A Spillway answers there; its version, where it says so.
    Spillway(Option<String>),
    /// Somebody else has it.
    Other,
    /// It cannot be had, for this reason.
    Refused { is_permission: bool, why: String },
}

impl Port {
    /// Whether a Spillway answers there.
    pub(super) fn is_spillways(&self) -> bool {
        matches!(self, Port::Spillway(_))
    }
}

/// Looks at an address, and asks who is there if it is taken; whoever has the admin address, as operators ask.
pub(super) async fn look(plane: Plane, address: SocketAddr, admin: &AdminAddress) -> Port {
    if address.port() == 0 {
        return Port::Any;
    }
    match port::try_out(address) {
        Ok(()) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => ask(plane, address, admin).await,
        Err(error) => {
            let is_permission = error.kind() == io::ErrorKind::PermissionDenied;
            Port::Refused { is_permission, why: error.to_string() }
        }
    }
}

async fn ask(plane: Plane, address: SocketAddr, admin: &AdminAddress) -> Port {
    match plane {
        Plane::Data => ask_for_refusal(address).await.unwrap_or(Port::Other),
        Plane::Admin => {
            let admin = admin.clone();
            let told = spawn_blocking(move || running::status(&admin)).await;
            let Ok(Ok(told)) = told else { return Port::Other };
            let status: serde_json::Value = serde_json::from_str(&told.text).unwrap_or_default();
            Port::Spillway(status["version"].as_str().map(str::to_owned))
        }
    }
}

/// Asks for what no Spillway has, which it says in its own way.
async fn ask_for_refusal(address: SocketAddr) -> reqwest::Result<Port> {
    let tls = (*Trust::with(&[]).config()).clone();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(ANSWER_MAX).build()?;
    let response = client.get(format!("http://{}/spillway/", port::local(address))).send().await?;
    Ok(if response.headers().contains_key(REFUSAL_HEADER) { Port::Spillway(None) } else { Port::Other })
}

/// What both addresses come to. One Spillway has both; of two of them the second cannot start.
pub(super) fn findings(data: (SocketAddr, &Port), admin: (SocketAddr, &Port)) -> Vec<Finding> {
    let is_one = data.1.is_spillways() && admin.1.is_spillways();
    [(Plane::Data, data), (Plane::Admin, admin)].map(|(plane, (at, port))| finding(plane, at, port, is_one)).into()
}

fn finding(plane: Plane, address: SocketAddr, port: &Port, is_one: bool) -> Finding {
    let setting = plane.setting();
    match port {
        Port::Free => Finding::well(setting, format!("{address} is free")),
        Port::Any => Finding::well(setting, format!("the system chooses a port at {}", address.ip())),
        Port::Spillway(version) if is_one => {
            let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            Finding::well(setting, format!("a Spillway{version} runs and answers at {address}"))
        }
        Port::Spillway(_) => Finding::broken(
            setting,
            format!("another Spillway has {address}, and its other address is not the one that is configured here"),
            format!("Stop it, or choose another port in {setting}."),
        ),
        Port::Other => Finding::broken(
            setting,
            format!("somebody else has {address}, and does not answer as a Spillway"),
            format!("End it ({} names it), or choose another port in {setting}.", port::who_listens(address.port())),
        ),
        Port::Refused { is_permission: true, .. } => Finding::broken(
            setting,
            format!("{address} is not permitted: {}", port::WHY_NOT_PERMITTED),
            format!("Choose another port in {setting}."),
        ),
        Port::Refused { why, .. } => Finding::broken(
            setting,
            format!("{address} cannot be had: {why}"),
            format!("Choose an address of this machine in {setting}."),
        ),
    }
}

/// The Unix socket, if there is to be one. `runs` says that a Spillway answers at the configured addresses.
pub(super) fn socket(path: &Path, runs: bool) -> Finding {
    const AREA: &str = "server.unix_socket";
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(found) = path.symlink_metadata() else {
        return match folder.is_dir() {
            true => Finding::well(AREA, format!("{shown} is free")),
            false => Finding::broken(
                AREA,
                format!("the folder {} does not exist", folder.display()),
                "Make it, or choose another place.",
            ),
        };
    };
    if !unix_socket::is_one(&found) {
        let said = format!("{shown} is a file, and no socket; Spillway leaves it alone");
        return Finding::broken(AREA, said, "Move it away, or choose another place.");
    }
    match (unix_socket::is_answered(path), runs) {
        (true, true) => Finding::well(AREA, format!("{shown} is answered, by the Spillway that runs")),
        (true, false) => Finding::broken(
            AREA,
            format!("a process answers at {shown}"),
            "Is another Spillway running? Stop it, or choose another place.",
        ),
        (false, _) => Finding::well(AREA, format!("{shown} was left by a process that is gone, and is replaced")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_port_is_well_if_it_is_free_or_one_spillways_with_the_other() {
        let at = SocketAddr::from(([127, 0, 0, 1], 4141));
        let ours = || Port::Spillway(Some("0.1.0".to_owned()));
        let verdicts = |data: &Port, admin: &Port| {
            findings((at, data), (at, admin)).iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        use Verdict::{Broken, Well};
        assert_eq!(verdicts(&Port::Free, &Port::Any), [Well, Well]);
        assert_eq!(verdicts(&ours(), &ours()), [Well, Well]);
        assert_eq!(verdicts(&ours(), &Port::Free), [Broken, Well]);
        assert_eq!(verdicts(&Port::Free, &Port::Other), [Well, Broken]);
        let refused = Port::Refused { is_permission: true, why: String::new() };
        assert_eq!(verdicts(&refused, &Port::Other), [Broken, Broken]);
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_is_in_the_way_only_while_somebody_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spillway.sock");
        assert_eq!(socket(&path, false).verdict, Verdict::Well);
        assert_eq!(socket(&folder.path().join("none/spillway.sock"), false).verdict, Verdict::Broken);
        let listener = unix_socket::Listener::bind(&path).expect("bound");
        assert_eq!((socket(&path, false).verdict, socket(&path, true).verdict), (Verdict::Broken, Verdict::Well));
        drop(listener);
        assert_eq!(socket(&path, false).verdict, Verdict::Well);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "letters").expect("written");
        assert_eq!(socket(&path, false).verdict, Verdict::Broken);
    }
}
