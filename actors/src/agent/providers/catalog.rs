//! Which models there are and which one is asked: from the settings, the environment, and a local Ollama.

pub use super::candidate::{Api, Candidate};
use super::known::{KNOWN, Known};
use super::{Account, Patience, ollama::base_from_host};
use crate::settings::models::{ModelApi, ModelSettings, ProviderSettings};
use crate::settings::{Secret, Settings};
use std::time::Duration;

/// Reads an environment variable; tests give their own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What is assumed of a model that nobody described.
const DEFAULT_CONTEXT: u64 = 128_000;
const DEFAULT_MAX_TOKENS: u32 = 8192;
/// A local server's context is small unless its owner says otherwise.
const DEFAULT_LOCAL_CONTEXT: u64 = 32_768;

/// Why no model can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoModel {
    #[error("no model is configured")]
    NotConfigured,
    #[error("the model `{model}` names the provider `{provider}`, which is not configured")]
    UnknownProvider { provider: String, model: String },
    #[error("the provider `{provider}` wants the API `{api}`, which this gateway doesn't speak")]
    UnknownApi { provider: String, api: String },
    #[error("the base address of the provider `{provider}` is no URL")]
    NoAddress { provider: String },
    #[error("the provider `{provider}` has no API key; set `{env}`")]
    NoKey { provider: String, env: String },
}

impl NoModel {
    /// What a person reads in the chat.
    pub fn sentence(&self) -> String {
        match self {
            Self::NotConfigured => {
                "No model is configured yet. Set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY \
                 in the gateway's environment, or start Ollama on this machine, then restart the gateway; \
                 meanwhile /help shows what works without one."
                    .to_owned()
            }
            other => format!("No model can answer: {other}."),
        }
    }
}

/// Everything that decides, in one place.
pub struct Catalog<'a> {
    pub settings: &'a Settings,
    pub env: Env<'a>,
    /// Models of a local Ollama, if one was found.
    pub ollama: &'a [String],
}

