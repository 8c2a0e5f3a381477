//! A model that can be asked, and how.

use super::{Account, Anthropic, OpenAi, Patience, Provider};

/// A wire format that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Anthropic,
    OpenAi,
}

/// A model that can be asked.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub account: Account,
    /// The model's name at its provider.
    pub model: String,
    pub api: Api,
    pub context_tokens: u64,
    pub max_tokens: u32,
    /// False only when the settings say that the model takes no pictures.
    pub sees_images: bool,
    /// Whether it takes PDFs.
    pub reads_documents: bool,
    /// Types of sound that it takes.
    pub hears: &'static [&'static str],
    pub patience: Patience,
}

impl Candidate {
    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.account.provider, self.model)
    }

    /// Whether it takes a file of this type.
    pub fn takes(&self, mime: &str) -> bool {
        self.hears.contains(&mime) || (self.reads_documents && mime == "application/pdf")
    }

    /// The way to ask it.
    pub fn provider(&self) -> Box<dyn Provider> {
        match self.api {
            Api::Anthropic => Box::new(Anthropic::new(self.account.clone(), self.patience)),
            Api::OpenAi => Box::new(OpenAi::new(self.account.clone(), self.patience)),
        }
    }
}
