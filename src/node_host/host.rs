//! What every command of this node may use.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{approvals::ApprovalsStore, commands::Uploads, link::Link};

/// The machine as this node offers it.
pub(crate) struct Host {
    approvals: Arc<ApprovalsStore>,
    uploads: Arc<Uploads>,
    link: Arc<Link>,
    folder: PathBuf,
    home: PathBuf,
}

impl Host {
    /// `state` is the state folder, `folder` where commands run unless they say otherwise.
    pub(crate) fn new(state: &Path, folder: PathBuf, home: PathBuf, link: Arc<Link>) -> Self {
        let uploads = Arc::new(Uploads::new(state.join("node-host/uploads")));
        Self { approvals: Arc::new(ApprovalsStore::new(state)), uploads, link, folder, home }
    }

    pub(crate) fn approvals(&self) -> &Arc<ApprovalsStore> {
        &self.approvals
    }

    pub(crate) fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }
}
