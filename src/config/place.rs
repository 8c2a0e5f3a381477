//! Which state folder and which config file.

use std::path::{Path, PathBuf};

use tidegate_actors::settings::{Settings, StatePaths};

use super::{ConfigError, Environment};

/// What the command line may say about it.
#[derive(Clone, Debug, Default)]
pub struct PlaceFlags {
    /// `--profile`: a config, a state folder and a port of its own.
    pub profile: Option<String>,
    /// `--state-dir`.
    pub state_dir: Option<String>,
    /// `--config`.
    pub config: Option<String>,
}

/// Where this run keeps its state and finds its config.
#[derive(Clone, Debug)]
pub struct Place {
    pub state: StatePaths,
    /// The config file; it need not exist.
    pub config: PathBuf,
    pub profile: Option<String>,
}

impl Place {
    pub fn find(flags: &PlaceFlags, env: &Environment) -> Result<Self, ConfigError> {
        let profile = flags.profile.clone().or_else(|| env.setting("PROFILE").map(|(_, v)| v.to_owned()));
        let profile = profile.filter(|name| name != "default").map(checked).transpose()?;
        let root = state_root(flags, env, profile.as_deref());
        let config = config_file(flags, env, &root);
        Ok(Self { state: StatePaths::new(root), config, profile })
    }

    /// Every profile that has a folder beside the default one's: its name, none for the default, and its place. The
    /// default one comes first, whether or not it was ever used.
    pub fn all(env: &Environment) -> Result<Vec<Self>, ConfigError> {
        let default = Self::find(&PlaceFlags::default(), &env.without(&["PROFILE"]))?;
        // These would make all profiles one.
        let env = env.without(&["PROFILE", "STATE_DIR", "CONFIG_PATH"]);
        let root = default.state.root().to_owned();
        let prefix = format!("{}-", root.file_name().unwrap_or_default().to_string_lossy());
        let beside = root.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        let mut named = Vec::new();
        for entry in beside.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().strip_prefix(&prefix).map(str::to_owned);
            let flags = PlaceFlags {
                profile: name.filter(|name| name != "default"),
                state_dir: Some(entry.path().display().to_string()),
                config: None,
            };
            if flags.profile.is_some()
                && let Ok(place) = Self::find(&flags, &env)
                && (place.config.exists() || place.state.database().exists())
            {
                named.push(place);
            }
        }
        named.sort_by(|one, other| one.profile.cmp(&other.profile));
        Ok(std::iter::once(default).chain(named).collect())
    }

    /// Says so when the environment gives this profile a folder that isn't named for it, so that others have it as well.
    pub(super) fn shared(&self, env: &Environment) -> Option<String> {
        let (profile, (name, folder)) = (self.profile.as_deref()?, env.setting("STATE_DIR")?);
        let root = self.state.root();
        let own = root.file_name()?.to_string_lossy().ends_with(&format!("-{profile}"));
        (!own && absolute(env.expand(folder)) == root).then(|| {
            format!(
                "profile `{profile}` shares {} with every other, for {name} is set: unset it",
                root.display()
            )
        })
    }

    /// What a profile's gateway is called as a system service: see `deploy/`.
    pub fn service(&self) -> String {
        self.profile.as_ref().map_or("tidegate".to_owned(), |name| format!("tidegate@{name}"))
    }

    /// Every path in the settings made whole: `~` is the home folder, and the rest is
    /// relative to the config file.
    pub(super) fn complete_paths(&self, settings: &mut Settings, env: &Environment) {
        let folder = self.config.parent().unwrap_or(Path::new("/"));
        let whole = |path: &str| folder.join(env.expand(path));
        let text = |path: &mut Option<String>| {
            if let Some(path) = path {
                *path = whole(path).display().to_string();
            }
        };
        text(&mut settings.logging.file);
        text(&mut settings.gateway.nodes.pairing.ssh_verify.identity);
        text(&mut settings.gateway.remote.ssh_identity);
        let tls = &mut settings.gateway.tls;
        for path in [&mut tls.cert_path, &mut tls.key_path, &mut tls.ca_path] {
            // A blank one names no file.
            *path = path.take().filter(|path| !path.trim().is_empty());
            text(path);
        }
        text(&mut settings.agents.defaults.workspace);
        for entry in settings.agents.entries.values_mut().chain(&mut settings.agents.list) {
            text(&mut entry.workspace);
        }
        if let Some(telegram) = &mut settings.channels.telegram {
            let accounts = telegram.accounts.values_mut().map(|account| &mut account.token_file);
            for file in accounts.chain([&mut telegram.token_file]).flatten() {
                *file = whole(&file.to_string_lossy());
            }
        }
    }

    /// A profile's port unless it is configured: the same name always gives the same one.
    pub fn default_port(&self) -> Option<u16> {
        let name = self.profile.as_deref()?;
        if name == "dev" {
            return Some(19_001);
        }
        let hash =
            name.bytes().fold(2_166_136_261_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(16_777_619));
        Some(20_000 + 20 * (hash % 500) as u16)
    }
}

