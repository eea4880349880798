//! One rule per kind of value: which texts are allowed, and the sentence that says so. Knows no key.
//!
//! A rule takes text, since the environment, a secret's file and a default are texts; `Form` says which TOML types the
//! configuration file may use instead.
//!
//! Before: nothing. After: [`crate::config`]'s keys, reader and sections.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytesize::ByteSize;
use toml::Value;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use url::{Host, Url};

use super::codes::bytes_of_base64;
use super::networks::Networks;
use super::secret::Secret;
use super::verify::{KeyEncoding, SignedText, Types};
use super::words::PriceZone;
use crate::domain::alert::Season;
use crate::domain::event::EventKind;
use crate::domain::identity::{DEFAULT_TOKEN, LOGIN_LINK, NO_TOKEN, Role};
use crate::domain::zone::Zone;

/// Minimum length of a bearer token in characters: 16 random ones of base64 are 96 bits, which cannot be guessed over HTTP.
pub const TOKEN_CHARS_MIN: usize = 16;

/// Minimum length of a signing key in bytes: Standard Webhooks asks for 24 to 64.
pub const WEBHOOK_KEY_BYTES_MIN: usize = 24;

/// Minimum length of a key of `verify = "hmac"` in hexadecimal or Base64, in bytes: as many as a text has characters.
const HMAC_KEY_BYTES_MIN: usize = 16;

/// Length of a public ed25519 key in bytes (RFC 8032).
const ED25519_KEY_BYTES: usize = 32;

/// Minimum length of a secret that signs links, in characters. People who hold a link can try secrets on machines of their own: 32
/// characters of hexadecimal are 128 bits.
const LINK_KEY_CHARS_MIN: usize = 32;

/// Limit of the name of an AMQP exchange or queue, in bytes: the protocol's short string.
pub const AMQP_NAME_BYTES_MAX: usize = 255;

/// Limit of any waiting time: no rule of this bridge looks further than ten years.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(10 * 31_557_600);

/// The TOML types in which a value may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Whole,
    Number,
    Flag,
    TextOrWhole,
    /// A list of texts, or one text with commas between the items.
    List,
    /// A table of texts, or one text with `=` after each name and commas between the items.
    Pairs,
    /// A text that is never shown, given directly or as the path of a file.
    Secret,
    /// Several of those: a list or one text, or a file with one per line.
    Secrets,
}

impl Form {
    /// The value as text, if it is written in this form.
    pub(super) fn text_of(self, value: &Value) -> Option<String> {
        let text = || value.as_str().map(str::to_owned);
        let whole = || value.as_integer().map(|number| number.to_string());
        match self {
            Self::Text | Self::Secret => text(),
            Self::Whole => whole(),
            Self::Number => value.as_float().map(|number| number.to_string()).or_else(whole),
            Self::Flag => value.as_bool().map(|flag| flag.to_string()),
            Self::TextOrWhole => text().or_else(whole),
            Self::List | Self::Secrets => text().or_else(|| {
                let items: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
                items.map(|items| items.join(","))
            }),
            Self::Pairs => text().or_else(|| {
                let pair = |(name, value): (&String, &Value)| {
                    let value = value.as_str().filter(|_| !name.contains(','))?;
                    Some(format!("{name}={value}"))
                };
                let items: Option<Vec<String>> = value.as_table()?.iter().map(pair).collect();
                items.map(|items| items.join(","))
            }),
        }
    }

    /// Says whether the value is never shown, and may be given as a file instead.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }
}

/// Turns a text into its meaning, or refuses it.
type Accept<T> = Box<dyn Fn(&str) -> Option<T>>;

/// Recognises a usual mistake, and says how to mend it.
type Slip = fn(&str) -> Option<&'static str>;

/// One kind of value.
pub(super) struct Rule<T> {
    pub(super) form: Form,
    /// Completes "allowed: …".
    pub(super) allowed: String,
    /// True if a problem never shows the value: for secrets, and where people write one by mistake.
    pub(super) is_hidden: bool,
    accept: Accept<T>,
    slip: Slip,
}

