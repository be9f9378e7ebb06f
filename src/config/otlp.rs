//! Where spans of slow reads go: `--otlp` and `--otlp-slow`, and the variables that OpenTelemetry gives names to.
//!
//! The variables alone switch nothing on: they are often set for a whole machine or pod, and a mount would begin to speak to
//! somebody that it was not told about. What they say of headers and of the service's name holds for `--otlp URL` too.
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use super::source::without_credentials;
use serde::de::{self, Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// The names of the variables begin so.
pub const VARIABLE_PREFIX: &str = "OTEL_";
/// What a read may take without being shown: a few round trips to another continent.
pub const SLOW: Duration = Duration::from_millis(200);
/// Where a receiver listens that was installed and not configured.
const LOCAL: &str = "http://localhost:4318";
/// Where a receiver takes spans, below its base.
const TRACES: &str = "/v1/traces";
/// The service's name where nobody gives one.
const SERVICE: &str = "braidfs";

/// What stands after `--otlp`.
#[derive(Clone, PartialEq, Eq)]
pub enum OtlpGiven {
    /// `env`: as the variables say.
    Environment,
    /// The base of a receiver.
    At(Url),
}

/// Text that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{input:?} is no receiver of spans: {why}; write http://HOST:4318, or env to take it from OTEL_EXPORTER_OTLP_ENDPOINT"
)]
pub struct BadOtlp {
    input: String,
    why: String,
}

impl fmt::Debug for OtlpGiven {
    /// As shown to people: options are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OtlpGiven::Environment => f.write_str("env"),
            OtlpGiven::At(url) => f.write_str(without_credentials(url).as_str()),
        }
    }
}

impl FromStr for OtlpGiven {
    type Err = BadOtlp;

    fn from_str(input: &str) -> Result<OtlpGiven, BadOtlp> {
        match input.trim() {
            "env" => Ok(OtlpGiven::Environment),
            text => receiver(text).map(OtlpGiven::At),
        }
    }
}

impl<'de> Deserialize<'de> for OtlpGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OtlpGiven, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn receiver(text: &str) -> Result<Url, BadOtlp> {
    // A password that was typed stays out of errors.
    let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let bad = |why: String| BadOtlp { input: shown.to_owned(), why };
    if !text.contains("://") {
        return Err(bad("it has no scheme".into()));
    }
    let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(bad(format!("spans go by http or https, not {other}"))),
    }
}

/// Where spans go, and of which reads.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpPlan {
    /// What is posted to.
    pub endpoint: Url,
    /// Reads that take longer are told of.
    pub slow: Duration,
    /// With each request.
    pub headers: Vec<(String, String)>,
    /// Who we are there.
    pub service: String,
}

impl OtlpPlan {
    /// The endpoint without credentials.
    pub fn shown(&self) -> String {
        without_credentials(&self.endpoint).to_string()
    }
}

impl fmt::Debug for OtlpPlan {
    /// Headers are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for reads over {:?}, as {:?}", self.shown(), self.slow, self.service)
    }
}

/// What `given` and the variables come to; nothing where it was not asked for. Variables have no prefix here.
///
/// # Errors
/// What is wrong with a variable, by its name.
pub fn otlp(
    given: Option<OtlpGiven>,
    slow: Option<Duration>,
    variables: &BTreeMap<String, String>,
) -> Result<Option<OtlpPlan>, String> {
    let Some(given) = given else { return Ok(None) };
    let variable = |name: &str| variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let wrong = |name: &str, why: String| format!("{VARIABLE_PREFIX}{name} in the environment: {why}");
    let base = |name: &str| variable(name).map(|text| receiver(text).map_err(|error| wrong(name, error.to_string())));
    let endpoint = match given {
        OtlpGiven::At(url) => below(url),
        OtlpGiven::Environment => match base("EXPORTER_OTLP_TRACES_ENDPOINT").transpose()? {
            // It is the whole of it, by the standard.
            Some(url) => url,
            None => below(match base("EXPORTER_OTLP_ENDPOINT").transpose()? {
                Some(url) => url,
                None => receiver(LOCAL).map_err(|error| error.to_string())?,
            }),
        },
    };
    let mut headers = Vec::new();
    for name in ["EXPORTER_OTLP_HEADERS", "EXPORTER_OTLP_TRACES_HEADERS"] {
        let text = variable(name).unwrap_or_default();
        headers.extend(read_headers(text).map_err(|why| wrong(name, why))?);
    }
    let service = variable("SERVICE_NAME").unwrap_or(SERVICE).to_owned();
    Ok(Some(OtlpPlan { endpoint, slow: slow.unwrap_or(SLOW), headers, service }))
}

