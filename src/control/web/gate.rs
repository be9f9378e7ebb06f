//! Who may. A refusal says why, and tells nothing else.

use super::token::Token;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{StatusCode, Uri};

/// Where the page puts the token. A page of another origin cannot set it: that would have to be allowed first.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("braidfs-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why somebody may not.
#[derive(Debug)]
pub(super) struct Refused {
    /// For a program.
    pub(super) code: StatusCode,
    /// For a person.
    pub(super) why: &'static str,
}

fn refuse(code: StatusCode, why: &'static str) -> Result<(), Refused> {
    Err(Refused { code, why })
}

/// It was asked for by a name of this machine. A stranger's page whose own name was made to lead here has that name.
/// The port does not matter: a forwarded one (`ssh -L`) is another.
pub(super) fn host(headers: &HeaderMap) -> Result<(), Refused> {
    let authority = only(headers, &header::HOST).and_then(|host| host.parse::<Uri>().ok());
    match authority.as_ref().and_then(Uri::host) {
        Some("127.0.0.1" | "[::1]" | "localhost") => Ok(()),
        _ => refuse(StatusCode::FORBIDDEN, "ask for it as 127.0.0.1, [::1] or localhost\n"),
    }
}

/// It comes from our own page, or from no page at all, and has the token.
pub(super) fn command(headers: &HeaderMap, token: &Token) -> Result<(), Refused> {
    let own = only(headers, &header::HOST).map(|host| format!("http://{host}"));
    if headers.contains_key(header::ORIGIN) && only(headers, &header::ORIGIN) != own.as_deref() {
        return refuse(StatusCode::FORBIDDEN, "another page may not\n");
    }
    if headers.contains_key(FETCH_SITE) && !matches!(only(headers, &FETCH_SITE), Some("same-origin" | "none")) {
        return refuse(StatusCode::FORBIDDEN, "another page may not\n");
    }
    if !only(headers, &TOKEN_HEADER).is_some_and(|given| token.is(given)) {
        return refuse(StatusCode::UNAUTHORIZED, "the token is missing or not this mount's: `braidfs web` prints it\n");
    }
    if only(headers, &header::CONTENT_TYPE) != Some("application/json") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON\n");
    }
    Ok(())
}

/// The value of a header that is there once: of two it is anybody's guess which one counts.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut all = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            all.append(name, value);
        }
        all
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        for good in ["127.0.0.1:80", "127.0.0.1", "[::1]:8080", "localhost:1"] {
            assert!(host(&headers(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in ["rebound.example:80", "127.0.0.1.example", "localhost.example", "127.0.0.2", "", "a b", "[::1"] {
            assert!(host(&headers(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(host(&HeaderMap::new()).is_err(), "none");
        assert!(host(&headers(&[("host", "localhost"), ("host", "localhost")])).is_err(), "two");
    }

    #[test]
    fn a_command_needs_the_token_and_our_own_page() {
        let token = Token::new().unwrap();
        let code = |more: &[(&'static str, &str)]| {
            let mut all = vec![("host", "127.0.0.1:5"), ("content-type", "application/json")];
            all.extend_from_slice(more);
            command(&headers(&all), &token).err().map(|refused| refused.code.as_u16())
        };
        let right = token.text();
        let wrong = "0".repeat(right.len());
        assert_eq!(code(&[("braidfs-token", right)]), None);
        assert_eq!(code(&[("braidfs-token", right), ("origin", "http://127.0.0.1:5")]), None);
        assert_eq!(code(&[("braidfs-token", right), ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(code(&[]), Some(401));
        assert_eq!(code(&[("braidfs-token", "")]), Some(401));
        assert_eq!(code(&[("braidfs-token", &wrong)]), Some(401));
        assert_eq!(code(&[("braidfs-token", &right[..right.len() - 1])]), Some(401));
        assert_eq!(code(&[("braidfs-token", right), ("braidfs-token", right)]), Some(401), "two");
        for origin in ["http://127.0.0.1:6", "https://127.0.0.1:5", "http://localhost:5", "null", ""] {
            assert_eq!(code(&[("braidfs-token", right), ("origin", origin)]), Some(403), "{origin}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert_eq!(code(&[("braidfs-token", right), ("sec-fetch-site", site)]), Some(403), "{site}");
        }
        assert_eq!(code(&[("braidfs-token", right), ("content-type", "text/plain")]), Some(415));
    }
}