impl<T: 'static> Rule<T> {
    fn new(form: Form, allowed: impl Into<String>, accept: impl Fn(&str) -> Option<T> + 'static) -> Self {
        let is_hidden = form.is_secret();
        Self { form, allowed: allowed.into(), is_hidden, accept: Box::new(accept), slip: |_| None }
    }

    fn with_slip(self, slip: Slip) -> Self {
        Self { slip, ..self }
    }

    fn map<U: 'static>(self, change: impl Fn(T) -> U + 'static) -> Rule<U> {
        let Self { form, allowed, is_hidden, accept, slip } = self;
        Rule { form, allowed, is_hidden, accept: Box::new(move |text| accept(text).map(&change)), slip }
    }

    /// The same rule, for a reader that does not need the value.
    pub(super) fn untyped(self) -> Rule<()> {
        self.map(drop)
    }

    /// The meaning of a text, or advice that shows nothing of it.
    pub(super) fn read(&self, text: &str) -> Result<T, String> {
        (self.accept)(text).ok_or_else(|| self.advice(text))
    }

    /// Advice about a text that is not accepted. Shows nothing of it.
    pub(super) fn advice(&self, text: &str) -> String {
        (self.slip)(text).map_or_else(|| format!("allowed: {}", self.allowed), str::to_owned)
    }
}

/// A secret in one line. `accept` returns the form in which it is kept.
fn secret(allowed: impl Into<String>, accept: impl Fn(&str) -> Option<String> + 'static) -> Rule<Secret> {
    Rule::new(Form::Secret, allowed, move |text| {
        let accepted = if flaw(text).is_none() { accept(text) } else { None };
        accepted.map(Secret::new)
    })
    .with_slip(flaw)
}

/// A secret in one line that is kept as it is.
fn secret_that(allowed: impl Into<String>, fits: impl Fn(&str) -> bool + 'static) -> Rule<Secret> {
    secret(allowed, move |text| fits(text).then(|| text.to_owned()))
}

/// A URL that may have a user and a password in it.
fn secret_url(allowed: impl Into<String>, fits: impl Fn(&str) -> bool + 'static) -> Rule<Secret> {
    secret_that(allowed, fits).with_slip(|text| flaw(text).or_else(|| escape_credentials(text)))
}

/// A text that is kept as it is.
fn text_that(allowed: impl Into<String>, fits: impl Fn(&str) -> bool + 'static) -> Rule<String> {
    Rule::new(Form::Text, allowed, move |text| fits(text).then(|| text.to_owned()))
}

/// Names an invisible character in a secret. A program or an editor put it there; the other side's secret does not have it.
fn flaw(text: &str) -> Option<&'static str> {
    text.chars().find_map(|c| match c {
        '\n' | '\r' => Some("it has more than one line; allowed: one line of visible characters"),
        '\0' => Some("it has a NUL character; allowed: one line of visible characters"),
        '\u{feff}' => Some("it has a byte order mark; allowed: one line of visible characters"),
        c if c.is_control() => Some("it has a control character; allowed: one line of visible characters"),
        _ => None,
    })
}

/// Several secrets, each of which `rule` allows.
pub(super) fn several(rule: Rule<Secret>) -> Rule<Secret> {
    Rule { form: Form::Secrets, ..rule }
}

pub(super) fn flag() -> Rule<bool> {
    Rule::new(Form::Flag, "true or false", |text| text.parse().ok())
}

pub(super) fn address() -> Rule<SocketAddr> {
    let allowed = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    Rule::new(Form::Text, allowed, |text| text.parse().ok())
}

pub(super) fn networks() -> Rule<Networks> {
    let allowed =
        "a list of IP addresses and networks, such as [\"10.0.0.7\", \"192.168.0.0/16\"], none of them all addresses";
    Rule::new(Form::List, allowed, Networks::parse)
}

pub(super) fn duration(least: Duration, most: Duration) -> Rule<Duration> {
    let shown = |duration| humantime::format_duration(duration).to_string();
    let allowed = format!("a duration from {} to {}, such as \"90s\" or \"15m\"", shown(least), shown(most));
    Rule::new(Form::Text, allowed, move |text| {
        humantime::parse_duration(text).ok().filter(|duration| (least..=most).contains(duration))
    })
}

pub(super) fn whole<T>(least: T, most: T) -> Rule<T>
where
    T: FromStr + PartialOrd + Display + Copy + 'static,
{
    Rule::new(Form::Whole, format!("a whole number from {least} to {most}"), move |text| {
        text.parse().ok().filter(|number| (least..=most).contains(number))
    })
}