/// Where spans go below a base; who typed all of it is understood.
fn below(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(TRACES) {
        url.set_path(&format!("{path}{TRACES}"));
    }
    url
}

/// `name=value,name=value`, values percent-encoded. Values are secrets and never part of an error.
fn read_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let header = |part: &str| {
        let (name, value) = part.split_once('=').ok_or("write name=value, with commas between")?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8();
        let value = value.map_err(|_| format!("the value of {:?} is not UTF-8", name.trim()))?;
        Ok((name.trim().to_ascii_lowercase(), value.into_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(given: &str, variables: &[(&str, &str)]) -> Result<OtlpPlan, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let given = given.parse().map_err(|error: BadOtlp| error.to_string())?;
        otlp(Some(given), None, &variables).map(|plan| plan.expect("it was asked for"))
    }

    #[test]
    fn spans_go_below_the_base_and_variables_alone_switch_nothing_on() {
        let endpoint = |given, variables: &[_]| plan(given, variables).unwrap().endpoint.to_string();
        assert_eq!(endpoint("http://h:4318", &[]), "http://h:4318/v1/traces");
        assert_eq!(endpoint("https://h/otel/", &[]), "https://h/otel/v1/traces");
        assert_eq!(endpoint("http://h:4318/v1/traces", &[]), "http://h:4318/v1/traces");
        assert_eq!(endpoint("env", &[]), "http://localhost:4318/v1/traces");
        let base = ("EXPORTER_OTLP_ENDPOINT", "http://e:1/x");
        assert_eq!(endpoint("env", &[base]), "http://e:1/x/v1/traces");
        assert_eq!(endpoint("http://h:4318", &[base]), "http://h:4318/v1/traces", "what is typed counts first");
        assert_eq!(endpoint("env", &[base, ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:2/as-is")]), "http://t:2/as-is");
        assert_eq!(endpoint("env", &[("EXPORTER_OTLP_ENDPOINT", " ")]), "http://localhost:4318/v1/traces");
        let alone = BTreeMap::from([("EXPORTER_OTLP_ENDPOINT".to_owned(), "http://e:1".to_owned())]);
        assert_eq!(otlp(None, None, &alone), Ok(None));
    }

    #[test]
    fn headers_and_the_name_come_from_the_variables_and_stay_secret() {
        let variables = [("EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x = 1,"), ("SERVICE_NAME", "reads")];
        let plan = plan("http://joe:pw@h:4318", &variables).unwrap();
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(plan.headers, [header("authorization", "Bearer s3cret"), header("x", "1")]);
        assert_eq!(plan.service, "reads");
        let shown = format!("{plan:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("pw"), "{shown}");
    }

    #[test]
    fn what_is_no_receiver_is_refused_with_the_way_out() {
        for (given, said) in [("h:4318", "no scheme"), ("grpc://h:4317", "not grpc"), ("http://", "empty host")] {
            let error = plan(given, &[]).expect_err(given);
            assert!(error.contains(said) && error.contains("http://HOST:4318"), "{error}");
        }
        let error = plan("ftp://joe:s3cret@h", &[]).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        let error = plan("env", &[("EXPORTER_OTLP_ENDPOINT", "collector:4318")]).unwrap_err();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT in the environment: "), "{error}");
        let error = plan("env", &[("EXPORTER_OTLP_HEADERS", "s3cret")]).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("s3cret"), "{error}");
    }
}
