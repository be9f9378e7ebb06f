//! One GET to a mirror: redirects followed by hand, credentials kept at home.

use super::failure::{Failure, FailureKind, named, redacted};
use super::redirect::{self, HOPS_MAX, LOCATION_BYTES_MAX, Remembered};
use super::settings::{BadSource, Settings};
use super::validator::Validator;
use crate::clock::{self, Time};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::ops::Range;
use std::time::Duration;

/// Unread answers up to this long are read to their end, so that their connection can be used
/// again; more would cost more than a new connection.
const DRAINED_BYTES_MAX: u64 = 16 << 10;

/// What to ask for.
pub(super) struct Get<'a> {
    /// Where, at the mirror itself.
    pub url: Url,
    /// Which bytes; all of them without.
    pub range: Option<Range<u64>>,
    /// Only of this version.
    pub validator: Option<&'a Validator>,
    /// Which kinds of page are understood.
    pub accept: Option<HeaderValue>,
}

/// An answer that is no redirect.
pub(super) struct Reply {
    pub response: Response,
    /// Who answered, after redirects.
    pub url: Url,
    /// Its host where it is not the mirror's own, as in [`Validator::host`].
    pub host: Option<String>,
    /// From the first request to the headers of the answer, redirects included.
    pub first_byte: Duration,
    /// A redirect put a slash behind the path: it is a folder.
    pub folder: bool,
}

/// Everything that requests to one mirror share.
pub(super) struct Requests {
    base: Url,
    own_headers: HeaderMap,
    remembered: Remembered,
}

impl Requests {
    /// # Errors
    /// Headers that cannot be sent; [`Settings::validate`] finds them first.
    pub fn new(settings: &Settings) -> Result<Requests, BadSource> {
        settings.validate()?;
        let mut own_headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("validate() has parsed it");
            let mut value = HeaderValue::from_str(value).expect("validate() has parsed it");
            value.set_sensitive(true);
            own_headers.append(name, value);
        }
        if !own_headers.contains_key(AUTHORIZATION)
            && let Some(basic) = basic_authorization(&settings.url)
        {
            own_headers.insert(AUTHORIZATION, basic);
        }
        Ok(Requests { base: without_user(settings.url.clone()), own_headers, remembered: Remembered::new() })
    }

    /// The mirror's folder, without credentials.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Ask the mirrors' redirects anew.
    pub fn forget_redirects(&self) {
        self.remembered.forget_all();
    }

    /// One GET. A remembered redirect that refuses or misses is forgotten and the mirror asked once.
    ///
    /// # Errors
    /// No answer, or redirects that are not followed. Any other status is an answer.
    pub async fn get(&self, client: &Client, get: &Get<'_>) -> Result<Reply, Failure> {
        let start = clock::now();
        if let Some(target) = self.remembered.get(&get.url) {
            match self.follow(client, get, target.url, target.until, start).await {
                Ok(reply) if !has_expired(reply.response.status()) => return Ok(reply),
                Ok(reply) => {
                    tracing::debug!(from = %redacted(&get.url), status = %reply.response.status(), "a remembered redirect has expired");
                    self.remembered.forget(&get.url);
                    drain(reply.response).await;
                }
                Err(failure) => {
                    self.remembered.forget(&get.url);
                    return Err(failure);
                }
            }
        }
        self.follow(client, get, get.url.clone(), Time::NEVER, start).await
    }

    /// From `at` on until something else than a redirect answers.
    async fn follow(
        &self,
        client: &Client,
        get: &Get<'_>,
        mut at: Url,
        mut until: Time,
        start: Time,
    ) -> Result<Reply, Failure> {
        for hop in 0..=HOPS_MAX {
            let host = self.foreign_host(&at);
            let request = self.request(get, &at, host.as_deref());
            let response = client.execute(request).await.map_err(|error| Failure::of_transport(&at, error))?;
            let status = response.status();
            if !redirect::is_redirect(status) {
                if hop > 0 && (status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE) {
                    self.remembered.remember(&get.url, &at, until);
                }
                let folder = is_folder_of(&get.url, &at);
                let first_byte = clock::now().since(start);
                return Ok(Reply { response, url: at, host, first_byte, folder });
            }
            let next = target(&at, &response)?;
            until = until.min(clock::now() + redirect::lifetime(status, response.headers()));
            tracing::debug!(from = %redacted(&at), to = %redacted(&next), %status, "redirected");
            drain(response).await;
            at = next;
        }
        Err(Failure::new(FailureKind::Refused, &get.url, format!("redirects more than {HOPS_MAX} times")))
    }

    fn request(&self, get: &Get<'_>, at: &Url, host: Option<&str>) -> reqwest::Request {
        let mut request = reqwest::Request::new(reqwest::Method::GET, at.clone());
        let headers = request.headers_mut();
        if host.is_none() {
            headers.clone_from(&self.own_headers);
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = &get.accept {
            headers.entry(ACCEPT).or_insert_with(|| accept.clone());
        }
        if let Some(range) = &get.range {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.insert(RANGE, HeaderValue::try_from(value).expect("digits are a header value"));
        }
        if let Some((name, value)) = get.validator.and_then(|validator| validator.condition(host)) {
            headers.insert(name, value);
        }
        request
    }

    /// The host of `url` where it is not the mirror's own: there go no credentials. The same host
    /// by https instead of http, at the usual ports, is the mirror's own.
    fn foreign_host(&self, url: &Url) -> Option<String> {
        let same_host = url.host_str() == self.base.host_str();
        let same_port =
            url.scheme() == self.base.scheme() && url.port_or_known_default() == self.base.port_or_known_default();
        let upgraded = self.base.scheme() == "http"
            && url.scheme() == "https"
            && self.base.port_or_known_default() == Some(80)
            && url.port_or_known_default() == Some(443);
        if same_host && (same_port || upgraded) {
            return None;
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}", url.host_str().unwrap_or_default()))
    }
}