/// A share of a whole: above 0, at most 1.
pub(super) fn share() -> Rule<f64> {
    Rule::new(Form::Number, "a number above 0 and at most 1", |text| {
        text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0)
    })
}

/// A number of bytes.
pub(super) fn size(least: u64, most: u64) -> Rule<usize> {
    let shown = |bytes| ByteSize::b(bytes).display().iec().to_string();
    let allowed = format!("a size from {} to {}, such as \"512KiB\" or \"1MiB\"", shown(least), shown(most));
    Rule::new(Form::TextOrWhole, allowed, move |text| {
        let bytes = text.parse::<ByteSize>().ok()?.as_u64();
        if (least..=most).contains(&bytes) { usize::try_from(bytes).ok() } else { None }
    })
}

/// One of a closed set.
pub(super) fn one_of<T: 'static, const N: usize>(
    names: [&'static str; N],
    from_name: fn(&str) -> Option<T>,
) -> Rule<T> {
    Rule::new(Form::Text, format!("one of {}", names.join(", ")), from_name)
}

/// The days on which homes are heated, or that there are none.
pub(super) fn season() -> Rule<Option<Season>> {
    let allowed = "two days of the year, such as 10-01..04-30, or none";
    Rule::new(Form::Text, allowed, |text| if text == "none" { Some(None) } else { Season::parse(text).map(Some) })
}

pub(super) fn price_zone() -> Rule<PriceZone> {
    // The partner's guides write DE where its schema allows DE_LU only.
    let plain = one_of(PriceZone::names(), |text| PriceZone::from_name(if text == "DE" { "DE_LU" } else { text }));
    Rule { allowed: format!("{}; DE is read as DE_LU", plain.allowed), ..plain }
}

pub(super) fn uuid() -> Rule<uuid::Uuid> {
    Rule::new(Form::Text, "a UUID", |text| text.parse().ok())
}

/// The user name of HTTP's Basic scheme, which ends at the first colon (RFC 7617).
pub(super) fn client_id() -> Rule<String> {
    let rule = text_that("1 to 255 visible ASCII characters without a colon", |text| {
        (1..=255).contains(&text.len()) && is_visible(text) && !text.contains(':')
    });
    // Elsewhere `client_id:client_secret` is one text.
    Rule { is_hidden: true, ..rule }
}

/// The path of a file.
pub(super) fn path() -> Rule<String> {
    text_that("a text that is not empty", |text| !text.is_empty())
}

/// A secret of another side, which alone knows how it looks.
pub(super) fn any_secret() -> Rule<Secret> {
    secret_that("a text that is not empty", |text| !text.is_empty())
}

pub(super) fn token() -> Rule<Secret> {
    let allowed = format!("a token of at least {TOKEN_CHARS_MIN} visible ASCII characters, without spaces");
    secret_that(allowed, |text| text.len() >= TOKEN_CHARS_MIN && is_visible(text))
}

/// A secret that signs links.
pub(super) fn link_key() -> Rule<Secret> {
    let allowed = format!(
        "random texts of at least {LINK_KEY_CHARS_MIN} visible ASCII characters, such as of openssl rand -hex 32"
    );
    secret_that(allowed, |text| text.len() >= LINK_KEY_CHARS_MIN && is_visible(text))
}

/// A key of the Standard Webhooks specification.
pub(super) fn signing_key() -> Rule<Secret> {
    let allowed = format!("whsec_ followed by base64 of at least {WEBHOOK_KEY_BYTES_MIN} bytes");
    secret(allowed, usual_signing_key)
}

/// The key in the one form of Base64 that the library reads. The library signs with it, so its own check is the last.
fn usual_signing_key(text: &str) -> Option<String> {
    let bytes = bytes_of_base64(text.strip_prefix("whsec_")?)?;
    let usual = format!("whsec_{}", BASE64.encode(&bytes));
    let is_usable = bytes.len() >= WEBHOOK_KEY_BYTES_MIN && standardwebhooks::Webhook::new(&usual).is_ok();
    is_usable.then_some(usual)
}

