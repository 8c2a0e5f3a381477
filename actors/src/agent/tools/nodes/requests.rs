//! What an action asks of a node: the commands and params that OpenClaw's own `nodes` tool sends, defaults
//! included, so that a node sees no difference. (Package `openclaw`, `src/agents/tools/nodes-tool-*.ts`.)

use super::super::{Arguments, ToolError, required, text};
use serde_json::{Map, Value, json};

const LONGEST_RECORDING: u64 = 5 * 60 * 1000;
const MOST_PHOTOS: u64 = 20;
/// Camera commands of a Linux node take no side: it has cameras, but no front and back.
const SIDED: [&str; 2] = ["camera.snap", "camera.clip"];

/// One command for a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) command: &'static str,
    pub(super) params: Value,
}

impl Request {
    fn new(command: &'static str, params: Params) -> Self {
        Self { command, params: Value::Object(params.0) }
    }

    /// Whether its params depend on what kind of node it goes to.
    pub(super) fn is_sided(&self) -> bool {
        SIDED.contains(&self.command)
    }
}

/// The requests behind an action, for a node that is no Linux machine; `None` when no command belongs to it.
pub(super) fn requests(action: &str, arguments: &Arguments) -> Result<Option<Vec<Request>>, ToolError> {
    let given = Given(arguments);
    let one = |command, params| vec![Request::new(command, params)];
    Ok(Some(match action {
        "notify" => one("system.notify", notify(&given)?),
        "camera_snap" => camera_snap(&given)?,
        "camera_clip" => one("camera.clip", camera_clip(&given)?),
        "camera_ptz" => vec![camera_ptz(&given)?],
        "photos_latest" => {
            let limit = given.count("limit")?.unwrap_or(1).min(MOST_PHOTOS);
            let params =
                Params::of("limit", limit).with("maxWidth", given.count("maxWidth")?.unwrap_or(1600));
            one("photos.latest", params.with("quality", given.quality()?.unwrap_or(0.85)))
        }
        "screen_snapshot" | "screen_snap" => {
            let params = Params::of("screenIndex", given.number("screenIndex")?.unwrap_or(0));
            one("screen.snapshot", params.maybe("maxWidth", given.count("maxWidth")?))
        }
        "screen_record" => one("screen.record", screen_record(&given)?),
        "location_get" => {
            let params = Params::default().maybe("maxAgeMs", given.number("maxAgeMs")?);
            let accuracy = given.one_of("desiredAccuracy", &["coarse", "balanced", "precise"])?;
            let params = params.maybe("desiredAccuracy", accuracy);
            one("location.get", params.maybe("timeoutMs", given.count("locationTimeoutMs")?))
        }
        "notifications_action" => one("notifications.actions", notifications_action(&given)?),
        "which" => {
            let bins =
                arguments.get("bins").filter(|bins| bins.as_array().is_some_and(|all| !all.is_empty()));
            let bins = bins.ok_or_else(|| ToolError::new("`bins` is required: names of programs"))?;
            one("system.which", Params::of("bins", bins.clone()))
        }
        _ => match plain(action) {
            Some(command) => one(command, Params::default()),
            None => return Ok(None),
        },
    }))
}

/// The same requests for a Linux node.
pub(super) fn for_linux(mut requests: Vec<Request>) -> Vec<Request> {
    requests.truncate(1);
    for request in &mut requests {
        if let Value::Object(params) = &mut request.params {
            params.remove("facing");
        }
    }
    requests
}

/// Actions that only read, without params.
fn plain(action: &str) -> Option<&'static str> {
    Some(match action {
        "camera_list" => "camera.list",
        "notifications_list" => "notifications.list",
        "device_status" => "device.status",
        "device_info" => "device.info",
        "device_permissions" => "device.permissions",
        "device_health" => "device.health",
        _ => return None,
    })
}

fn notify(given: &Given<'_>) -> Result<Params, ToolError> {
    let (title, body) = (given.text("title"), given.text("body"));
    if title.is_none() && body.is_none() {
        return Err(ToolError::new("`title` or `body` is required"));
    }
    let params = Params::of("title", title.unwrap_or_default()).with("body", body.unwrap_or_default());
    let rest = ["sound", "priority", "delivery"].into_iter();
    Ok(rest.fold(params, |params, name| params.maybe(name, given.text(name))))
}