impl Catalog<'_> {
    /// The models to try, best first. `wanted` is what the message asked for: one that can't be had is an error, for
    /// another model's answer is not what was asked for.
    pub fn candidates(&self, agent: &str, wanted: Option<&str>) -> Result<Vec<Candidate>, NoModel> {
        if let Some(wanted) = wanted {
            self.candidate(wanted)?;
        }
        let names = self.names(agent, wanted);
        let mut found: Vec<Candidate> = Vec::new();
        let mut first_problem = None;
        for name in names {
            match self.candidate(&name) {
                Ok(candidate) if found.iter().all(|other| other.name() != candidate.name()) => {
                    found.push(candidate)
                }
                Ok(_) => {}
                Err(problem) => {
                    tracing::warn!(model = %name, %problem, "this model can't be asked");
                    first_problem.get_or_insert(problem);
                }
            }
        }
        match (found.is_empty(), first_problem) {
            (false, _) => Ok(found),
            (true, problem) => Err(problem.unwrap_or(NoModel::NotConfigured)),
        }
    }

    /// True when only a local Ollama could answer, so that it is worth looking for one.
    pub fn needs_ollama(&self, agent: &str, wanted: Option<&str>) -> bool {
        self.names(agent, wanted).is_empty()
    }

    fn names(&self, agent: &str, wanted: Option<&str>) -> Vec<String> {
        let settings = &self.settings.agents;
        let entry = settings.entry(agent).and_then(|entry| entry.model.as_ref());
        let from_env = (self.env)("TIDEGATE_MODEL").or_else(|| (self.env)("OPENCLAW_MODEL"));
        let mut names: Vec<String> = wanted.map(str::to_owned).into_iter().chain(from_env).collect();
        for choice in entry.or(settings.defaults.model.as_ref()).into_iter() {
            names.extend(choice.in_order().map(str::to_owned));
        }
        if names.is_empty() {
            names.extend(self.obvious_choice());
        }
        names
    }

    /// With nothing chosen: the first configured model, else the model of whichever key there is, else Ollama's.
    fn obvious_choice(&self) -> Option<String> {
        let configured = self.settings.models.providers.iter().find_map(|(id, provider)| {
            let model = provider.models.first()?;
            Some(format!("{id}/{}", model.id))
        });
        let by_key = || {
            KNOWN.iter().find_map(|known| {
                let configured =
                    self.settings.models.providers.get(known.id).and_then(|p| p.api_key.as_ref());
                let has_key = configured.is_some() || known.key_env.and_then(self.env).is_some();
                known.model.filter(|_| has_key).map(|model| format!("{}/{model}", known.id))
            })
        };
        let local = || self.ollama.first().map(|model| format!("ollama/{model}"));
        configured.or_else(by_key).or_else(local)
    }

    /// Finds one model by `provider/model`, by alias, or by a bare name that only one provider has.
    pub fn candidate(&self, name: &str) -> Result<Candidate, NoModel> {
        let name = self.resolve_alias(name.trim());
        let (provider, model) = match name.split_once('/') {
            Some((provider, model)) if self.knows(provider) => (provider.to_owned(), model.to_owned()),
            _ => self.provider_of(&name).ok_or_else(|| {
                let provider =
                    name.split_once('/').map_or(name.as_str(), |(provider, _)| provider).to_owned();
                NoModel::UnknownProvider { provider, model: name.clone() }
            })?,
        };
        self.build(&provider, &model)
    }

    fn resolve_alias(&self, name: &str) -> String {
        let same =
            |alias: &Option<String>| alias.as_deref().is_some_and(|alias| alias.eq_ignore_ascii_case(name));
        let entry = self.settings.agents.defaults.models.iter().find(|(_, entry)| same(&entry.alias));
        entry.map_or(name, |(full, _)| full.as_str()).to_owned()
    }

    fn knows(&self, provider: &str) -> bool {
        self.settings.models.providers.contains_key(provider)
            || KNOWN.iter().any(|known| known.id == provider)
    }

    fn provider_of(&self, model: &str) -> Option<(String, String)> {
        let configured = self.settings.models.providers.iter();
        let owner = configured
            .into_iter()
            .find(|(_, provider)| provider.models.iter().any(|entry| entry.id == model));
        let by_habit = match model {
            model if model.starts_with("claude") => Some("anthropic"),
            model if model.starts_with("gpt-") => Some("openai"),
            _ if self.ollama.iter().any(|found| found == model) => Some("ollama"),
            _ => None,
        };
        owner.map(|(id, _)| id.as_str()).or(by_habit).map(|provider| (provider.to_owned(), model.to_owned()))
    }

    fn build(&self, provider: &str, model: &str) -> Result<Candidate, NoModel> {
        let configured = self.settings.models.providers.get(provider);
        let known = KNOWN.iter().find(|known| known.id == provider);
        let entry = configured.and_then(|p| p.models.iter().find(|entry| entry.id == model));
        let api = api_of(provider, configured, known)?;
        let account = self.account(provider, configured, known)?;
        let default_context = if account.is_local() { DEFAULT_LOCAL_CONTEXT } else { DEFAULT_CONTEXT };
        Ok(Candidate {
            model: model.to_owned(),
            api,
            context_tokens: context_of(entry).unwrap_or(default_context),
            max_tokens: max_tokens_of(entry, configured).unwrap_or(DEFAULT_MAX_TOKENS),
            sees_images: entry.is_none_or(|entry| entry.input.is_empty() || entry.sees_images()),
            reads_documents: reads_documents(api, &account, entry),
            hears: hears(api, &account, entry, model),
            patience: patience(configured.and_then(ProviderSettings::timeout)),
            account,
        })
    }

    fn account(
        &self,
        provider: &str,
        configured: Option<&ProviderSettings>,
        known: Option<&Known>,
    ) -> Result<Account, NoModel> {
        let base_url = configured
            .and_then(|settings| settings.base_url.clone())
            .or_else(|| known?.base_env.and_then(self.env))
            .or_else(|| {
                (provider == "ollama")
                    .then(|| (self.env)("OLLAMA_HOST"))
                    .flatten()
                    .map(|h| base_from_host(&h))
            })
            .or_else(|| known.map(|known| known.base_url.to_owned()))
            .ok_or_else(|| NoModel::UnknownProvider {
                provider: provider.to_owned(),
                model: provider.to_owned(),
            })?;
        let key_env = known.and_then(|known| known.key_env);
        let api_key = configured
            .and_then(|settings| settings.api_key.clone())
            .filter(|key| !key.is_blank())
            .or_else(|| key_env.and_then(self.env).map(Secret::new));
        let mut headers: Vec<(String, Secret)> = configured
            .map(|settings| {
                settings.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
            })
            .unwrap_or_default();
        let open = !headers.is_empty();
        if let (true, Some(key)) = (configured.is_some_and(|settings| settings.auth_header), &api_key) {
            headers.push(("authorization".to_owned(), Secret::new(format!("Bearer {}", key.expose()))));
        }
        let base_url = base_url.parse().map_err(|_| NoModel::NoAddress { provider: provider.to_owned() })?;
        let account = Account { provider: provider.to_owned(), base_url, api_key, headers };
        match key_env {
            Some(env) if account.api_key.is_none() && !open && !account.is_local() => {
                Err(NoModel::NoKey { provider: provider.to_owned(), env: env.to_owned() })
            }
            _ => Ok(account),
        }
    }

    /// Every model that a person could name, for `models.list`.
    pub fn all(&self) -> Vec<Candidate> {
        let mut names: Vec<String> = self.names("main", None);
        for (id, provider) in &self.settings.models.providers {
            names.extend(provider.models.iter().map(|model| format!("{id}/{}", model.id)));
        }
        names.extend(self.ollama.iter().map(|model| format!("ollama/{model}")));
        let mut found: Vec<Candidate> = Vec::new();
        for candidate in names.iter().filter_map(|name| self.candidate(name).ok()) {
            if found.iter().all(|other| other.name() != candidate.name()) {
                found.push(candidate);
            }
        }
        found
    }
}