/// A key that proves a Standard Webhooks delivery: a shared one, or the sender's public one.
pub(super) fn verification_key() -> Rule<Secret> {
    let allowed = format!(
        "{}, or whpk_ followed by base64 of the {ED25519_KEY_BYTES} bytes of a public key",
        signing_key().allowed
    );
    secret(allowed, |text| {
        let Some(coded) = text.strip_prefix("whpk_") else { return usual_signing_key(text) };
        (bytes_of_base64(coded)?.len() == ED25519_KEY_BYTES).then(|| text.to_owned())
    })
}

/// The key of an HMAC in this encoding. Senders let people choose a text, so it may have blanks in it; not at its ends, where a
/// file or a list would lose them.
pub(super) fn hmac_key(encoding: KeyEncoding) -> Rule<Secret> {
    let allowed = match encoding {
        KeyEncoding::Text => format!("a text of at least {TOKEN_CHARS_MIN} characters, without blanks at its ends"),
        KeyEncoding::Hex => format!("hexadecimal digits of at least {HMAC_KEY_BYTES_MIN} bytes"),
        KeyEncoding::Base64 => format!("base64 of at least {HMAC_KEY_BYTES_MIN} bytes"),
    };
    secret_that(allowed, move |text| match encoding {
        KeyEncoding::Text => {
            let is_plain = !text.chars().any(char::is_control) && text.trim() == text;
            text.chars().count() >= TOKEN_CHARS_MIN && is_plain
        }
        KeyEncoding::Hex | KeyEncoding::Base64 => {
            encoding.bytes_of(text).is_some_and(|key| key.len() >= HMAC_KEY_BYTES_MIN)
        }
    })
}

/// User and password of `Authorization: Basic` (RFC 7617: a user has no colon).
pub(super) fn credentials() -> Rule<Secret> {
    let allowed = format!("user:password, with a password of at least {TOKEN_CHARS_MIN} characters");
    secret_that(allowed, |text| {
        let is_plain = !text.chars().any(char::is_control);
        let is_pair = |(user, password): (&str, &str)| !user.is_empty() && password.chars().count() >= TOKEN_CHARS_MIN;
        is_plain && text.split_once(':').is_some_and(is_pair)
    })
}

/// Any of the secrets that a source may have. Its `verify` decides which rule each must follow.
pub(super) fn source_secret() -> Rule<Secret> {
    let [signed, hmac, token, basic] =
        [verification_key(), hmac_key(KeyEncoding::Text), token(), credentials()].map(|rule| rule.allowed);
    let allowed = format!(
        "with verify = standard-webhooks {signed}; with hmac {hmac}, or as hmac_key_encoding says at least \
         {HMAC_KEY_BYTES_MIN} bytes; with bearer {token}; with basic {basic}"
    );
    Rule { allowed, ..any_secret() }
}

/// The name of a header, in lower case.
pub(super) fn header() -> Rule<String> {
    Rule::new(Form::Text, "the name of a header: letters, digits, - and _", |text| {
        is_name(text, 256).then(|| text.to_ascii_lowercase())
    })
}

/// The name of a part of a header such as `t=…,v1=…`.
pub(super) fn header_field() -> Rule<String> {
    text_that("a name of 1 to 64 letters, digits, - and _, such as v1", |text| is_name(text, 64))
}

fn is_name(text: &str, chars_max: usize) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=chars_max).contains(&text.len()) && text.chars().all(is_plain)
}

pub(super) fn text() -> Rule<String> {
    text_that("a text", |_| true)
}

pub(super) fn signed_text() -> Rule<SignedText> {
    Rule::new(Form::Text, "a text that has {body} once, such as v0:{timestamp}:{body}", SignedText::parse)
}

pub(super) fn amqp_name() -> Rule<String> {
    text_that(format!("a name of 1 to {AMQP_NAME_BYTES_MAX} bytes"), |text| {
        (1..=AMQP_NAME_BYTES_MAX).contains(&text.len())
    })
}

/// Keys that bind a queue to a topic exchange: words between dots, of which `*` stands for one and `#` for any number. RabbitMQ
/// would take a word that only contains one of the two literally, which no operator means.
pub(super) fn amqp_bindings() -> Rule<Vec<String>> {
    let allowed = format!(
        "a list of binding keys of 1 to {AMQP_NAME_BYTES_MAX} bytes, such as [\"customer.#\", \"crm.*.changed\"]; \
         `*` and `#` are words of their own"
    );
    list(allowed, |key| {
        let is_word = |word: &str| {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '*' | '#');
            matches!(word, "*" | "#") || (!word.is_empty() && word.chars().all(is_plain))
        };
        key.len() <= AMQP_NAME_BYTES_MAX && key.split('.').all(is_word)
    })
}

