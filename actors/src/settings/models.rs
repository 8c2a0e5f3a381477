//! `models.*`: where models are and what they cost.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer};

use super::Secret;

/// `models`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ModelsSettings {
    pub mode: ModelsMode,
    pub providers: BTreeMap<String, ProviderSettings>,
}

/// `models.mode`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ModelsMode {
    /// Configured providers beside those found by themselves.
    #[default]
    Merge,
    /// Only what is configured.
    Replace,
}

/// `models.providers.<id>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderSettings {
    pub base_url: Option<String>,
    pub api_key: Option<Secret>,
    /// How to talk to it; unset means "as the id suggests".
    pub api: Option<ModelApi>,
    /// Send the key as `Authorization: Bearer` whatever the API's custom is.
    pub auth_header: bool,
    /// Sent with every request; values may be secrets.
    pub headers: BTreeMap<String, Secret>,
    pub models: Vec<ModelSettings>,
    /// Cap of output tokens where the model has none of its own.
    pub max_tokens: Option<u64>,
    pub timeout_seconds: Option<u64>,
}

impl ProviderSettings {
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds.map(Duration::from_secs)
    }
}

/// `models.providers.<id>.api`. Others are kept by name, so that a file which uses
/// one still loads; the model behind it is refused when somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelApi {
    AnthropicMessages,
    OpenAiCompletions,
    Ollama,
    Other(String),
}

impl ModelApi {
    pub fn as_str(&self) -> &str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiCompletions => "openai-completions",
            Self::Ollama => "ollama",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for ModelApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ModelApi {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)? {
            name if name == "anthropic-messages" => Self::AnthropicMessages,
            name if name == "openai-completions" => Self::OpenAiCompletions,
            name if name == "ollama" => Self::Ollama,
            name => Self::Other(name),
        })
    }
}

/// An element of `models.providers.<id>.models`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelSettings {
    pub id: String,
    pub name: Option<String>,
    pub reasoning: bool,
    /// `text`, `image`.
    pub input: Vec<String>,
    pub context_window: Option<u64>,
    /// Use less than the window.
    pub context_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    pub cost: ModelCost,
}

impl ModelSettings {
    pub fn sees_images(&self) -> bool {
        self.input.iter().any(|kind| kind == "image")
    }
}

/// `cost` of a model, in dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelCost {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}
