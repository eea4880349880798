//! `[outbound]`: outgoing events besides AMQP.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::outbound`].

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::secret::Secret;

section! {
    /// Outgoing events as signed webhooks.
    OUTBOUND = "outbound" {
        /// URL to which outgoing events go as signed webhooks, in addition to AMQP. Without AMQP they go to this URL alone.
        WEBHOOK_URL: String = "webhook_url", rules::called_url(), example r#""https://tickets.utility.example/podero""#;
        /// Key that signs the webhooks. Required with `outbound.webhook_url`.
        WEBHOOK_SECRET: Secret = "webhook_secret", rules::signing_key(),
            example r#""whsec_ZXhhbXBsZS1zaWduaW5nLWtleS1mb3ItZG9jcw==""#;
        /// Forward proxy for the webhooks. The variables `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` are ignored.
        PROXY: Secret = "proxy", rules::proxy_url(), example r#""http://proxy.utility.example:3128""#;
    }
}

/// Section `[outbound]`.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Receiver of outgoing events as signed webhooks.
    pub webhook: Option<Webhook>,
}

/// A receiver of signed webhooks.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Absolute `http:` or `https:` URL.
    pub url: String,
    /// `whsec_…` text that `standardwebhooks::Webhook::new` accepts.
    pub secret: Secret,
    /// URL of a forward proxy.
    pub proxy: Option<Secret>,
}

pub(in crate::config) fn read(r: &mut Reader) -> Outbound {
    let url = r.optional(&WEBHOOK_URL);
    let is_addressed = r.is_given(&WEBHOOK_URL);
    let secret = r.required_secret(&WEBHOOK_SECRET, is_addressed.then_some("with outbound.webhook_url"));
    let proxy = r.secret(&PROXY);
    let (is_signed, is_forwarded) = (r.is_given(&WEBHOOK_SECRET), r.is_given(&PROXY));
    if (is_signed || is_forwarded) && !is_addressed {
        let with = if is_signed { WEBHOOK_SECRET } else { PROXY };
        r.refuse(&WEBHOOK_URL, "nothing", format!("required with {}", with.place));
    }
    Outbound { webhook: url.zip(secret).map(|(url, secret)| Webhook { url, secret, proxy }) }
}
