//! Commands that talk with the gateway while they run: `tidegate node run` beside the official node host, both asked the
//! same by a gateway that only the test knows.

use crate::support::node_host::NativeNode;
use crate::support::node_peer::{NodeDoor, NodePeer, Outcome, Said, TOKEN};
use crate::support::official::Official;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a host did: a name for each thing that was tried, and what came of it.
type Deeds = Vec<(String, Value)>;

struct Trial {
    peer: NodePeer,
    folder: TempDir,
    deeds: Deeds,
}

impl Trial {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn note(&mut self, what: &str, outcome: impl Into<Value>) {
        self.deeds.push((what.to_owned(), outcome.into()));
    }

    /// Asks about a creation, and returns the params that go with the answer.
    async fn preflight(&mut self, path: &Path, content: &[u8]) -> Value {
        let mut params = json!({"path": path, "sizeBytes": content.len(), "expectedSha256": sha256(content),
            "createParents": true, "preflightOnly": true});
        let answer = self.peer.invoke("file.create", &params).await.unwrap();
        params["preflightOnly"] = json!(false);
        params["expectedCanonicalPath"] = answer["path"].clone();
        params["expectedBinding"] = answer["binding"].clone();
        params
    }

    async fn create(&mut self, name: &str, content: &[u8], message_bytes: usize) -> Outcome {
        let path = self.path(name);
        let params = self.preflight(&path, content).await;
        self.send(&params, content, message_bytes).await
    }

    async fn send(&mut self, params: &Value, content: &[u8], message_bytes: usize) -> Outcome {
        let mut invoke = self.peer.begin("file.create", params).await;
        match invoke.hear().await {
            Said::Ready => {}
            Said::Done(outcome) => return outcome,
            said => panic!("not ready: {said:?}"),
        }
        for message in content.chunks(message_bytes) {
            invoke.send(message).await;
            match invoke.hear().await {
                Said::Message(ack) => assert_eq!(ack, b"ack"),
                Said::Done(outcome) => return outcome,
                Said::Ready => panic!("ready twice"),
            }
        }
        invoke.send(b"").await;
        invoke.outcome().await
    }

    async fn fetch(&mut self, path: &Path) -> (Outcome, Vec<u8>) {
        let mut params =
            json!({"path": path, "transport": "binary", "maxBytes": 100_000_000, "preflightOnly": true});
        let answer = self.peer.invoke("file.fetch", &params).await.unwrap();
        params["preflightOnly"] = json!(false);
        params["expectedBinding"] = answer["binding"].clone();
        let mut invoke = self.peer.begin("file.fetch", &params).await;
        assert!(matches!(invoke.hear().await, Said::Ready));
        invoke.send(b"start").await;
        let mut content = Vec::new();
        loop {
            match invoke.hear().await {
                Said::Message(message) => content.extend(message),
                Said::Done(outcome) => return (outcome, content),
                Said::Ready => panic!("ready twice"),
            }
            invoke.send(b"ack").await;
        }
    }

    /// Whether nothing but this is in the folder: no draft, no half a file.
    fn left(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 253) as u8).collect()
}

/// What is the same for every host: the code where it was refused, else everything but the names of this machine.
fn essence(outcome: Outcome, folder: &Path) -> Value {
    match outcome {
        Err(error) => json!({"error": error["code"]}),
        Ok(payload) if payload["ok"] == false => json!({"refused": payload["code"]}),
        Ok(mut payload) => {
            let path = PathBuf::from(payload["path"].as_str().unwrap());
            payload["path"] = json!(path.strip_prefix(folder.canonicalize().unwrap()).unwrap());
            for number in ["device", "inode"] {
                assert!(payload["binding"][number].as_str().unwrap().parse::<u64>().is_ok());
                payload["binding"][number] = json!("a number");
            }
            payload
        }
    }
}