fn camera_snap(given: &Given<'_>) -> Result<Vec<Request>, ToolError> {
    let facing = given.one_of("facing", &["front", "back", "both"])?.unwrap_or("front");
    let both = ["front", "back"];
    let sides: &[&str] = if facing == "both" { &both } else { std::slice::from_ref(&facing) };
    let mut requests = Vec::new();
    for side in sides {
        let params = Params::of("facing", *side)
            .with("maxWidth", given.count("maxWidth")?.unwrap_or(1600))
            .with("quality", given.quality()?.unwrap_or(0.95))
            .with("format", "jpg")
            .maybe("delayMs", given.number("delayMs")?)
            .maybe("deviceId", given.text("deviceId"));
        requests.push(Request::new("camera.snap", params));
    }
    Ok(requests)
}

fn camera_clip(given: &Given<'_>) -> Result<Params, ToolError> {
    let facing = given.one_of("facing", &["front", "back"])?.unwrap_or("front");
    let params = Params::of("facing", facing)
        .with("durationMs", given.recording(3000)?)
        .with("includeAudio", given.flag("includeAudio").unwrap_or(true))
        .with("format", "mp4");
    Ok(params.maybe("deviceId", given.text("deviceId")))
}

fn screen_record(given: &Given<'_>) -> Result<Params, ToolError> {
    let fps = given.float("fps", |fps| fps > 0.0, "above 0")?;
    Ok(Params::of("durationMs", given.recording(10_000)?)
        .with("screenIndex", given.number("screenIndex")?.unwrap_or(0))
        .with("fps", fps.map_or(json!(10), |fps| json!(fps)))
        .with("format", "mp4")
        .with("includeAudio", given.flag("includeAudio").unwrap_or(true)))
}

/// Looking is one command and turning another; `set` names places and `move` distances.
fn camera_ptz(given: &Given<'_>) -> Result<Request, ToolError> {
    let device = required(given.0, "deviceId")?;
    required(given.0, "ptzOperation")?;
    let operation = given.one_of("ptzOperation", &["status", "set", "move", "home"])?.unwrap_or_default();
    let mut axes = Params::default();
    for axis in ["panDegrees", "tiltDegrees", "zoomPercent"] {
        let value = given.0.get(axis).filter(|value| !value.is_null());
        given.float(axis, f64::is_finite, "finite")?;
        axes = axes.maybe(axis, value.cloned());
    }
    let params = Params::of("deviceId", device);
    let field = match operation {
        "status" | "home" if !axes.0.is_empty() => {
            return Err(ToolError::new(format!("{operation} takes no pan, tilt or zoom")));
        }
        "status" => return Ok(Request::new("camera.ptz.status", params)),
        "home" => return Ok(Request::new("camera.ptz.control", params.with("operation", operation))),
        _ if axes.0.is_empty() => {
            return Err(ToolError::new(format!(
                "{operation} needs panDegrees, tiltDegrees or zoomPercent; ask status first"
            )));
        }
        "set" => "target",
        _ => "delta",
    };
    let params = params.with("operation", operation).with(field, Value::Object(axes.0));
    Ok(Request::new("camera.ptz.control", params))
}

fn notifications_action(given: &Given<'_>) -> Result<Params, ToolError> {
    let key = required(given.0, "notificationKey")?;
    required(given.0, "notificationAction")?;
    let action = given.one_of("notificationAction", &["open", "dismiss", "reply"])?.unwrap_or_default();
    let reply = given.text("notificationReplyText");
    if action == "reply" && reply.is_none() {
        return Err(ToolError::new("`notificationReplyText` is required to reply"));
    }
    Ok(Params::of("key", key).with("action", action).maybe("replyText", reply))
}

/// What the model wrote, read strictly: a camera that turns the wrong way is worse than an error.
struct Given<'a>(&'a Arguments);