/// Types that a source may send: a family as `customer.*`, or a type of event that is known.
pub(super) fn types() -> Rule<Types> {
    let allowed = format!("a list of customer.*, team.* and {}", EventKind::names().join(", "));
    list(allowed, |pattern| matches!(pattern, "customer.*" | "team.*") || EventKind::from_name(pattern).is_some())
        .map(Types)
}

/// Domains of e-mail addresses, in lower case: `example.com`, or `*.example.com` for its subdomains. The list may be empty.
pub(super) fn domains() -> Rule<Vec<String>> {
    let allowed = "a list of domains such as [\"example.com\", \"*.example.com\"]";
    list_or_none(allowed, |domain| {
        let name = domain.strip_prefix("*.").unwrap_or(domain);
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '@' | '*' | ',' | '/');
        name.contains('.') && name.chars().all(is_plain) && name.split('.').all(|label| !label.is_empty())
    })
    .map(|domains| domains.into_iter().map(|domain| domain.to_lowercase()).collect())
}

/// Ids or e-mail addresses of people. The list may be empty. A problem never shows one.
pub(super) fn ids() -> Rule<Vec<String>> {
    let rule = list_or_none("a list of ids or e-mail addresses, each of 1 to 254 characters", |id| {
        (1..=254).contains(&id.chars().count()) && !id.chars().any(char::is_control)
    });
    Rule { is_hidden: true, ..rule }
}

/// Items in order, or none.
fn list_or_none(allowed: &str, is_item: impl Fn(&str) -> bool + 'static) -> Rule<Vec<String>> {
    Rule::new(Form::List, allowed, move |text| {
        let items: Vec<&str> = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()).collect();
        items.iter().all(|item| is_item(item)).then(|| items.into_iter().map(str::to_owned).collect())
    })
}

/// At least one item, each in order.
fn list(allowed: String, is_item: impl Fn(&str) -> bool + 'static) -> Rule<Vec<String>> {
    Rule::new(Form::List, allowed, move |text| {
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        items.iter().all(|item| is_item(item)).then(|| items.into_iter().map(str::to_owned).collect())
    })
}

pub(super) fn amqp_url() -> Rule<Secret> {
    secret_url("a URL that begins with amqp:// or amqps://", |text| {
        let is_broker =
            |url: Url| matches!(url.scheme(), "amqp" | "amqps") && url.has_host() && url.fragment().is_none();
        // In a broker's URL an `@` stands before the host and nowhere else.
        let is_whole = !cut(text).is_some_and(|cut| cut.rest.contains('@'));
        is_whole && Url::parse(text).is_ok_and(is_broker)
    })
}

/// A URL in two: the part between the scheme and the first `/`, `?` or `#`, and the rest.
struct Cut<'a> {
    authority: &'a str,
    rest: &'a str,
}

fn cut(url: &str) -> Option<Cut<'_>> {
    let (_, behind) = url.split_once("://")?;
    let (authority, rest) = behind.split_at(behind.find(['/', '?', '#']).unwrap_or(behind.len()));
    Some(Cut { authority, rest })
}

/// A `#`, `/` or `?` in user or password ends the host too early: the `@` comes behind it.
fn escape_credentials(url: &str) -> Option<&'static str> {
    const ESCAPE: &str =
        "write # / ? @ % in user and password as %23 %2F %3F %40 %25 (and an @ in a later part as %40)";
    cut(url).filter(|cut| !cut.authority.is_empty() && cut.rest.contains('@')).map(|_| ESCAPE)
}