/// Tries everything on one host.
async fn tried(peer: NodePeer) -> Deeds {
    let folder = tempfile::tempdir().unwrap();
    let mut trial = Trial { peer, folder, deeds: Vec::new() };
    let root = trial.folder.path().to_owned();
    let of = |outcome: Outcome| essence(outcome, &root);

    for (name, length, message) in [
        ("small", 5, 1 << 20),
        ("empty", 0, 1),
        ("deep/er/large", 2_500_000, 1 << 20),
        ("many", 100_000, 9_000),
    ] {
        let content = noise(length);
        let outcome = trial.create(name, &content, message).await;
        trial.note(name, of(outcome));
        let path = trial.path(name);
        assert_eq!(fs::read(&path).unwrap(), content);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        trial.note("its mode", mode);
        let (outcome, fetched) = trial.fetch(&path).await;
        assert_eq!(fetched, content);
        trial.note("fetched", of(outcome));
    }

    let outcome = trial.create("small", b"other", 10).await;
    trial.note("a name that is taken", of(outcome));
    assert_eq!(fs::read(trial.path("small")).unwrap(), noise(5));
    let late = trial.path("late");
    let params = trial.preflight(&late, b"mine").await;
    fs::write(&late, "theirs").unwrap();
    let outcome = trial.send(&params, b"mine", 10).await;
    trial.note("a name that is taken meanwhile", of(outcome));
    assert_eq!(fs::read(&late).unwrap(), b"theirs");

    let gone = trial.path("small");
    let params = trial.preflight(&gone, b"again").await;
    fs::remove_file(&gone).unwrap();
    let outcome = trial.send(&params, b"again", 10).await;
    trial.note("a file that was there at first", of(outcome));
    let moved = trial.path("moved");
    fs::create_dir(&moved).unwrap();
    let params = trial.preflight(&moved.join("x"), b"x").await;
    fs::rename(&moved, trial.path("elsewhere")).unwrap();
    fs::create_dir(&moved).unwrap();
    let outcome = trial.send(&params, b"x", 10).await;
    trial.note("another folder under the same name", of(outcome));

    let wrong = trial.path("wrong");
    let mut params = trial.preflight(&wrong, b"right").await;
    let outcome = trial.send(&params, b"wrong", 10).await;
    trial.note("other content than announced", of(outcome));
    let outcome = trial.send(&params, b"righ", 10).await;
    trial.note("less than announced", of(outcome));
    let outcome = trial.send(&params, b"right and more", 100).await;
    trial.note("more than announced", of(outcome));
    params.as_object_mut().unwrap().remove("expectedBinding");
    let outcome = trial.peer.invoke("file.create", &params).await;
    trial.note("without the binding", of(outcome));

    symlink(trial.path("deep"), trial.path("alias")).unwrap();
    symlink(trial.path("many"), trial.path("link")).unwrap();
    symlink(trial.path("nowhere"), trial.path("dangling")).unwrap();
    let hash = sha256(b"x");
    for (what, change) in [
        ("a relative path", json!({"path": "x"})),
        ("no path", json!({"path": null})),
        ("a path through a link", json!({"path": trial.path("alias/x")})),
        ("a link", json!({"path": trial.path("link")})),
        ("a link that is followed", json!({"path": trial.path("link"), "followSymlinks": true})),
        ("below a link to nowhere", json!({"path": trial.path("dangling/x")})),
        ("below a file", json!({"path": trial.path("many/x")})),
        ("a folder", json!({"path": trial.path("deep")})),
        ("no parent", json!({"path": trial.path("no/parent"), "createParents": false})),
        ("no size", json!({"sizeBytes": null})),
        ("half a byte", json!({"sizeBytes": 0.5})),
        ("more than allowed", json!({"sizeBytes": 5, "maxBytes": 4})),
        ("no hash", json!({"expectedSha256": "zz"})),
        ("another path than decided", json!({"expectedCanonicalPath": "/elsewhere"})),
    ] {
        let mut params = json!({"path": trial.path("x"), "sizeBytes": 1, "expectedSha256": hash, "preflightOnly": true,
            "createParents": true});
        params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        params.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let outcome = trial.peer.invoke("file.create", &params).await;
        trial.note(what, of(outcome));
    }
    for (what, params) in [
        ("an unknown transport", json!({"path": trial.path("many"), "transport": "pigeon", "maxBytes": 1})),
        ("no limit", json!({"path": trial.path("many"), "transport": "binary"})),
        (
            "too large",
            json!({"path": trial.path("many"), "transport": "binary", "maxBytes": 9, "preflightOnly": true}),
        ),
        ("nothing bound", json!({"path": trial.path("many"), "transport": "binary", "maxBytes": 999_999})),
    ] {
        let outcome = trial.peer.invoke("file.fetch", &params).await;
        trial.note(what, of(outcome));
    }

    let path = trial.path("broken");
    let params = trial.preflight(&path, b"x").await;
    let mut invoke = trial.peer.begin("file.create", &params).await;
    assert!(matches!(invoke.hear().await, Said::Ready));
    invoke
        .send_frame("{\"v\":1,\"kind\":\"data\",\"message\":3,\"index\":0,\"last\":true,\"data\":\"eA==\"}")
        .await;
    let outcome = invoke.outcome().await;
    trial.note("frames out of order", of(outcome));

    let mut invoke = trial.peer.begin("file.create", &params).await;
    assert!(matches!(invoke.hear().await, Said::Ready));
    invoke.send(b"x").await;
    assert!(matches!(invoke.hear().await, Said::Message(_)));
    invoke.cancel().await;
    let outcome = trial.create("after", b"cancelled", 10).await;
    trial.note("after one that was cancelled", of(outcome));
    let left = trial.left();
    trial.note("what is there in the end", left);
    trial.deeds
}

#[tokio::test]
async fn files_are_created_and_streamed_as_the_official_node_host_does() {
    let door = NodeDoor::open().await;
    let official = Official::at(door.port(), TOKEN);
    let _host = official.node_host("theirs");
    let peer = door.welcome().await;
    assert!(peer.commands.iter().any(|name| name == "file.create"));
    let theirs = tried(peer).await;

    let door = NodeDoor::open().await;
    let _node = NativeNode::at(door.port(), TOKEN, "ours");
    let peer = door.welcome().await;
    assert!(peer.commands.iter().any(|name| name == "file.create"));
    let ours = tried(peer).await;

    let different: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(different.is_empty() && ours.len() == theirs.len(), "{different:#?}");
}

#[tokio::test]
async fn a_gateway_that_goes_away_leaves_nothing_behind() {
    let door = NodeDoor::open().await;
    let _node = NativeNode::at(door.port(), TOKEN, "ours");
    let folder = tempfile::tempdir().unwrap();
    let mut trial = Trial { peer: door.welcome().await, folder, deeds: Vec::new() };
    let path = trial.path("x");
    let params = trial.preflight(&path, b"half a file").await;
    let mut invoke = trial.peer.begin("file.create", &params).await;
    assert!(matches!(invoke.hear().await, Said::Ready));
    invoke.send(b"half a ").await;
    assert!(matches!(invoke.hear().await, Said::Message(_)));
    let Trial { peer, folder, .. } = trial;
    drop(peer);
    // The next connection starts afresh.
    let mut trial = Trial { peer: door.welcome().await, folder, deeds: Vec::new() };
    assert_eq!(trial.left(), Vec::<String>::new());
    assert_eq!(trial.create("x", b"a whole one", 100).await.unwrap()["status"], "created");
    assert_eq!(fs::read(&path).unwrap(), b"a whole one");
}