impl<'a> Given<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        text(self.0, name)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    fn one_of(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, ToolError> {
        let Some(word) = self.text(name) else { return Ok(None) };
        let found = words.iter().find(|known| known.eq_ignore_ascii_case(word)).copied();
        found.map(Some).ok_or_else(|| ToolError::new(format!("`{name}` must be one of {}", words.join(", "))))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ToolError> {
        match self.0.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| ToolError::new(format!("`{name}` must be a whole number, not negative"))),
        }
    }

    fn count(&self, name: &str) -> Result<Option<u64>, ToolError> {
        match self.number(name)? {
            Some(0) => Err(ToolError::new(format!("`{name}` must be above 0"))),
            other => Ok(other),
        }
    }

    fn float(&self, name: &str, fits: fn(f64) -> bool, range: &str) -> Result<Option<f64>, ToolError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let number = value.as_f64().filter(|number| fits(*number));
        number.map(Some).ok_or_else(|| ToolError::new(format!("`{name}` must be a number {range}")))
    }

    fn quality(&self) -> Result<Option<f64>, ToolError> {
        self.float("quality", |quality| (0.0..=1.0).contains(&quality), "from 0 to 1")
    }

    fn recording(&self, usual: u64) -> Result<u64, ToolError> {
        Ok(self.count("durationMs")?.unwrap_or(usual).min(LONGEST_RECORDING))
    }
}

#[derive(Default)]
struct Params(Map<String, Value>);

