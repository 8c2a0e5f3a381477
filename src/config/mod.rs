//! Finding, reading, checking and editing the configuration.
//!
//! JSON5 text → `$include` → `${ENV}` and secret references → layers → strict types → rules.

mod decode;
mod edit;
mod environment;
mod error;
mod file;
mod include;
mod key_path;
mod known;
mod layers;
mod live;
mod place;
pub mod private;
mod redact;
mod rules;
mod strays;
mod substitute;
pub mod token;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_actors::settings::{ConfigIssue, Settings, SettingsHandle, gateway::GatewayMode};

pub use self::{
    edit::EditError,
    environment::Environment,
    error::{ConfigError, EXIT_CONFIG},
    file::DiskConfig,
    key_path::{KeyPath, KeyPathError, lookup},
    live::{Reloader, StartCheck},
    place::{Place, PlaceFlags},
    redact::{REDACTED, is_sensitive, redacted},
};

/// What the command line says about the gateway; the highest layer.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub port: Option<u16>,
    pub bind: Option<String>,
    pub auth: Option<String>,
    pub token: Option<String>,
    pub password: Option<String>,
    pub tailscale: Option<String>,
}

impl Flags {
    fn tree(&self) -> Value {
        let mut tree = json!({});
        let mut put = |branch: Value| include::merge(&mut tree, branch);
        if let Some(port) = self.port {
            put(json!({"gateway": {"port": port}}));
        }
        if let Some(bind) = &self.bind {
            put(json!({"gateway": {"bind": bind}}));
        }
        if let Some(mode) = &self.tailscale {
            put(json!({"gateway": {"tailscale": {"mode": mode}}}));
        }
        for (key, value) in [("mode", &self.auth), ("token", &self.token), ("password", &self.password)] {
            if let Some(value) = value {
                put(json!({"gateway": {"auth": {key: value}}}));
            }
        }
        tree
    }
}

/// A configuration that was read and whose types are right.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Keys of the file that this version doesn't use.
    pub unknown: Vec<String>,
    /// Keys that were left out because their value could not be found.
    pub missing: Vec<ConfigIssue>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Of the main file's text.
    pub hash: String,
}

impl Loaded {
    /// Whether commands talk to a gateway elsewhere, and none is to run here.
    pub fn is_remote(&self) -> bool {
        self.settings.gateway.mode == Some(GatewayMode::Remote)
    }

    /// Whether a gateway may run with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(issue) = self.missing.iter().find(|issue| issue.path.starts_with("gateway.")) {
            return Err(ConfigError::refused(issue.to_string()));
        }
        rules::check(&self.settings, &self.unknown)
    }
}

/// Reads the configuration of a place.
pub fn load(place: &Place, env: &Environment, flags: &Flags) -> Result<Loaded, ConfigError> {
    load_text(read(&place.config)?.as_deref(), place, env, flags)
}

/// The file's text; none when there is no file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::in_file(path, "", &error)),
    }
}

/// The same with a text that isn't in the file yet.
fn load_text(
    text: Option<&str>,
    place: &Place,
    env: &Environment,
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let resolved = resolve(text, place, env)?;
    let Resolved { tree, missing, files } = resolved;
    let wrong = |issue: ConfigIssue| {
        let file = source(text, place, &files, &issue.path);
        ConfigError::in_file(file, &issue.path, &issue.message)
    };
    // The file by itself first: a higher layer must not hide what is wrong with it.
    let (_, mut unknown) = decode::decode(&tree).map_err(wrong)?;
    unknown.extend(decode::odd_keys(&tree));
    let stacked = layers::stack(tree, place, env, flags)?;
    // The file was right by itself.
    let (mut settings, _) = decode::decode(&stacked).map_err(|issue| {
        let flags = flags.tree();
        let by_flag = flags.pointer(&format!("/{}", issue.path.replace('.', "/"))).is_some();
        let layer = if by_flag { "on the command line" } else { "from the environment" };
        ConfigError::refused(format!("{issue} ({layer})"))
    })?;
    place.complete_paths(&mut settings, env);
    Ok(Loaded { settings, unknown, missing, files, hash: hash(text.unwrap_or_default()) })
}

