//! What `braidfs prefetch --json` prints is what `braidfs generate schema prefetch` says of it.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::process::output_of;
use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn every_line_is_as_its_schema_says() {
    let tree = Tree::new().with_generated("job/a.bin", 1, 4 << 20).with_generated("job/no.bin", 2, 1 << 20);
    let (mirrors, place) = (mirrors(1, &tree), Place::new());
    mirrors[0].add(Rule::new(Fault::Status { code: 403, retry_after_s: None }).under("job/no.bin"));
    mirrors[0].add(Rule::new(Fault::Shape { bytes_per_second: 4 << 20 }).under("job/a.bin"));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let schema: Value =
        serde_json::from_slice(&output_of(place.command().args(["generate", "schema", "prefetch"]))).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("prefetch.json", schema).unwrap();
    let schema = compiler.compile("prefetch.json", &mut schemas).expect("it is a schema");
    let path = |name: &str| mount.path(name).into_os_string().into_string().unwrap();
    let (job, profile) = (path("job"), place.path("p.jsonl").into_os_string().into_string().unwrap());
    let mut kinds = BTreeSet::new();
    for words in [
        &[job.as_str(), "--json"][..],
        &[&path("job/a.bin"), "--json", "--no-wait", "--rate", "1MiB/s"],
        &[&job, "--json", "--check"],
        &["--record", &profile, &job, "--json", "--", "true"],
        &["/", "--json"],
    ] {
        let output = place.braidfs([&["prefetch"], words].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.is_empty(), "{words:?}");
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect(line);
            let checked = schemas.validate(&value, schema);
            assert!(checked.is_ok(), "{words:?}: {line}: {checked:?}");
            kinds.extend(value.as_object().unwrap().keys().cloned());
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["error", "failed", "progress", "result"]);
    for none in [
        json!({ "progress": { "bytes_done": "many" } }),
        json!({ "failed": { "path": "a" } }),
        json!({ "result": {} }),
        json!({ "alive": {} }),
        json!("alive"),
    ] {
        assert!(schemas.validate(&none, schema).is_err(), "{none}");
    }
    mount.umount();
}
