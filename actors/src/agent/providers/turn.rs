//! One answer from the best model that gives one: retries with back-off, then the next model of the list.

use super::catalog::Candidate;
use super::model::{AssistantMessage, Block, ChatMessage, Content, ModelEvent, ModelRequest, StopReason};
use super::{Assembler, ModelError, ModelErrorKind};
use std::time::Duration;

/// How stubbornly a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts with one model, the first included.
    pub attempts: u32,
    /// The first pause; each further one doubles it.
    pub base: Duration,
    /// No pause is longer; a provider that asks for more has given up on this request.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, base: Duration::from_millis(800), cap: Duration::from_secs(60) }
    }
}

/// Follows a turn while it goes on.
pub trait TurnObserver {
    /// A model is about to be asked.
    fn asked(&mut self, _candidate: &Candidate) {}
    /// A piece of the answer.
    fn event(&mut self, event: &ModelEvent);
    /// What was shown of this answer is void: it begins anew.
    fn restarted(&mut self) {}
    /// An attempt failed; the next one comes after `pause`, or another model does.
    fn failed(&mut self, _error: &ModelError, _pause: Option<Duration>) {}
}

/// No model answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .errors.first().map(ToString::to_string).unwrap_or_default())]
pub struct TurnFailure {
    /// The last error of every model, in the order in which they were asked. Never empty.
    pub errors: Vec<ModelError>,
}

impl TurnFailure {
    /// What a person reads in the chat.
    pub fn sentence(&self) -> String {
        let mut sentence = self.errors.first().map(ModelError::sentence).unwrap_or_default();
        if let [_, others @ ..] = self.errors.as_slice()
            && !others.is_empty()
        {
            let names: Vec<String> = others.iter().map(|e| format!("`{}/{}`", e.provider, e.model)).collect();
            sentence.push_str(&format!(" The fallback {} failed too.", names.join(", ")));
        }
        sentence
    }

    /// True when the conversation must become shorter.
    pub fn is_overflow(&self) -> bool {
        self.errors.iter().any(|error| error.kind == ModelErrorKind::ContextOverflow)
    }
}

/// Asks the candidates in order until one answers.
pub async fn complete(
    candidates: &[Candidate],
    request: &ModelRequest,
    policy: RetryPolicy,
    observer: &mut dyn TurnObserver,
) -> Result<AssistantMessage, TurnFailure> {
    let mut errors = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let last = at + 1 == candidates.len();
        match ask_until_it_answers(candidate, request, policy, last, observer).await {
            Ok(message) => return Ok(message),
            Err(error) => {
                let hopeless = error.kind == ModelErrorKind::ContextOverflow;
                errors.push(error);
                if hopeless {
                    break;
                }
            }
        }
    }
    if errors.is_empty() {
        errors.push(ModelError::new(ModelErrorKind::ModelMissing, "no model to ask"));
    }
    Err(TurnFailure { errors })
}

async fn ask_until_it_answers(
    candidate: &Candidate,
    request: &ModelRequest,
    policy: RetryPolicy,
    last: bool,
    observer: &mut dyn TurnObserver,
) -> Result<AssistantMessage, ModelError> {
    let mut request = fit(request, candidate);
    let mut attempt = 1;
    loop {
        observer.asked(candidate);
        let error = match ask_once(candidate, &request, observer).await {
            Ok(message) => return Ok(message),
            Err(error) => error.of(&candidate.account.provider, &candidate.model),
        };
        if error.kind == ModelErrorKind::BadRequest && without_files(&mut request) {
            tracing::warn!(model = %candidate.name(), detail = %error.detail, "asking again without files");
            continue;
        }
        let pause = pause(&error, policy, attempt, last);
        observer.failed(&error, pause);
        tracing::warn!(model = %candidate.name(), kind = ?error.kind, status = ?error.status, detail = %error.detail,
            attempt, ?pause, "model call failed");
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
        attempt += 1;
    }
}