/// Read what is left of a short answer, so that its connection can be used again.
pub(super) async fn drain(mut response: Response) {
    if response.content_length().is_some_and(|length| length <= DRAINED_BYTES_MAX) {
        while let Ok(Some(_)) = response.chunk().await {}
    }
}

/// Is `to` what `from` is called once a slash is put behind its name? (`/download/?file=x` is not.)
fn is_folder_of(from: &Url, to: &Url) -> bool {
    let name = from.path().rsplit('/').next().unwrap_or_default();
    !name.is_empty() && to.path().strip_suffix('/').and_then(|path| path.rsplit('/').next()) == Some(name)
}

/// What a signed address says when its time is over: 403, or 400 (Google), 401, or no such file.
fn has_expired(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410)
}

/// Where a redirect leads, if it is one to follow.
fn target(at: &Url, response: &Response) -> Result<Url, Failure> {
    let status = named(response.status());
    let refused = |what: String| Failure::new(FailureKind::Refused, at, what);
    let Some(location) = response.headers().get(LOCATION) else {
        return Err(Failure::new(FailureKind::Corrupt, at, format!("answered {status} without saying where to")));
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    if location.len() > LOCATION_BYTES_MAX {
        return Err(refused(format!("redirects to an address of {} bytes", location.len())));
    }
    let next = at.join(&location).map_err(|error| {
        Failure::new(FailureKind::Corrupt, at, format!("redirects to what is no address ({error})"))
    })?;
    match (at.scheme(), next.scheme()) {
        ("https", "http") => Err(refused(format!(
            "redirects from https to {}, which is not followed: anybody on the way could change the bytes",
            redacted(&next)
        ))),
        (_, "http" | "https") => {
            let mut next = without_user(next);
            next.set_fragment(None);
            Ok(next)
        }
        (_, scheme) => Err(refused(format!("redirects to {scheme}:, which is not supported"))),
    }
}

fn without_user(mut url: Url) -> Url {
    // These fail for addresses without a host only, and http always has one.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// `Basic …` from `user:password@`, percent-decoded.
fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_encoding::percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_encoding::percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", base64(&pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63] as char;
            text.push(if at <= group.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_rfc_does() {
        let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, wanted) in table {
            assert_eq!(base64(bytes.as_bytes()), wanted);
        }
    }

    #[test]
    fn a_slash_behind_the_name_makes_a_folder() {
        let table = [
            ("http://h/a/b", "http://h/a/b/", true),
            ("http://h/a/b", "https://other/mirror/b/", true),
            ("http://h/a/b", "http://cdn/download/?file=b", false),
            ("http://h/a/b", "http://h/x/b", false),
            ("http://h/a/", "http://h/b/", false),
        ];
        for (from, to, wanted) in table {
            assert_eq!(is_folder_of(&Url::parse(from).unwrap(), &Url::parse(to).unwrap()), wanted, "{from} {to}");
        }
    }

    #[test]
    fn credentials_belong_to_one_host() {
        let requests = Requests::new(&Settings::parse("http://u:p%40@mirror.example/d/").unwrap()).unwrap();
        assert_eq!(requests.base().as_str(), "http://mirror.example/d/");
        assert_eq!(requests.own_headers[AUTHORIZATION], format!("Basic {}", base64(b"u:p@")));
        let foreign = |url: &str| requests.foreign_host(&Url::parse(url).unwrap());
        assert_eq!(foreign("http://mirror.example/x"), None);
        assert_eq!(foreign("https://mirror.example/x"), None);
        assert_eq!(foreign("http://mirror.example:81/x"), Some("mirror.example:81".into()));
        assert_eq!(foreign("https://mirror.example:8443/x"), Some("mirror.example:8443".into()));
        assert_eq!(foreign("http://cdn.mirror.example/x"), Some("cdn.mirror.example".into()));
    }
}
