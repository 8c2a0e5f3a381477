//! All devices, requests and codes, as they are in the database.

use super::device::{DeviceRecord, PairingRequest};
use super::setup_code::{MAX_CODES, SetupCode, Used};
use std::collections::HashMap;

/// Requests that may wait at one time; the one that was asked for longest ago makes room.
const MAX_REQUESTS: usize = 256;

/// What decisions are made from. It changes only by [`Change`]s that are on the disk.
#[derive(Debug, Default)]
pub struct DeviceBook {
    devices: HashMap<String, DeviceRecord>,
    /// By device.
    requests: HashMap<String, PairingRequest>,
    /// By the digest of their token.
    codes: HashMap<[u8; 32], SetupCode>,
}

/// One durable step.
#[derive(Debug, Clone)]
pub enum Change {
    /// A device is paired or its record changed; its request, if it had one, is answered; a code is used up.
    SaveDevice {
        record: Box<DeviceRecord>,
        answers: Option<String>,
        consumes: Option<[u8; 32]>,
    },
    /// A device asks, instead of what it asked before.
    SaveRequest(Box<PairingRequest>),
    DropRequest {
        device_id: String,
    },
    RemoveDevice {
        device_id: String,
    },
    /// A setup code was made.
    SaveCode(Box<SetupCode>),
    /// A code can't be fetched from its join address any more.
    CloseJoin {
        digest: [u8; 32],
    },
    /// The device that a code let in was sent its token.
    CodeDelivered {
        digest: [u8; 32],
    },
    /// Codes that ended before this are forgotten.
    ForgetCodes {
        before_ms: i64,
    },
}

impl DeviceBook {
    pub fn new(devices: Vec<DeviceRecord>, requests: Vec<PairingRequest>, codes: Vec<SetupCode>) -> Self {
        Self {
            devices: devices.into_iter().map(|record| (record.device_id().to_owned(), record)).collect(),
            requests: requests.into_iter().map(|asked| (asked.claim.device_id.clone(), asked)).collect(),
            codes: codes.into_iter().map(|code| (*code.digest.digest(), code)).collect(),
        }
    }

    pub fn device(&self, device_id: &str) -> Option<&DeviceRecord> {
        self.devices.get(device_id)
    }

    pub fn devices(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.devices.values()
    }

    /// The request of a device, unless it has expired.
    pub fn request_of(&self, device_id: &str, now_ms: i64) -> Option<&PairingRequest> {
        self.requests.get(device_id).filter(|asked| !asked.is_expired(now_ms))
    }

    pub fn request(&self, request_id: &str, now_ms: i64) -> Option<&PairingRequest> {
        self.requests(now_ms).find(|asked| asked.request_id == request_id)
    }

    pub fn requests(&self, now_ms: i64) -> impl Iterator<Item = &PairingRequest> {
        self.requests.values().filter(move |asked| !asked.is_expired(now_ms))
    }

    pub fn expired(&self, now_ms: i64) -> Vec<PairingRequest> {
        self.requests.values().filter(|asked| asked.is_expired(now_ms)).cloned().collect()
    }

    /// The request that has to go before another fits.
    pub fn surplus_request(&self) -> Option<&PairingRequest> {
        (self.requests.len() >= MAX_REQUESTS)
            .then(|| self.requests.values().min_by_key(|asked| asked.asked_at_ms))
            .flatten()
    }

    /// A code that is neither used nor expired.
    pub fn open_code(&self, digest: &[u8; 32], now_ms: i64) -> Option<&SetupCode> {
        self.codes.get(digest).filter(|code| code.is_open(now_ms))
    }

    /// A code by its name, whatever became of it.
    pub fn code(&self, setup_id: &str) -> Option<&SetupCode> {
        self.codes.values().find(|code| code.setup_id == setup_id)
    }

    /// A code by the digest of its token, whatever became of it.
    pub fn code_of(&self, digest: &[u8; 32]) -> Option<&SetupCode> {
        self.codes.get(digest)
    }

    /// Whether another code may be made now.
    pub fn has_room_for_a_code(&self, now_ms: i64) -> bool {
        self.codes.values().filter(|code| code.is_open(now_ms)).count() < MAX_CODES
    }

    /// Whether there are codes that ended before this.
    pub fn has_codes_before(&self, before_ms: i64) -> bool {
        self.codes.values().any(|code| code.expires_at_ms < before_ms)
    }

    /// Notes that a waiting device asked again: its request lives on under the same id.
    pub fn asked_again(&mut self, device_id: &str, now_ms: i64) {
        if let Some(asked) = self.requests.get_mut(device_id) {
            asked.asked_at_ms = now_ms;
        }
    }

    /// Notes when a device was last here. Not durable by itself: see `Devices`.
    pub fn seen(
        &mut self,
        device_id: &str,
        now_ms: i64,
        reason: &str,
        token: Option<tidegate_protocol::Role>,
    ) {
        let Some(record) = self.devices.get_mut(device_id) else { return };
        record.last_seen_at_ms = Some(now_ms);
        record.last_seen_reason = Some(reason.to_owned());
        for used in record.tokens.iter_mut().filter(|used| Some(used.role) == token) {
            used.last_used_at_ms = Some(now_ms);
        }
    }

    /// Takes over what was just stored.
    pub fn apply(&mut self, change: Change, now_ms: i64) {
        match change {
            Change::SaveDevice { record, answers, consumes } => {
                let device_id = record.device_id().to_owned();
                if answers.is_some() {
                    self.requests.remove(&device_id);
                }
                if let Some(code) = consumes.and_then(|digest| self.codes.get_mut(&digest)) {
                    code.join_open = false;
                    code.used = Some(Used {
                        at_ms: now_ms,
                        device_id: device_id.clone(),
                        device_name: record.claim.display_name.clone(),
                        delivered: false,
                    });
                }
                self.devices.insert(device_id, *record);
            }
            Change::SaveRequest(asked) => {
                self.requests.insert(asked.claim.device_id.clone(), *asked);
            }
            Change::DropRequest { device_id } => {
                self.requests.remove(&device_id);
            }
            Change::RemoveDevice { device_id } => {
                self.devices.remove(&device_id);
                self.requests.remove(&device_id);
            }
            Change::SaveCode(code) => {
                self.codes.insert(*code.digest.digest(), *code);
            }
            Change::CloseJoin { digest } => {
                if let Some(code) = self.codes.get_mut(&digest) {
                    code.join_open = false;
                }
            }
            Change::CodeDelivered { digest } => {
                if let Some(used) = self.codes.get_mut(&digest).and_then(|code| code.used.as_mut()) {
                    used.delivered = true;
                }
            }
            Change::ForgetCodes { before_ms } => self.codes.retain(|_, code| code.expires_at_ms >= before_ms),
        }
    }
}