fn api_of(
    provider: &str,
    configured: Option<&ProviderSettings>,
    known: Option<&Known>,
) -> Result<Api, NoModel> {
    match configured.and_then(|settings| settings.api.as_ref()) {
        Some(ModelApi::AnthropicMessages) => Ok(Api::Anthropic),
        Some(ModelApi::OpenAiCompletions | ModelApi::Ollama) => Ok(Api::OpenAi),
        // The newer API's servers all speak the older one, too.
        Some(ModelApi::Other(name)) if name == "openai-responses" => Ok(Api::OpenAi),
        Some(ModelApi::Other(name)) => {
            Err(NoModel::UnknownApi { provider: provider.to_owned(), api: name.clone() })
        }
        None => Ok(known.map_or(Api::OpenAi, |known| known.api)),
    }
}

/// By what the settings say of the model, or else where the API's owner is known to take PDFs.
fn reads_documents(api: Api, account: &Account, entry: Option<&ModelSettings>) -> bool {
    let input = entry.map(|entry| entry.input.as_slice()).unwrap_or_default();
    if input.iter().any(|kind| matches!(kind.as_str(), "pdf" | "file" | "document")) {
        return true;
    }
    let home = match api {
        Api::Anthropic => account.is_host("anthropic.com"),
        Api::OpenAi => account.is_host("openai.com") || account.is_host("openrouter.ai"),
    };
    home && (input.is_empty() || input.iter().any(|kind| kind == "image"))
}

/// Sound is taken by few models: those that are said to, and those that OpenAI named after it.
fn hears(api: Api, account: &Account, entry: Option<&ModelSettings>, model: &str) -> &'static [&'static str] {
    let official = account.is_host("openai.com");
    let said = entry.is_some_and(|entry| entry.input.iter().any(|kind| kind == "audio"));
    match api {
        Api::OpenAi if official && (said || model.contains("-audio")) => &["audio/mpeg", "audio/wav"],
        Api::OpenAi if said => &["audio/mpeg", "audio/wav", "audio/ogg", "audio/flac", "audio/mp4"],
        Api::OpenAi | Api::Anthropic => &[],
    }
}

fn context_of(entry: Option<&ModelSettings>) -> Option<u64> {
    let entry = entry?;
    match (entry.context_window, entry.context_tokens) {
        (Some(window), Some(tokens)) => Some(window.min(tokens)),
        (window, tokens) => window.or(tokens),
    }
    .filter(|tokens| *tokens > 0)
}

fn max_tokens_of(entry: Option<&ModelSettings>, configured: Option<&ProviderSettings>) -> Option<u32> {
    let tokens = entry.and_then(|entry| entry.max_tokens).or(configured?.max_tokens)?;
    u32::try_from(tokens).ok().filter(|tokens| *tokens > 0)
}

/// Nobody waits longer for an answer, whatever the configuration says: a clock has an end, too.
const LONGEST_ANSWER: Duration = Duration::from_secs(24 * 3600);