/// The file that has this key: one that is not in the config file comes from the one that it includes.
fn source<'a>(text: Option<&str>, place: &'a Place, files: &'a [PathBuf], path: &str) -> &'a Path {
    let own = text.and_then(|text| include::parse(&place.config, text).ok()).unwrap_or_default();
    let is_here = path.parse().is_ok_and(|path: KeyPath| lookup(&own, &path).is_some());
    match files {
        [_, included] if !is_here => included,
        _ => &place.config,
    }
}

/// The file with everything filled in, before layers and types.
struct Resolved {
    tree: Value,
    missing: Vec<ConfigIssue>,
    files: Vec<PathBuf>,
}

fn resolve(text: Option<&str>, place: &Place, env: &Environment) -> Result<Resolved, ConfigError> {
    let Some(text) = text else {
        return Ok(Resolved { tree: json!({}), missing: Vec::new(), files: vec![place.config.clone()] });
    };
    let parsed = include::parse(&place.config, text)?;
    let include::Tree { value: mut tree, files } = include::resolve(&place.config, parsed)?;
    let env = with_inline(env, &tree);
    let missing = substitute::substitute(&mut tree, &env)
        .into_iter()
        .map(|gone| ConfigIssue { file: None, path: gone.path, message: gone.why })
        .collect();
    Ok(Resolved { tree, missing, files })
}

/// `env.vars` of the file, where the process has no such variable.
fn with_inline(env: &Environment, tree: &Value) -> Environment {
    let mut env = env.clone();
    for (name, value) in tree.pointer("/env/vars").and_then(Value::as_object).into_iter().flatten() {
        if let Value::String(value) = value {
            env.fill(name, value);
        }
    }
    env
}

/// SHA-256 in hex, as clients compare it.
fn hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A configuration that a gateway runs with.
pub struct Running {
    pub settings: SettingsHandle,
    /// Watches the file: run it beside the gateway.
    pub reloader: std::sync::Arc<Reloader>,
    /// A token was made because none was configured: where it is kept.
    pub own_token: Option<PathBuf>,
    /// Things worth a line in the log: unused keys, keys left out.
    pub notes: Vec<String>,
}

/// Reads and checks the configuration, and makes what a gateway needs: the state
/// folder, and a token where none is configured.
pub fn start(place: Place, env: Environment, flags: Flags) -> Result<Running, ConfigError> {
    let mut loaded = load(&place, &env, &flags)?;
    loaded.check()?;
    let tightened = make_state(&place)?;
    let own_token = with_own_token(&mut loaded.settings, &place)?;
    let mut notes = live::notes(&loaded);
    if tightened {
        notes.push(format!("{} could be read by others; it can't any more", place.config.display()));
    }
    notes.extend(place.shared(&env));
    let (settings, reloader) = Reloader::new(place, env, flags, loaded);
    Ok(Running { settings, reloader, own_token, notes })
}

/// State is for its owner alone, whatever the shell's umask says. True if that was not so
/// for the config file.
fn make_state(place: &Place) -> Result<bool, ConfigError> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let log = place.state.log_file();
    let logs = log.parent().unwrap_or(place.state.root());
    for folder in [place.state.root(), &place.state.media(), logs] {
        private::folder(folder)
            .map_err(|error| ConfigError::state("make the state folder", folder, error))?;
    }
    private::tighten(&place.config, place.state.root())
        .map_err(|error| ConfigError::state("protect the config file", &place.config, error))
}

