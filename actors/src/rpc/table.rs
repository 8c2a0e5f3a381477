//! Who may call what.

use super::call::{Call, Reply};
use super::{families, pace};
use futures_util::future::LocalBoxFuture;
use std::collections::HashMap;
use std::sync::LazyLock;
use tidegate_protocol::{ErrorShape, Role, Scope, params};

/// Characters of an unknown method's name that the refusal repeats: more than any method has.
const MAX_NAME: usize = 128;

/// Answers a call.
pub type Handler = fn(Call) -> LocalBoxFuture<'static, Reply>;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Operators that hold the scope.
    Operator(Scope),
    /// Nodes.
    Node,
    /// Anyone who said hello.
    Anyone,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Method {
    pub name: &'static str,
    pub access: Access,
    pub(crate) advertised: bool,
    /// Changes the gateway itself: not too often.
    pub(crate) paced: bool,
    /// Carried through once begun, even if its caller goes: others must hear of what it wrote.
    pub(crate) lasting: bool,
    pub(crate) handler: Handler,
}

impl Method {
    /// A method for operators; one that may do more than read is carried through.
    pub const fn operator(name: &'static str, scope: Scope, handler: Handler) -> Self {
        let lasting = !matches!(scope, Scope::Read);
        Self { name, access: Access::Operator(scope), advertised: true, paced: false, lasting, handler }
    }

    /// A method for nodes.
    pub const fn node(name: &'static str, handler: Handler) -> Self {
        Self { name, access: Access::Node, advertised: true, paced: false, lasting: false, handler }
    }

    /// A method that needs no scope.
    pub const fn anyone(name: &'static str, handler: Handler) -> Self {
        Self { name, access: Access::Anyone, advertised: true, paced: false, lasting: false, handler }
    }

    /// A change of the gateway itself, of which one address may make only so many a minute.
    pub const fn paced(mut self) -> Self {
        self.paced = true;
        self
    }

    /// Given up when its caller goes, whatever it may do.
    pub const fn while_asked(mut self) -> Self {
        self.lasting = false;
        self
    }

    /// Callable, but not listed in `hello-ok`.
    pub const fn hidden(mut self) -> Self {
        self.advertised = false;
        self
    }
}

/// Why the table did not call a handler.
#[derive(Debug)]
pub enum Refused {
    /// No such method, or a scope is missing.
    Error(ErrorShape),
    /// The caller's role can never call it: repeated, this ends the connection.
    Role(ErrorShape),
}

static TABLE: LazyLock<HashMap<&'static str, Method>> =
    LazyLock::new(|| families().map(|method| (method.name, *method)).collect());

/// The methods that `hello-ok` lists.
pub fn advertised() -> Vec<String> {
    let listed = families().filter(|method| method.advertised);
    listed.map(|method| method.name.to_owned()).collect()
}

/// Finds the method and checks that the caller may call it; the future is its answer.
///
/// # Errors
/// The refusal to send instead.
pub fn dispatch(
    method: &str,
    call: impl FnOnce(&'static str) -> Call,
) -> Result<LocalBoxFuture<'static, Reply>, Refused> {
    let Some(method) = TABLE.get(method) else {
        // As much of it as helps whoever misspelt it.
        let name: String = method.chars().take(MAX_NAME).collect();
        return Err(Refused::Error(ErrorShape::invalid(format!("unknown method: {name}"))));
    };
    let call = call(method.name);
    let role = call.caller.role;
    match method.access {
        Access::Anyone => (),
        Access::Node if role == Role::Node => (),
        Access::Operator(scope) if role == Role::Operator => {
            if !call.caller.allows(scope) {
                return Err(Refused::Error(ErrorShape::missing_scope(scope.as_str())));
            }
        }
        Access::Node | Access::Operator(_) => {
            return Err(Refused::Role(ErrorShape::invalid(format!("unauthorized role: {role}"))));
        }
    }
    params::check_object(method.name, call.raw()).map_err(Refused::Error)?;
    if method.paced {
        pace::count_change(method.name, call.caller.peer).map_err(Refused::Error)?;
    }
    let answer = (method.handler)(call);
    Ok(if method.lasting { Box::pin(carried_through(answer)) } else { answer })
}

/// Begins the work now and carries it through, also when nobody stays for its answer.
pub(super) fn carried_through<T: 'static>(
    work: impl Future<Output = Result<T, ErrorShape>> + 'static,
) -> impl Future<Output = Result<T, ErrorShape>> {
    let work = actix::spawn(work);
    async move {
        match work.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(answer) => answer,
            // A bug ends the connection, as it would without a task of its own.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Err(ErrorShape::unavailable("the gateway is stopping").retryable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_short_however_long_the_name() {
        let uncalled = |_| unreachable!("no such method");
        let Err(Refused::Error(error)) = dispatch(&"é".repeat(200_000), uncalled) else { panic!() };
        assert!(error.message.len() < 300, "{}", error.message.len());
    }

    #[actix::test]
    async fn what_was_begun_is_carried_through_though_nobody_waits() {
        let (told, heard) = tokio::sync::oneshot::channel();
        let (go, ready) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _ = ready.await;
            let _ = told.send(());
            Ok(())
        };
        drop(carried_through(work));
        go.send(()).unwrap();
        heard.await.unwrap();
    }

    #[test]
    fn no_method_stands_in_the_table_twice() {
        let all: Vec<_> = families().map(|method| method.name).collect();
        assert_eq!(TABLE.len(), all.len(), "{all:?}");
    }
}