impl Params {
    fn of(name: &str, value: impl Into<Value>) -> Self {
        Self::default().with(name, value)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(action: &str, arguments: &Value) -> Vec<(String, Value)> {
        let requests = requests(action, arguments.as_object().unwrap()).unwrap().unwrap();
        requests.into_iter().map(|request| (request.command.to_owned(), request.params)).collect()
    }

    fn refused(action: &str, arguments: Value) -> String {
        requests(action, arguments.as_object().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn every_action_sends_what_the_official_tool_sends() {
        let snap =
            |facing: &str| json!({"facing": facing, "maxWidth": 1600, "quality": 0.95, "format": "jpg"});
        let table = [
            (
                "notify",
                json!({"title": " Tea ", "priority": "active"}),
                vec![("system.notify", json!({"title": "Tea", "body": "", "priority": "active"}))],
            ),
            ("camera_snap", json!({}), vec![("camera.snap", snap("front"))]),
            (
                "camera_snap",
                json!({"facing": "both"}),
                vec![("camera.snap", snap("front")), ("camera.snap", snap("back"))],
            ),
            (
                "camera_snap",
                json!({"facing": "back", "maxWidth": 800, "quality": 0.5, "delayMs": 0, "deviceId": "c"}),
                vec![(
                    "camera.snap",
                    json!({"facing": "back", "maxWidth": 800, "quality": 0.5, "format": "jpg", "delayMs": 0, "deviceId": "c"}),
                )],
            ),
            ("camera_list", json!({"limit": 3}), vec![("camera.list", json!({}))]),
            (
                "camera_clip",
                json!({}),
                vec![(
                    "camera.clip",
                    json!({"facing": "front", "durationMs": 3000, "includeAudio": true, "format": "mp4"}),
                )],
            ),
            (
                "camera_clip",
                json!({"facing": "back", "durationMs": 900_000, "includeAudio": false}),
                vec![(
                    "camera.clip",
                    json!({"facing": "back", "durationMs": 300_000, "includeAudio": false, "format": "mp4"}),
                )],
            ),
            (
                "camera_ptz",
                json!({"deviceId": "c", "ptzOperation": "status"}),
                vec![("camera.ptz.status", json!({"deviceId": "c"}))],
            ),
            (
                "camera_ptz",
                json!({"deviceId": "c", "ptzOperation": "home"}),
                vec![("camera.ptz.control", json!({"deviceId": "c", "operation": "home"}))],
            ),
            (
                "camera_ptz",
                json!({"deviceId": "c", "ptzOperation": "set", "panDegrees": 10, "zoomPercent": 50}),
                vec![(
                    "camera.ptz.control",
                    json!({"deviceId": "c", "operation": "set", "target": {"panDegrees": 10, "zoomPercent": 50}}),
                )],
            ),
            (
                "camera_ptz",
                json!({"deviceId": "c", "ptzOperation": "move", "tiltDegrees": -5}),
                vec![(
                    "camera.ptz.control",
                    json!({"deviceId": "c", "operation": "move", "delta": {"tiltDegrees": -5}}),
                )],
            ),
            (
                "photos_latest",
                json!({}),
                vec![("photos.latest", json!({"limit": 1, "maxWidth": 1600, "quality": 0.85}))],
            ),
            (
                "photos_latest",
                json!({"limit": 50}),
                vec![("photos.latest", json!({"limit": 20, "maxWidth": 1600, "quality": 0.85}))],
            ),
            (
                "screen_snapshot",
                json!({"quality": 0.5}),
                vec![("screen.snapshot", json!({"screenIndex": 0}))],
            ),
            (
                "screen_snapshot",
                json!({"screenIndex": 1, "maxWidth": 900}),
                vec![("screen.snapshot", json!({"screenIndex": 1, "maxWidth": 900}))],
            ),
            (
                "screen_record",
                json!({}),
                vec![(
                    "screen.record",
                    json!({"durationMs": 10_000, "screenIndex": 0, "fps": 10, "format": "mp4", "includeAudio": true}),
                )],
            ),
            ("location_get", json!({}), vec![("location.get", json!({}))]),
            (
                "location_get",
                json!({"maxAgeMs": 0, "desiredAccuracy": "precise", "locationTimeoutMs": 5000}),
                vec![(
                    "location.get",
                    json!({"maxAgeMs": 0, "desiredAccuracy": "precise", "timeoutMs": 5000}),
                )],
            ),
            ("notifications_list", json!({"limit": 5}), vec![("notifications.list", json!({}))]),
            (
                "notifications_action",
                json!({"notificationKey": "k", "notificationAction": "reply", "notificationReplyText": " yes "}),
                vec![("notifications.actions", json!({"key": "k", "action": "reply", "replyText": "yes"}))],
            ),
            ("device_status", json!({}), vec![("device.status", json!({}))]),
            ("device_info", json!({}), vec![("device.info", json!({}))]),
            ("device_permissions", json!({}), vec![("device.permissions", json!({}))]),
            ("device_health", json!({}), vec![("device.health", json!({}))]),
            ("which", json!({"bins": ["ffmpeg"]}), vec![("system.which", json!({"bins": ["ffmpeg"]}))]),
        ];
        for (action, arguments, expected) in table {
            let expected: Vec<_> =
                expected.into_iter().map(|(command, params)| (command.to_owned(), params)).collect();
            assert_eq!(sent(action, &arguments), expected, "{action} {arguments}");
        }
    }

    #[test]
    fn a_linux_node_is_asked_for_no_side() {
        let given = json!({"facing": "both", "deviceId": "/dev/video0"});
        let all = requests("camera_snap", given.as_object().unwrap()).unwrap().unwrap();
        let params = json!({"maxWidth": 1600, "quality": 0.95, "format": "jpg", "deviceId": "/dev/video0"});
        assert_eq!(for_linux(all), [Request { command: "camera.snap", params }]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_a_node_hears_of_it() {
        assert!(refused("notify", json!({"title": " "})).contains("`title` or `body`"));
        assert!(refused("camera_clip", json!({"facing": "both"})).contains("front, back"));
        assert!(refused("camera_snap", json!({"quality": 2})).contains("from 0 to 1"));
        assert!(refused("camera_ptz", json!({"ptzOperation": "status"})).contains("`deviceId` is required"));
        assert!(
            refused("camera_ptz", json!({"deviceId": "c", "ptzOperation": "home", "panDegrees": 1}))
                .contains("no pan")
        );
        assert!(
            refused("camera_ptz", json!({"deviceId": "c", "ptzOperation": "set"}))
                .contains("needs panDegrees")
        );
        assert!(
            refused("notifications_action", json!({"notificationKey": "k", "notificationAction": "reply"}))
                .contains("ReplyText")
        );
    }
}