fn patience(timeout: Option<Duration>) -> Patience {
    let default = Patience::default();
    match timeout.map(|total| total.min(LONGEST_ANSWER)) {
        Some(total) => {
            Patience { total, first_byte: default.first_byte.min(total), idle: default.idle.min(total) }
        }
        None => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: serde_json::Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    fn names(settings: &Settings, env: Env<'_>, ollama: &[String]) -> Result<Vec<String>, NoModel> {
        let found = Catalog { settings, env, ollama }.candidates("main", None)?;
        Ok(found.iter().map(Candidate::name).collect())
    }

    #[test]
    fn a_timeout_beyond_all_clocks_is_a_day() {
        assert_eq!(patience(Some(Duration::from_secs(u64::MAX))).total, LONGEST_ANSWER);
    }

    #[test]
    fn one_key_in_the_environment_is_enough() {
        let settings = settings(json!({}));
        let env = |name: &str| (name == "OPENROUTER_API_KEY").then(|| "sk-or".to_owned());
        assert_eq!(names(&settings, &env, &[]).unwrap(), ["openrouter/openrouter/auto"]);
    }

    #[test]
    fn a_local_ollama_is_the_last_resort() {
        let settings = settings(json!({}));
        assert_eq!(names(&settings, &|_| None, &[]), Err(NoModel::NotConfigured));
        assert_eq!(names(&settings, &|_| None, &["qwen3:8b".into()]).unwrap(), ["ollama/qwen3:8b"]);
    }

    #[test]
    fn primary_and_fallbacks_keep_their_order_and_unusable_ones_drop_out() {
        let settings = settings(json!({
            "agents": {"defaults": {"model": {"primary": "mock/m", "fallbacks": ["nobody/x", "fast", "anthropic/claude"]},
                       "models": {"mock/small": {"alias": "fast"}}}},
            "models": {"providers": {"mock": {"baseUrl": "http://127.0.0.1:1/v1", "apiKey": "k",
                "api": "openai-completions", "models": [{"id": "m", "contextWindow": 1000, "input": ["text"]}]}}},
        }));
        assert_eq!(names(&settings, &|_| None, &[]).unwrap(), ["mock/m", "mock/small"]);
        let catalog = Catalog { settings: &settings, env: &|_| None, ollama: &[] };
        let first = catalog.candidate("mock/m").unwrap();
        assert_eq!((first.context_tokens, first.sees_images), (1000, false));
        assert!(matches!(catalog.candidate("anthropic/claude"), Err(NoModel::NoKey { .. })));
    }

    #[test]
    fn a_model_that_was_asked_for_by_name_is_not_replaced_by_another() {
        let settings = settings(json!({"models": {"providers": {"mock": {"baseUrl": "http://127.0.0.1:1/v1",
            "models": [{"id": "m"}]}}}}));
        let catalog = Catalog { settings: &settings, env: &|_| None, ollama: &[] };
        assert!(
            catalog.candidates("main", None).is_ok()
                && catalog.candidates("main", Some("mock/other")).is_ok()
        );
        let refused = catalog.candidates("main", Some("nope/x")).unwrap_err();
        assert!(matches!(refused, NoModel::UnknownProvider { .. }), "{refused}");
    }

    #[test]
    fn documents_and_sound_go_to_models_that_take_them() {
        let settings = settings(json!({"models": {"providers": {
            "anthropic": {"apiKey": "k"}, "openai": {"apiKey": "k"},
            "mock": {"baseUrl": "http://127.0.0.1:1/v1", "apiKey": "k",
                "models": [{"id": "all", "input": ["text", "image", "audio", "pdf"]}, {"id": "plain"}]},
        }}}));
        let catalog = Catalog { settings: &settings, env: &|_| None, ollama: &[] };
        let takes = |name: &str| {
            let found = catalog.candidate(name).unwrap();
            ["application/pdf", "audio/mpeg", "audio/ogg"].map(|mime| found.takes(mime))
        };
        assert_eq!(takes("anthropic/claude-sonnet-4-5"), [true, false, false]);
        assert_eq!(takes("openai/gpt-5"), [true, false, false]);
        assert_eq!(takes("openai/gpt-4o-audio-preview"), [true, true, false]);
        assert_eq!(takes("mock/all"), [true, true, true]);
        assert_eq!(takes("mock/plain"), [false, false, false]);
    }

    #[test]
    fn local_addresses_need_no_key_and_what_is_no_address_is_named() {
        let settings = settings(json!({"models": {"providers": {
            "openai": {"baseUrl": "http://10.0.0.2/v1"}, "openrouter": {"baseUrl": "https://8.8.8.8/v1"},
            "typo": {"baseUrl": "10.0.0.2/v1"},
        }}}));
        let catalog = Catalog { settings: &settings, env: &|_| None, ollama: &[] };
        assert_eq!(catalog.candidate("openai/m").unwrap().context_tokens, DEFAULT_LOCAL_CONTEXT);
        assert!(matches!(catalog.candidate("openrouter/m"), Err(NoModel::NoKey { .. })));
        assert!(
            matches!(catalog.candidate("typo/m"), Err(NoModel::NoAddress { provider }) if provider == "typo")
        );
    }
}
