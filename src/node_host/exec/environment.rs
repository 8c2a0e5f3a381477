//! Which variables of a request reach a command.
//!
//! A variable can make a harmless program load foreign code, so the ones that do are dropped; so is `PATH`, which decides
//! what a name means. A shell gets only variables about the terminal and the language.

use std::collections::BTreeMap;

/// Dropped from a request, whatever the case of the letters.
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

/// What is left of a request's variables, and the names that were dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) kept: Vec<(String, String)>,
    pub(crate) dropped: Vec<String>,
}

/// Filters the variables of a request; `shell` when the command is a shell with a script in its arguments.
pub(crate) fn filter(requested: BTreeMap<String, String>, shell: bool) -> Filtered {
    let mut result = Filtered::default();
    for (name, value) in requested {
        match accept(&name, &value, shell) {
            Some(value) => result.kept.push((name, value)),
            None => result.dropped.push(name),
        }
    }
    result
}

fn accept(name: &str, value: &str, shell: bool) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let portable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !portable || value.contains('\0') {
        return None;
    }
    // Turning a pager off is always harmless, and models ask for it often.
    if matches!(upper.as_str(), "PAGER" | "GIT_PAGER") && matches!(value, "" | "cat") {
        return Some(String::new());
    }
    if shell {
        return (SHELL_ALLOWED.contains(&upper.as_str()) || upper.starts_with("LC_"))
            .then(|| value.to_owned());
    }
    let blocked =
        BLOCKED.contains(&upper.as_str()) || BLOCKED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
    (!blocked).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(requested: &[(&str, &str)], shell: bool) -> Vec<String> {
        let map = requested.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        filter(map, shell).kept.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_loads_code_is_dropped() {
        let all = [
            ("FOO", "1"),
            ("PATH", "/evil"),
            ("Path", "/evil"),
            ("LD_PRELOAD", "x.so"),
            ("NODE_OPTIONS", "-r x"),
            ("BASH_ENV", "x"),
            ("GIT_SSH_COMMAND", "x"),
            ("npm_config_script_shell", "x"),
            ("BASH_FUNC_ls%%", "x"),
            ("A B", "1"),
            ("1A", "1"),
            ("TIDEGATE_GATEWAY_TOKEN", "x"),
            ("RAILS_ENV", "test"),
            ("NUL", "a\0b"),
        ];
        assert_eq!(names(&all, false), ["FOO", "RAILS_ENV"]);
    }

    #[test]
    fn a_shell_gets_the_terminal_and_the_language_only() {
        let all = [
            ("FOO", "1"),
            ("LANG", "C"),
            ("LC_ALL", "C"),
            ("TERM", "dumb"),
            ("GIT_PAGER", "cat"),
            ("PAGER", "less"),
        ];
        assert_eq!(names(&all, true), ["GIT_PAGER", "LANG", "LC_ALL", "TERM"]);
    }
}