/// The URL of a store. The path of a SQLite file is read literally, so the rule refuses an option that another program's URL
/// could have. A database in memory, which an empty path also means to SQLite, would lose accepted events.
pub(super) fn store_url() -> Rule<Secret> {
    let allowed = "sqlite:// and the path of a file (no `?`, not :memory:), or a URL that begins with postgres: or \
                   postgresql: and whose options PostgreSQL's clients know";
    secret_url(allowed, |text| {
        if let Some(rest) = text.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return !matches!(path, "" | ":memory:") && !path.contains(['?', '\0']);
        }
        let is_known = |scheme: &&str| text.strip_prefix(*scheme).is_some_and(|rest| !rest.is_empty());
        // A `user@host` may be complete and have another `@` among its options; in a host it would be lost.
        let is_whole = cut(text).is_none_or(|cut| {
            let before_options = cut.rest.split('?').next().unwrap_or_default();
            let is_read = if cut.authority.contains('@') { before_options } else { cut.rest };
            cut.authority.is_empty() || !is_read.contains('@')
        });
        ["postgres:", "postgresql:"].iter().any(is_known) && is_whole && has_known_options(text)
    })
}

/// Options of a URL that PostgreSQL's own clients know (libpq, "Parameter Key Words"), or the driver.
const STORE_OPTIONS: &str = "sslmode ssl-mode sslrootcert ssl-root-cert ssl-ca sslcert ssl-cert sslkey ssl-key statement-cache-capacity \
    host hostaddr port dbname user password application_name options connect_timeout target_session_attrs \
    channel_binding client_encoding fallback_application_name keepalives keepalives_idle keepalives_interval \
    keepalives_count tcp_user_timeout gssencmode require_auth sslnegotiation passfile load_balance_hosts";

/// Says whether the driver knows every option of a URL: it ignores a misspelt `sslmdoe`, and the connection is not encrypted.
fn has_known_options(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes())
        .all(|(name, _)| STORE_OPTIONS.split(' ').any(|known| known == name) || name.starts_with("options["))
}

/// Limit of an address in characters. The partner limits its two landing pages to it; no other address needs more.
const URL_CHARS_MAX: usize = 8_000;

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// Says whether nobody reads what goes to a URL: TLS, or this machine.
fn is_sealed(url: &Url) -> bool {
    let is_private = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && is_private))
}

