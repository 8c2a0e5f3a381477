//! Running commands: what they are, what they may see, and how they end.

mod analysis;
mod environment;
mod operand;
mod output;
mod plan;
mod process;
mod resolve;
mod run;
mod shell;

pub(crate) use analysis::{Analysis, Program};
pub(crate) use plan::prepare;
pub(crate) use process::Cancel;
pub(crate) use resolve::find;
pub(crate) use run::run;
