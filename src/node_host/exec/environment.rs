//! Which variables of a request reach a command.
//!
//! A variable can make a harmless program load foreign code, so a request with one that does is refused; so is one with
//! `PATH`, which decides what a name means. A shell gets only variables about the terminal and the language.

use std::{collections::BTreeMap, fmt};

/// Refused in a request, whatever the case of the letters.
const BLOCKED: &[&str] = &[
    "ANSIBLE_CONFIG",
    "BASHOPTS",
    "BASH_ENV",
    "BASH_LOADABLES_PATH",
    "BROWSER",
    "BUNDLE_GEMFILE",
    "BUN_CONFIG_REGISTRY",
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CC",
    "CDPATH",
    "CLASSPATH",
    "COMPOSER_HOME",
    "CORECLR_PROFILER",
    "CURL_HOME",
    "CXX",
    "DENO_DIR",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOTNET_STARTUP_HOOKS",
    "EDITOR",
    "EMACSLOADPATH",
    "ENV",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_ZFLAGS",
    "EXINIT",
    "FPATH",
    "GCONV_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "GNUPGHOME",
    "GOENV",
    "GOFLAGS",
    "GOROOT",
    "GOTOOLCHAIN",
    "GRADLE_OPTS",
    "HELM_PLUGINS",
    "HGRCPATH",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "JULIA_LOAD_PATH",
    "KUBECONFIG",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCALDOMAIN",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "MANPATH",
    "MAVEN_OPTS",
    "MFLAGS",
    "MYVIMRC",
    "NIX_PATH",
    "NLSPATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PERL_MB_OPT",
    "PERL_MM_OPT",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PIP_CONFIG_FILE",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RIPGREP_CONFIG_PATH",
    "RUBYLIB",
    "RUBYOPT",
    "RUBYSHELL",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "SBT_OPTS",
    "SHELL",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "SSLKEYLOGFILE",
    "SUDO_ASKPASS",
    "SUDO_EDITOR",
    "SVN_EDITOR",
    "SVN_SSH",
    "TCLLIBPATH",
    "TERMINFO",
    "TERMINFO_DIRS",
    "VIMINIT",
    "VISUAL",
    "WGETRC",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

const BLOCKED_PREFIXES: &[&str] = &[
    "BASH_FUNC_",
    "BUNDLE_",
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "DYLD_",
    "GIT_",
    "LD_",
    "MALLOC_",
    "NPM_CONFIG_",
    "OPENCLAW_",
    "PIP_",
    "PIPX_",
    "SYSTEMD_",
    "TIDEGATE_",
    "TERRAFORM_",
    "UV_",
    "YARN_",
];

/// What a shell may be given.
const SHELL_ALLOWED: &[&str] = &["TERM", "LANG", "COLORTERM", "NO_COLOR", "FORCE_COLOR"];

/// Secrets of this program that no command may inherit.
pub(crate) const OWN_SECRETS: &[&str] = &[
    "OPENCLAW_GATEWAY_TOKEN",
    "OPENCLAW_GATEWAY_PASSWORD",
    "TIDEGATE_GATEWAY_TOKEN",
    "TIDEGATE_GATEWAY_PASSWORD",
    "CF_ACCESS_CLIENT_ID",
    "CF_ACCESS_CLIENT_SECRET",
];

/// What is left of a request's variables, and the names that a shell is not given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) kept: Vec<(String, String)>,
    pub(crate) dropped: Vec<String>,
}

/// The names in a request that no command may be given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rejected {
    blocked: Vec<String>,
    not_portable: Vec<String>,
}

impl fmt::Display for Rejected {
    /// In the words of the official node host.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} override keys: {}", names.join(", ")))
        };
        let parts = [named("blocked", &self.blocked), named("invalid non-portable", &self.not_portable)];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        write!(out, "environment override rejected ({})", parts.join("; "))
    }
}

/// Filters the variables of a request; `shell` when the command is a shell with a script in its arguments.
pub(crate) fn filter(requested: BTreeMap<String, String>, shell: bool) -> Result<Filtered, Rejected> {
    let (mut result, mut rejected) = (Filtered::default(), Rejected::default());
    for (name, value) in requested {
        let upper = name.to_ascii_uppercase();
        if !is_portable(&name) || value.contains('\0') {
            rejected.not_portable.push(name);
        } else if turns_pager_off(&upper, &value) {
            result.kept.push((name, String::new()));
        } else if is_blocked(&upper) {
            rejected.blocked.push(name);
        } else if shell && !SHELL_ALLOWED.contains(&upper.as_str()) && !upper.starts_with("LC_") {
            result.dropped.push(name);
        } else {
            result.kept.push((name, value));
        }
    }
    if rejected == Rejected::default() { Ok(result) } else { Err(rejected) }
}

fn is_portable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// That is always harmless, and models ask for it often.
fn turns_pager_off(upper: &str, value: &str) -> bool {
    matches!(upper, "PAGER" | "GIT_PAGER") && matches!(value, "" | "cat")
}

fn is_blocked(upper: &str) -> bool {
    BLOCKED.contains(&upper) || BLOCKED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(requested: &[(&str, &str)], shell: bool) -> Result<Vec<String>, String> {
        let map = requested.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let names = filter(map, shell).map(|left| left.kept.into_iter().map(|(name, _)| name).collect());
        names.map_err(|rejected| rejected.to_string())
    }

    #[test]
    fn what_loads_code_is_refused_by_name() {
        let blocked = [
            ("PATH", "/evil"),
            ("Path", "/evil"),
            ("LD_PRELOAD", "x.so"),
            ("NODE_OPTIONS", "-r x"),
            ("BASH_ENV", "x"),
            ("GIT_SSH_COMMAND", "x"),
            ("npm_config_script_shell", "x"),
            ("TIDEGATE_GATEWAY_TOKEN", "x"),
        ];
        for (name, value) in blocked {
            for shell in [true, false] {
                let expected = format!("environment override rejected (blocked override keys: {name})");
                assert_eq!(filtered(&[("FOO", "1"), (name, value)], shell), Err(expected));
            }
        }
        for (name, value) in [("BASH_FUNC_ls%%", "x"), ("A B", "1"), ("1A", "1"), ("NUL", "a\0b")] {
            let expected = format!(
                "environment override rejected (blocked override keys: CC; invalid non-portable override keys: {name})"
            );
            assert_eq!(filtered(&[("CC", "x"), (name, value)], false), Err(expected));
        }
        assert_eq!(filtered(&[("FOO", "1"), ("RAILS_ENV", "test")], false).unwrap(), ["FOO", "RAILS_ENV"]);
    }

    #[test]
    fn a_shell_gets_the_terminal_and_the_language_only() {
        let all = [("FOO", "1"), ("LANG", "C"), ("LC_ALL", "C"), ("TERM", "dumb"), ("GIT_PAGER", "cat")];
        assert_eq!(filtered(&all, true).unwrap(), ["GIT_PAGER", "LANG", "LC_ALL", "TERM"]);
    }
}