/// Fills in the gateway's own token, and says where it is kept.
fn with_own_token(settings: &mut Settings, place: &Place) -> Result<Option<PathBuf>, ConfigError> {
    if !rules::wants_own_token(&settings.gateway) {
        return Ok(None);
    }
    settings.gateway.auth.token = Some(token::stored_or_new(&place.state)?);
    Ok(Some(place.state.gateway_token()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path) -> Place {
        let flags = PlaceFlags {
            state_dir: Some(folder.join("state").display().to_string()),
            ..PlaceFlags::default()
        };
        Place::find(&flags, &Environment::default()).unwrap()
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        private::folder(place.state.root()).unwrap();
        std::fs::write(
            &place.config,
            "{gateway: {port: 1, auth: {token: 'from-file'}}, models: {providers: \
             {anthropic: {apiKey: 'file-key'}}}}",
        )
        .unwrap();
        let env = Environment::of([
            ("OPENCLAW_GATEWAY_PORT", "2"),
            ("TIDEGATE_GATEWAY_TOKEN", "from-env"),
            ("ANTHROPIC_API_KEY", "env-key"),
            ("OPENAI_API_KEY", "env-key"),
        ]);
        let flags = Flags { port: Some(3), ..Flags::default() };
        let settings = load(&place, &env, &flags).unwrap().settings;
        assert_eq!(settings.gateway.port(), 3);
        // A shared secret in the file is the gateway's own; the environment's may be meant for another one.
        assert!(settings.gateway.auth.token.unwrap().matches("from-file"));
        let key = |id: &str| settings.models.providers[id].api_key.clone().unwrap();
        assert!(key("anthropic").matches("file-key"));
        assert!(key("openai").matches("env-key"));
    }

    #[test]
    fn a_higher_layer_hides_no_mistake_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        private::folder(place.state.root()).unwrap();
        std::fs::write(&place.config, "{gateway: {port: 'many'}}").unwrap();
        let flags = Flags { port: Some(3), ..Flags::default() };
        let error = load(&place, &Environment::default(), &flags).unwrap_err().to_string();
        assert!(error.contains("gateway.port"), "{error}");
    }

    #[test]
    fn what_a_higher_layer_has_wrong_is_not_blamed_on_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let said = |env: &Environment, flags: &Flags| load(&place, env, flags).unwrap_err().to_string();
        let flags = Flags { bind: Some("everywhere".into()), ..Flags::default() };
        for (said, layer) in [
            (said(&Environment::default(), &flags), "(on the command line)"),
            (
                said(&Environment::of([("TIDEGATE_GATEWAY_BIND", "all")]), &Flags::default()),
                "(from the environment)",
            ),
        ] {
            assert!(said.starts_with("gateway.bind: ") && said.ends_with(layer), "{said}");
        }
    }

    #[test]
    fn paths_start_at_home_or_at_the_config_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        private::folder(place.state.root()).unwrap();
        let text = "{logging: {file: '~/t.log'}, agents: {defaults: {workspace: 'desk'}}, \
                    channels: {telegram: {accounts: {b: {tokenFile: '~/bot'}}}}}";
        std::fs::write(&place.config, text).unwrap();
        let env = Environment::of([("HOME", "/home/u")]);
        let settings = load(&place, &env, &Flags::default()).unwrap().settings;
        assert_eq!(settings.logging.file.as_deref(), Some("/home/u/t.log"));
        let desk = place.state.root().join("desk");
        assert_eq!(settings.agents.defaults.workspace.as_deref(), desk.to_str());
        let telegram = settings.channels.telegram.unwrap();
        assert_eq!(telegram.accounts["b"].token_file.as_deref(), Some(Path::new("/home/u/bot")));
    }

    #[test]
    fn a_fresh_machine_gets_a_private_state_folder_and_a_token() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let state = place.state.clone();
        let running = start(place, Environment::default(), Flags::default()).unwrap();
        assert_eq!(running.own_token, Some(state.gateway_token()));
        assert!(running.settings.get().gateway.auth.token.is_some());
        for (path, mode) in [(state.root().to_owned(), 0o700), (state.gateway_token(), 0o600)] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
    }

    #[test]
    fn an_unset_variable_under_gateway_refuses_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        private::folder(place.state.root()).unwrap();
        std::fs::write(&place.config, "{gateway: {auth: {token: '${NOPE}'}}}").unwrap();
        let error = load(&place, &Environment::default(), &Flags::default()).unwrap().check().unwrap_err();
        assert_eq!(error.to_string(), "gateway.auth.token: environment variable NOPE is not set");
    }
}
