//! `dir.fetch`: a whole folder as one compressed archive.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Binding, MAX_BYTES, Refused, Target,
    archive::{Limits, pack},
    fetch::sha256,
};

const DEFAULT_BYTES: usize = 8 * 1024 * 1024;

/// Params of `dir.fetch`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Params {
    #[serde(flatten)]
    target: Target,
    /// Of the archive.
    max_bytes: Option<f64>,
}

pub(in super::super) fn fetch_folder(params: Params) -> Result<Value, Refused> {
    let opened = params.target.open()?;
    if !opened.meta.is_dir() {
        return Err(Refused::not_folder(&opened.path));
    }
    let binding = Binding::of(&opened.meta);
    let most = params.max_bytes.filter(|most| *most >= 1.0).map_or(DEFAULT_BYTES, |most| most as usize);
    // A question only is answered in full too: what it says must hold for the archive.
    let archive = pack(&opened.file, &Limits::with_archive_bytes(most.min(MAX_BYTES)))
        .map_err(|refused| refused.at(&opened.path))?;
    let mut answer = json!({
        "path": opened.path, "tarBase64": "", "tarBytes": 0, "sha256": "",
        "fileCount": archive.entries.len(), "entries": archive.entries, "binding": binding,
    });
    if params.target.preflight_only {
        answer["preflightOnly"] = json!(true);
    } else {
        answer["tarBase64"] = json!(STANDARD.encode(&archive.bytes));
        answer["tarBytes"] = json!(archive.bytes.len());
        answer["sha256"] = json!(sha256(&archive.bytes));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        os::unix::{fs::PermissionsExt, fs::symlink, net::UnixListener},
        path::{Path, PathBuf},
    };

    use flate2::read::GzDecoder;

    use super::{super::answer, *};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn run(params: Value) -> Value {
        answer(fetch_folder(serde_json::from_value(params).unwrap()))
    }

    /// What is below a folder: the mode, and the content of files.
    fn tree(folder: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
        let (mut found, mut ahead) = (BTreeMap::new(), vec![folder.to_owned()]);
        while let Some(next) = ahead.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                let meta = path.symlink_metadata().unwrap();
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                let content = (!meta.is_dir()).then(|| fs::read(&path).unwrap());
                found.insert(name, (meta.permissions().mode() & 0o777, content));
                if meta.is_dir() {
                    ahead.push(path);
                }
            }
        }
        found
    }

    #[test]
    fn what_is_fetched_unpacks_to_the_same_folder() {
        let (_keep, path) = folder();
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        fs::create_dir_all(path.join(&long).parent().unwrap()).unwrap();
        fs::create_dir_all(path.join("empty/inner")).unwrap();
        fs::write(path.join(&long), "deep").unwrap();
        fs::write(path.join("zw\u{f6}lf\n"), (0..=255).collect::<Vec<u8>>().repeat(999)).unwrap();
        fs::write(path.join(".hidden"), "").unwrap();
        fs::set_permissions(path.join(".hidden"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::hard_link(path.join(&long), path.join("second name")).unwrap();
        let answer = run(json!({"path": path}));
        assert_eq!((&answer["ok"], &answer["path"]), (&json!(true), &json!(path)));
        let bytes = STANDARD.decode(answer["tarBase64"].as_str().unwrap()).unwrap();
        assert_eq!((&answer["tarBytes"], &answer["sha256"]), (&json!(bytes.len()), &json!(sha256(&bytes))));
        let (_keep, unpacked) = folder();
        tar::Archive::new(GzDecoder::new(&bytes[..])).unpack(&unpacked).unwrap();
        let there = tree(&path);
        assert_eq!(tree(&unpacked), there);
        assert_eq!(answer["entries"], json!(there.keys().collect::<Vec<_>>()));
        assert_eq!(answer["fileCount"], there.len());
    }

    #[test]
    fn it_is_asked_about_first_and_the_same_folder_must_still_be_there() {
        let (_keep, path) = folder();
        let asked = path.join("asked");
        fs::create_dir(&asked).unwrap();
        fs::write(asked.join("x"), "x").unwrap();
        let first = run(json!({"path": asked, "preflightOnly": true}));
        assert_eq!((&first["entries"], &first["preflightOnly"]), (&json!(["x"]), &json!(true)));
        assert_eq!(
            (&first["tarBase64"], &first["tarBytes"], &first["sha256"]),
            (&json!(""), &json!(0), &json!(""))
        );
        let bound =
            json!({"path": asked, "expectedBinding": first["binding"], "expectedCanonicalPath": asked});
        assert_eq!(run(bound.clone())["ok"], true);
        fs::rename(&asked, path.join("before")).unwrap();
        fs::create_dir(&asked).unwrap();
        assert_eq!(run(bound)["code"], "CANONICAL_PATH_CHANGED");
    }

    #[test]
    fn a_link_in_it_refuses_the_folder() {
        let (_keep, path) = folder();
        let _listening = UnixListener::bind(path.join("socket")).unwrap();
        assert_eq!(run(json!({"path": path}))["entries"], json!([]));
        for target in ["/etc/passwd", "/etc", "socket", "nowhere"] {
            symlink(target, path.join("link")).unwrap();
            for preflight in [false, true] {
                let refused = run(json!({"path": path, "followSymlinks": true, "preflightOnly": preflight}));
                assert_eq!(
                    (&refused["code"], &refused["canonicalPath"]),
                    (&json!("READ_ERROR"), &json!(path))
                );
            }
            fs::remove_file(path.join("link")).unwrap();
        }
        nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(run(json!({"path": path}))["code"], "READ_ERROR");
    }

    #[test]
    fn a_link_to_it_is_followed_only_when_told_to() {
        let (_keep, path) = folder();
        fs::create_dir(path.join("real")).unwrap();
        symlink(path.join("real"), path.join("alias")).unwrap();
        assert_eq!(run(json!({"path": path.join("alias")}))["code"], "SYMLINK_REDIRECT");
        let followed = run(json!({"path": path.join("alias"), "followSymlinks": true}));
        assert_eq!((&followed["ok"], &followed["path"]), (&json!(true), &json!(path.join("real"))));
    }

    #[test]
    fn what_is_no_folder_or_too_large_is_refused() {
        let (_keep, path) = folder();
        let noise: Vec<u8> = (0..64).flat_map(|n: u8| sha256(&[n]).into_bytes()).collect();
        fs::write(path.join("x"), noise).unwrap();
        assert_eq!(run(json!({"path": path, "maxBytes": 1000}))["code"], "TREE_TOO_LARGE");
        assert_eq!(
            run(json!({"path": path, "maxBytes": 1000, "preflightOnly": true}))["code"],
            "TREE_TOO_LARGE"
        );
        assert_eq!(run(json!({"path": path, "maxBytes": 10_000}))["ok"], true);
        let file = run(json!({"path": path.join("x")}));
        assert_eq!((&file["code"], &file["canonicalPath"]), (&json!("IS_FILE"), &json!(path.join("x"))));
        assert_eq!(run(json!({"path": path.join("none")}))["code"], "NOT_FOUND");
        assert_eq!(run(json!({"path": "relative"}))["code"], "INVALID_PATH");
        assert_eq!(run(json!({}))["code"], "INVALID_PATH");
    }
}