async fn ask_once(
    candidate: &Candidate,
    request: &ModelRequest,
    observer: &mut dyn TurnObserver,
) -> Result<AssistantMessage, ModelError> {
    let provider = candidate.provider();
    let mut assembler = Assembler::default();
    let mut shown = false;
    let outcome = provider
        .stream(request, &mut |event| {
            shown |= matches!(event, ModelEvent::TextDelta(_));
            observer.event(&event);
            assembler.take(event);
        })
        .await;
    if let Err(error) = outcome {
        if shown {
            observer.restarted();
        }
        return Err(error);
    }
    let mut message = assembler.finish();
    if message.content.is_empty() && message.stop_reason == StopReason::Stop && message.usage.output == 0 {
        return Err(ModelError::new(ModelErrorKind::Broken, "the answer was empty"));
    }
    provider.api().clone_into(&mut message.api);
    message.provider.clone_from(&candidate.account.provider);
    message.model.clone_from(&candidate.model);
    Ok(message)
}

/// How long to wait before the same model is asked again; `None` when it should not be.
fn pause(error: &ModelError, policy: RetryPolicy, attempt: u32, last: bool) -> Option<Duration> {
    // With another model at hand, one more try is enough.
    let attempts = if last { policy.attempts } else { policy.attempts.min(2) };
    if !error.kind.passes() || attempt >= attempts {
        return None;
    }
    match error.retry_after {
        Some(asked) if asked > policy.cap => None,
        Some(asked) => Some(asked + jitter(policy.base / 4)),
        None => {
            let doubled = policy.base.saturating_mul(1 << (attempt - 1).min(10));
            Some(doubled.min(policy.cap) / 2 + jitter(doubled.min(policy.cap)))
        }
    }
}

fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}

/// The request as this model can take it.
fn fit(request: &ModelRequest, candidate: &Candidate) -> ModelRequest {
    let mut request = request.clone();
    request.model.clone_from(&candidate.model);
    request.max_tokens = candidate.max_tokens;
    replace(&mut request, |block| match block {
        Block::Image { .. } if !candidate.sees_images => Some("[a picture, which this model can't see]"),
        Block::File { mime_type, .. } if !candidate.takes(mime_type) => {
            Some(if mime_type.starts_with("audio/") {
                "[the sound itself is left out: this model can't hear]"
            } else {
                "[the content is left out: this model can't read such files]"
            })
        }
        _ => None,
    });
    request
}

/// A file that the server refuses, such as a sealed PDF, must not spoil the conversation for good.
fn without_files(request: &mut ModelRequest) -> bool {
    let refused = "[the content is left out: the model's server refused the request with it]";
    replace(request, |block| matches!(block, Block::File { .. }).then_some(refused))
}

/// Puts a note in the place of blocks; true when there were any.
fn replace(request: &mut ModelRequest, note: impl Fn(&Block) -> Option<&'static str>) -> bool {
    let mut any = false;
    for message in &mut request.messages {
        let blocks = match message {
            ChatMessage::User { content: Content::Blocks(blocks), .. } => blocks,
            ChatMessage::ToolResult { content, .. } => content,
            _ => continue,
        };
        for block in blocks {
            if let Some(note) = note(block) {
                *block = Block::text(note);
                any = true;
            }
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ModelErrorKind, retry_after: Option<u64>) -> ModelError {
        let retry_after = retry_after.map(Duration::from_secs);
        ModelError { retry_after, ..ModelError::new(kind, "x") }.of("p", "m")
    }

    #[test]
    fn pauses_double_and_honour_what_the_provider_asks() {
        let policy = RetryPolicy::default();
        let overloaded = error(ModelErrorKind::Overloaded, None);
        for attempt in 1..4 {
            let pause = pause(&overloaded, policy, attempt, true).unwrap();
            let doubled = policy.base * 2u32.pow(attempt - 1);
            assert!(pause >= doubled / 2 && pause <= doubled * 3 / 2, "{pause:?}");
        }
        assert_eq!(pause(&overloaded, policy, 4, true), None);
        assert_eq!(pause(&overloaded, policy, 2, false), None);
        assert!(
            pause(&error(ModelErrorKind::RateLimited, Some(7)), policy, 1, true).unwrap()
                >= Duration::from_secs(7)
        );
        assert_eq!(pause(&error(ModelErrorKind::RateLimited, Some(3600)), policy, 1, true), None);
        assert_eq!(pause(&error(ModelErrorKind::Auth, None), policy, 1, true), None);
    }

    #[test]
    fn the_sentence_tells_of_fallbacks() {
        let failure = TurnFailure {
            errors: vec![error(ModelErrorKind::Auth, None), error(ModelErrorKind::Server, None)],
        };
        assert!(failure.sentence().ends_with("The fallback `p/m` failed too."));
    }
}
