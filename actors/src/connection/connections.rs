//! Who is connected. Plain data: it outlives any actor that reads it.

use super::Caller;
use dashmap::DashMap;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// All admitted connections, by connection id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Connections(Arc<DashMap<String, Arc<Connection>>>);

/// An admitted connection and what it listens to.
#[derive(Debug)]
pub struct Connection {
    pub caller: Arc<Caller>,
    /// The last broadcast sequence number it was given.
    seq: AtomicU64,
    /// Set once the hello is out: no event may come before it.
    open: AtomicBool,
    subscriptions: Mutex<Subscriptions>,
}

/// What a connection asked to hear about.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// `sessions.subscribe`: changes of the list.
    pub session_list: bool,
    /// `sessions.messages.subscribe`: the messages of these sessions.
    pub sessions: HashSet<String>,
}

impl Connections {
    /// Adds a connection; it leaves when the registration is dropped.
    pub fn register(&self, caller: Arc<Caller>) -> Registration {
        let conn_id = caller.conn_id.clone();
        let connection = Connection {
            caller,
            seq: AtomicU64::new(0),
            open: AtomicBool::new(false),
            subscriptions: Mutex::new(Subscriptions::default()),
        };
        self.0.insert(conn_id.clone(), Arc::new(connection));
        Registration { connections: self.clone(), conn_id }
    }

    /// One connection.
    pub fn get(&self, conn_id: &str) -> Option<Arc<Connection>> {
        self.0.get(conn_id).map(|entry| Arc::clone(&entry))
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.0.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// The live connections of a device.
    pub fn of_device(&self, device_id: &str) -> Vec<Arc<Caller>> {
        let of_device = |caller: &Arc<Caller>| caller.device_id.as_deref() == Some(device_id);
        self.0.iter().map(|entry| Arc::clone(&entry.caller)).filter(of_device).collect()
    }

    /// Removes a connection before its registration is dropped.
    pub(crate) fn forget(&self, conn_id: &str) {
        self.0.remove(conn_id);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Connection {
    /// The hello is out.
    pub(crate) fn open_for_events(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Whether events may go to it.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && !self.caller.is_revoked()
    }

    /// The next broadcast sequence number of this connection, from 1.
    pub(crate) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Changes what it listens to.
    pub fn subscribe(&self, change: impl FnOnce(&mut Subscriptions)) {
        change(&mut self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks at what it listens to.
    pub fn listens(&self, look: impl FnOnce(&Subscriptions) -> bool) -> bool {
        look(&self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Removes its connection when dropped.
pub struct Registration {
    connections: Connections,
    conn_id: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.0.remove(&self.conn_id);
    }
}
