//! `--log json`: one object a line.

use super::record::Record;
use parking_lot::Mutex;
use std::io::Write;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;

/// Writes objects to a stream.
pub struct JsonLines<W> {
    out: Mutex<W>,
}

impl<W: Write> JsonLines<W> {
    /// To the end of `out`.
    pub fn new(out: W) -> JsonLines<W> {
        JsonLines { out: Mutex::new(out) }
    }
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for JsonLines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut time = String::new();
        // RFC 3339, in UTC, with microseconds. It cannot fail into a string.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let Ok(mut line) = serde_json::to_vec(&Record::of(event).object(time)) else { return };
        line.push(b'\n');
        // In one piece, so that lines of other programs do not come in between. Where it cannot be written nobody can be told.
        let _ = self.out.lock().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_event_is_an_object_with_its_fields_flat() {
        let out = Shared::default();
        let log = tracing_subscriber::registry().with(JsonLines::new(out.clone()));
        tracing::subscriber::with_default(log, || {
            tracing::warn!(mirror = "http://a/", pages = 3u64, share = 0.5, late = true, "slow\nand \"late\"");
            tracing::error!(target: "other", level = 7, time = %"noon", why = ?Some(1), "taken names");
        });
        let text = String::from_utf8(out.0.lock().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &lines[..] else { panic!("{text}") };
        let time: jiff::Timestamp = first["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 1_700_000_000, "{first}");
        assert_eq!((&first["level"], &first["message"]), (&"warn".into(), &"slow\nand \"late\"".into()));
        assert!(first["target"].as_str().unwrap().starts_with("braidfs::mount::log"), "{first}");
        assert_eq!((&first["mirror"], &first["pages"]), (&"http://a/".into(), &3.into()));
        assert_eq!((&first["share"], &first["late"]), (&0.5.into(), &true.into()));
        assert_eq!((&second["level"], &second["level_"]), (&"error".into(), &7.into()));
        assert_eq!((&second["time_"], &second["why"]), (&"noon".into(), &"Some(1)".into()));
        assert_eq!(second["target"], "other");
    }
}
