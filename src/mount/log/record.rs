//! One entry of the log, as data: what JSON lines and the journal are made of.

use serde_json::{Map, Value};
use std::error::Error;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What the bridge from the `log` crate, which libraries use, adds: the true target, and its place in their source.
const BRIDGED: &str = "log.";

/// What happened.
pub struct Record {
    /// How bad it is.
    pub level: Level,
    /// The module that says so.
    pub target: String,
    /// In words.
    pub message: String,
    /// What belongs to it, by name, in the order written.
    pub fields: Vec<(&'static str, Value)>,
    /// Where in the source.
    pub place: Option<(&'static str, u32)>,
}

impl Record {
    /// Of an event.
    pub fn of(event: &Event<'_>) -> Record {
        let about = event.metadata();
        let mut record = Record {
            level: *about.level(),
            target: about.target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
            place: about.file().zip(about.line()),
        };
        event.record(&mut record);
        record
    }

    /// One line for people: the message, and the fields after it.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            if !text.is_empty() {
                text.push(' ');
            }
            let plain = value.as_str().filter(|value| !value.is_empty() && !value.contains(char::is_whitespace));
            match plain {
                Some(plain) => text.push_str(&format!("{name}={plain}")),
                None => text.push_str(&format!("{name}={value}")),
            }
        }
        text
    }

    /// As an object with the names that docs/control.md promises. A field that is called like one of them gets a `_` behind it.
    pub fn object(self, time: String) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("time".into(), time.into());
        object.insert("level".into(), self.level.as_str().to_ascii_lowercase().into());
        object.insert("message".into(), self.message.into());
        object.insert("target".into(), self.target.into());
        for (name, value) in self.fields {
            let mut name = name.to_owned();
            while object.contains_key(&name) {
                name.push('_');
            }
            object.insert(name, value);
        }
        object
    }

    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            "log.target" => self.target = value.as_str().unwrap_or_default().to_owned(),
            bridged if bridged.starts_with(BRIDGED) => {}
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What was written with `%` comes this way too, and is as it was displayed.
        self.put(field, format!("{value:?}").into());
    }
}