/// Says whether a URL has neither a user nor a password in it.
fn is_anonymous(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

/// Says whether a URL ends after its host.
fn is_bare(url: &Url) -> bool {
    url.path() == "/" && url.query().is_none() && url.fragment().is_none()
}

fn is_web_text(text: &str) -> bool {
    text.chars().count() <= URL_CHARS_MAX && Url::parse(text).is_ok_and(|url| is_web(&url))
}

const WEB_URL: &str = "an absolute http:// or https:// URL of at most 8000 characters";

/// An absolute address that a browser or a client can open.
pub(super) fn web_url() -> Rule<String> {
    text_that(WEB_URL, is_web_text).with_slip(escape_credentials)
}

/// A [`web_url`] that a program calls: it would never send the part after a `#`.
pub(super) fn called_url() -> Rule<String> {
    let allowed = format!("{WEB_URL}, without a #");
    text_that(allowed, |text| is_web_text(text) && !text.contains('#')).with_slip(escape_credentials)
}

/// A forward proxy: scheme, host, port, and a user and password where it wants them.
pub(super) fn proxy_url() -> Rule<Secret> {
    let allowed = "scheme, host and port of a proxy, such as http://proxy.utility.example:3128 or \
                   http://user:password@proxy.utility.example:3128";
    secret_url(allowed, |text| is_visible(text) && Url::parse(text).is_ok_and(|url| is_web(&url) && is_bare(&url)))
}

/// Scheme and host of an API whose paths are its own; the result has no slash at its end.
pub(super) fn base_url() -> Rule<String> {
    let allowed = "scheme and host only, such as https://app.podero.com; http:// only on loopback";
    Rule::new(Form::Text, allowed, |text| {
        let url = Url::parse(text).ok()?;
        (is_sealed(&url) && is_bare(&url) && is_anonymous(&url)).then(|| url.as_str().trim_end_matches('/').to_owned())
    })
    .with_slip(|text| {
        let is_given = cut(text).is_some_and(|cut| cut.authority.contains('@') || cut.rest.contains('@'));
        is_given
            .then_some("allowed: no user and password here; the account is podero.client_id and podero.client_secret")
    })
}

/// Scheme and host by which browsers reach pages of the bridge; the result has no slash at its end.
pub(super) fn origin() -> Rule<String> {
    let allowed = "scheme and host only, such as https://bridge.utility.example";
    Rule::new(Form::Text, allowed, |text| {
        let url = Url::parse(text).ok()?;
        (is_web(&url) && is_bare(&url) && is_anonymous(&url)).then(|| url.as_str().trim_end_matches('/').to_owned())
    })
}

/// An [`origin`] whose addresses open something: with TLS, or on this machine.
pub(super) fn sealed_origin() -> Rule<String> {
    let allowed = "scheme and host only, such as https://heat.utility.example; http:// only on loopback";
    Rule::new(Form::Text, allowed, |text| {
        let url = Url::parse(text).ok()?;
        (is_sealed(&url) && is_bare(&url) && is_anonymous(&url)).then(|| url.as_str().trim_end_matches('/').to_owned())
    })
}

/// The issuer of an identity provider, kept as it is: the provider's tokens say it character by character.
pub(super) fn issuer() -> Rule<String> {
    let allowed = "an https:// URL without query and fragment, such as https://login.utility.example/realms/staff; http:// only on loopback";
    text_that(allowed, |text| {
        let fits =
            |url: Url| is_sealed(&url) && is_anonymous(&url) && url.query().is_none() && url.fragment().is_none();
        Url::parse(text).is_ok_and(fits)
    })
}

/// The name of a claim of an ID token.
pub(super) fn claim() -> Rule<String> {
    text_that("1 to 128 visible ASCII characters", |text| (1..=128).contains(&text.len()) && is_visible(text))
}

/// A name that people read on a page.
pub(super) fn shown_name() -> Rule<String> {
    text_that("1 to 64 characters", |text| {
        (1..=64).contains(&text.chars().count()) && !text.trim().is_empty() && !text.contains(char::is_control)
    })
}

/// A line that people read on a page.
pub(super) fn shown_line() -> Rule<String> {
    text_that("1 to 200 characters in one line", |text| {
        (1..=200).contains(&text.chars().count()) && !text.trim().is_empty() && !text.contains(char::is_control)
    })
}

/// Scopes of OAuth, which have no spaces.
pub(super) fn scopes() -> Rule<Vec<String>> {
    list_or_none("a list of scopes, each of visible ASCII characters", |scope| !scope.is_empty() && is_visible(scope))
}

/// Values of a claim, each with the role that it stands for.
pub(super) fn roles() -> Rule<BTreeMap<String, Role>> {
    let allowed = "a table of values, which have no comma, each with viewer, support or admin";
    Rule::new(Form::Pairs, allowed, |text| {
        let pair = |item: &str| {
            let (value, role) = item.rsplit_once('=')?;
            let (value, role) = (value.trim(), Role::from_name(role.trim())?);
            (!value.is_empty()).then(|| (value.to_owned(), role))
        };
        text.split(',').map(pair).collect()
    })
}

/// A time zone of the IANA database.
pub(super) fn time_zone() -> Rule<Zone> {
    let allowed = "the name of a time zone of the IANA database, such as UTC or Europe/Berlin";
    Rule::new(Form::Text, allowed, Zone::named)
}

pub(super) fn log_level() -> Rule<String> {
    let allowed = "off, error, warn, info, debug or trace, or directives such as info,podero_bridge=debug";
    text_that(allowed, |text| {
        // A bare word that is no level would be read as the name of a module, and a misspelt level with it.
        let is_directive = |part: &str| part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok());
        EnvFilter::builder().parse(text).is_ok() && text.split(',').all(|part| is_directive(part.trim()))
    })
}

/// The name of a source, which is a path segment, a metric label and part of an environment variable.
pub(super) fn source_name() -> Rule<String> {
    text_that("1 to 64 of the characters a-z, 0-9 and -", |text| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=64).contains(&text.len()) && text.chars().all(is_plain)
    })
}

/// The name of a token, which stands in the audit log and in an environment variable. Three are taken: that of `admin.token`, that
/// of a caller where no token is configured, and that of a sandbox's login link.
pub(super) fn token_name() -> Rule<String> {
    let name = source_name();
    let allowed = format!("{}, but not {DEFAULT_TOKEN}, {NO_TOKEN} or {LOGIN_LINK}", name.allowed);
    text_that(allowed, move |text| name.read(text).is_ok() && ![DEFAULT_TOKEN, NO_TOKEN, LOGIN_LINK].contains(&text))
}

fn is_visible(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

/// Says whether only this machine can reach the address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
