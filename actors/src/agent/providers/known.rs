//! Providers whose addresses and habits are known.

use super::candidate::Api;

/// A provider that needs no configuration besides its key.
pub(super) struct Known {
    pub(super) id: &'static str,
    pub(super) api: Api,
    pub(super) base_url: &'static str,
    pub(super) base_env: Option<&'static str>,
    pub(super) key_env: Option<&'static str>,
    /// Asked when the key is all there is.
    pub(super) model: Option<&'static str>,
}

/// All of them, the most likely first.
pub(super) const KNOWN: &[Known] = &[
    Known {
        id: "anthropic",
        api: Api::Anthropic,
        base_url: "https://api.anthropic.com",
        base_env: Some("ANTHROPIC_BASE_URL"),
        key_env: Some("ANTHROPIC_API_KEY"),
        model: Some("claude-sonnet-4-5"),
    },
    Known {
        id: "openai",
        api: Api::OpenAi,
        base_url: "https://api.openai.com/v1",
        base_env: Some("OPENAI_BASE_URL"),
        key_env: Some("OPENAI_API_KEY"),
        model: Some("gpt-5"),
    },
    Known {
        id: "openrouter",
        api: Api::OpenAi,
        base_url: "https://openrouter.ai/api/v1",
        base_env: Some("OPENROUTER_BASE_URL"),
        key_env: Some("OPENROUTER_API_KEY"),
        model: Some("openrouter/auto"),
    },
    known("groq", "https://api.groq.com/openai/v1", Some("GROQ_API_KEY")),
    known("mistral", "https://api.mistral.ai/v1", Some("MISTRAL_API_KEY")),
    known("deepseek", "https://api.deepseek.com/v1", Some("DEEPSEEK_API_KEY")),
    known("xai", "https://api.x.ai/v1", Some("XAI_API_KEY")),
    known("google", "https://generativelanguage.googleapis.com/v1beta/openai", Some("GEMINI_API_KEY")),
    known("lmstudio", "http://127.0.0.1:1234/v1", None),
    known("vllm", "http://127.0.0.1:8000/v1", Some("VLLM_API_KEY")),
    known("llamacpp", "http://127.0.0.1:8080/v1", None),
    known("ollama", "http://127.0.0.1:11434/v1", None),
];

const fn known(id: &'static str, base_url: &'static str, key_env: Option<&'static str>) -> Known {
    Known { id, api: Api::OpenAi, base_url, base_env: None, key_env, model: None }
}