/// A profile's name becomes part of a path.
fn checked(name: String) -> Result<String, ConfigError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        Ok(name)
    } else {
        Err(ConfigError::refused("--profile takes up to 64 letters, digits, `-` and `_`"))
    }
}

fn state_root(flags: &PlaceFlags, env: &Environment, profile: Option<&str>) -> PathBuf {
    if let Some(folder) = &flags.state_dir {
        return absolute(env.expand(folder));
    }
    if let Some((_, folder)) = env.setting("STATE_DIR") {
        return absolute(env.expand(folder));
    }
    let name = profile.map_or(".tidegate".to_owned(), |profile| format!(".tidegate-{profile}"));
    let home = env.setting("HOME").map_or_else(|| env.home(), |(_, home)| env.expand(home));
    absolute(home.join(name))
}

/// Our own name wins; a file under OpenClaw's name is taken where ours isn't.
fn config_file(flags: &PlaceFlags, env: &Environment, root: &Path) -> PathBuf {
    if let Some(path) = flags.config.as_deref().or(env.setting("CONFIG_PATH").map(|(_, v)| v)) {
        return absolute(env.expand(path));
    }
    let ours = root.join("tidegate.json");
    let theirs = root.join("openclaw.json");
    if !ours.exists() && theirs.exists() { theirs } else { ours }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(flags: PlaceFlags, env: &Environment) -> Place {
        Place::find(&flags, env).unwrap()
    }

    #[test]
    fn the_state_folder_is_under_home_unless_said_otherwise() {
        let env = Environment::of([("HOME", "/home/u")]);
        let place = find(PlaceFlags::default(), &env);
        assert_eq!(place.state.root(), "/home/u/.tidegate");
        assert_eq!(place.config, PathBuf::from("/home/u/.tidegate/tidegate.json"));

        let env = Environment::of([("HOME", "/home/u"), ("OPENCLAW_STATE_DIR", "~/claw")]);
        assert_eq!(find(PlaceFlags::default(), &env).state.root(), "/home/u/claw");

        let flags = PlaceFlags { state_dir: Some("/srv/t".into()), ..PlaceFlags::default() };
        assert_eq!(find(flags, &env).state.root(), "/srv/t");
    }

    #[test]
    fn a_profile_has_its_own_folder_and_port() {
        let env = Environment::of([("HOME", "/home/u")]);
        let work = find(PlaceFlags { profile: Some("work".into()), ..Default::default() }, &env);
        let play = find(PlaceFlags { profile: Some("play".into()), ..Default::default() }, &env);
        assert_eq!(work.state.root(), "/home/u/.tidegate-work");
        assert_ne!(work.default_port(), play.default_port());
        let bad = PlaceFlags { profile: Some("../x".into()), ..Default::default() };
        assert!(Place::find(&bad, &env).is_err());
        assert_eq!((work.service().as_str(), play.service().as_str()), ("tidegate@work", "tidegate@play"));
    }

    #[test]
    fn a_folder_from_the_environment_is_every_profiles_unless_it_is_named_for_one() {
        let said = |folder: &str, profile: Option<&str>| {
            let env = Environment::of([("HOME", "/home/u"), ("TIDEGATE_STATE_DIR", folder)]);
            let flags = PlaceFlags { profile: profile.map(str::to_owned), ..Default::default() };
            find(flags, &env).shared(&env)
        };
        assert!(said("/srv/state", Some("work")).unwrap().contains("TIDEGATE_STATE_DIR"));
        assert_eq!(said("/srv/tidegate-work", Some("work")), None);
        assert_eq!(said("/srv/state", None), None);
    }

    #[test]
    fn all_profiles_are_the_default_and_the_used_ones_beside_it() {
        let home = tempfile::tempdir().unwrap();
        for folder in [".tidegate-work", ".tidegate-empty", ".tidegate-b@d", ".tidegate-play"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        for folder in [".tidegate-work", ".tidegate-b@d", ".tidegate-play"] {
            std::fs::write(home.path().join(folder).join("tidegate.json"), "{}").unwrap();
        }
        let env = Environment::of([("HOME", home.path().to_str().unwrap()), ("TIDEGATE_PROFILE", "work")]);
        let names: Vec<_> = Place::all(&env).unwrap().into_iter().map(|place| place.profile).collect();
        assert_eq!(names, [None, Some("play".to_owned()), Some("work".to_owned())]);
    }
}
