use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn run<P: serde::de::DeserializeOwned>(command: fn(P) -> Result<Value, Refused>, params: Value) -> Value {
    answer(command(serde_json::from_value(params).unwrap()))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

#[test]
fn a_file_is_described_listed_and_fetched() {
    let (_keep, folder) = folder();
    let path = folder.join("notes.txt");
    fs::write(&path, "hello").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    let stat = run(stat, json!({"path": path}));
    assert_eq!((&stat["ok"], &stat["type"], &stat["size"]), (&json!(true), &json!("file"), &json!(5)));
    let list = run(list, json!({"path": folder, "maxEntries": 1}));
    assert_eq!((&list["entries"][0]["name"], &list["nextPageToken"]), (&json!("notes.txt"), &json!("1")));
    let rest = run(super::list, json!({"path": folder, "pageToken": "1"}));
    assert_eq!((&rest["entries"][0]["isDir"], &rest["truncated"]), (&json!(true), &json!(false)));
    let fetched =
        run(fetch, json!({"path": path, "expectedBinding": stat["binding"], "expectedCanonicalPath": path}));
    assert_eq!((&fetched["base64"], &fetched["mimeType"]), (&json!("aGVsbG8="), &json!("text/plain")));
    assert_eq!(run(fetch, json!({"path": path, "preflightOnly": true}))["base64"], "");
    assert_eq!(run(fetch, json!({"path": path, "maxBytes": 4}))["code"], "FILE_TOO_LARGE");
    assert_eq!(run(fetch, json!({"path": folder}))["code"], "IS_DIRECTORY");
    assert_eq!(run(fetch, json!({"path": folder.join("none")}))["code"], "NOT_FOUND");
    assert_eq!(run(fetch, json!({"path": "notes.txt"}))["code"], "INVALID_PATH");
}

#[test]
fn links_are_followed_only_when_told_to() {
    let (_keep, folder) = folder();
    fs::create_dir(folder.join("real")).unwrap();
    fs::write(folder.join("real/x"), "x").unwrap();
    symlink(folder.join("real"), folder.join("alias")).unwrap();
    let alias = folder.join("alias/x");
    let refused = run(fetch, json!({"path": alias}));
    assert_eq!(
        (&refused["code"], &refused["canonicalPath"]),
        (&json!("SYMLINK_REDIRECT"), &json!(folder.join("real/x")))
    );
    assert_eq!(run(fetch, json!({"path": alias, "followSymlinks": true}))["ok"], true);
    let confined = json!({"path": alias, "followSymlinks": true, "rootPath": folder.join("alias")});
    assert_eq!(run(fetch, confined)["ok"], true);
    let outside = json!({"path": "/etc/passwd", "followSymlinks": true, "rootPath": folder});
    assert_eq!(run(fetch, outside)["code"], "SYMLINK_REDIRECT");
    assert_eq!(
        run(write, json!({"path": alias, "contentBase64": "eA==", "overwrite": true}))["code"],
        "SYMLINK_REDIRECT"
    );
    symlink(folder.join("real/x"), folder.join("link")).unwrap();
    let through = json!({"path": folder.join("link"), "contentBase64": "eA==", "overwrite": true, "followSymlinks": true});
    assert_eq!(run(write, through)["code"], "SYMLINK_TARGET_DENIED");
}

#[test]
fn another_file_than_the_authorised_one_is_refused() {
    let (_keep, folder) = folder();
    let path = folder.join("x");
    fs::write(&path, "x").unwrap();
    let binding = run(fetch, json!({"path": path, "preflightOnly": true}))["binding"].clone();
    fs::write(folder.join("y"), "y").unwrap();
    fs::rename(folder.join("y"), &path).unwrap();
    let params = json!({"path": path, "expectedBinding": binding});
    assert_eq!(run(fetch, params.clone())["code"], "CANONICAL_PATH_CHANGED");
    assert_eq!(run(stat, params)["code"], "CANONICAL_PATH_CHANGED");
    assert_eq!(
        run(stat, json!({"path": path, "expectedCanonicalPath": "/other"}))["code"],
        "CANONICAL_PATH_CHANGED"
    );
}

#[test]
fn writing_never_surprises() {
    let (_keep, folder) = folder();
    let path = folder.join("deep/x.txt");
    let params = |more: Value| {
        let mut params = json!({"path": path, "contentBase64": "aGVsbG8="});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    assert_eq!(run(write, params(json!({})))["code"], "PARENT_NOT_FOUND");
    let preflight = run(write, params(json!({"createParents": true, "preflightOnly": true})));
    assert_eq!((&preflight["ok"], &preflight["binding"]["kind"]), (&json!(true), &json!("write")));
    assert!(!path.exists());
    let bound = json!({"createParents": true, "expectedBinding": preflight["binding"]});
    let written = run(write, params(bound.clone()));
    assert_eq!(
        (&written["ok"], &written["overwritten"], &written["size"]),
        (&json!(true), &json!(false), &json!(5))
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    assert_eq!(run(write, params(bound))["code"], "CANONICAL_PATH_CHANGED");
    assert_eq!(run(write, params(json!({})))["code"], "EXISTS_NO_OVERWRITE");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let again = json!({"overwrite": true, "contentBase64": "eA", "expectedSha256": fetch::sha256(b"x")});
    assert_eq!(run(write, params(again))["overwritten"], true);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    fs::hard_link(&path, folder.join("second")).unwrap();
    let careful = json!({"overwrite": true, "rejectHardlinks": true});
    assert_eq!(run(write, params(careful))["code"], "HARDLINK_TARGET_DENIED");
    assert_eq!(
        run(write, params(json!({"overwrite": true, "expectedSha256": "00"})))["code"],
        "INTEGRITY_FAILURE"
    );
    assert_eq!(run(write, params(json!({"contentBase64": "!"})))["code"], "INVALID_BASE64");
    assert_eq!(fs::read_dir(folder.join("deep")).unwrap().count(), 1);
}

#[test]
fn what_is_not_a_file_is_not_waited_for() {
    let (_keep, folder) = folder();
    let path = folder.join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(run(fetch, json!({"path": path}))["code"], "UNSUPPORTED_FILE_TYPE");
}
