//! Recognises the usual mistake in a failed TLS connection. Connects to nothing.
//!
//! Before: nothing. After: [`crate::broker`], [`crate::podero`], [`crate::outbound`], which say it to the operator.

use std::error::Error;
use std::io;

use rustls::{Error as TlsError, InvalidMessage};

/// Explanation for the operator when [`is_plain_port`].
pub const PLAIN_PORT: &str =
    "that port does not speak TLS: name its TLS port, or begin the URL with amqp:// or http://";

/// `true` if the peer answered a TLS greeting with something that is no TLS at all: a port for plain connections.
pub fn is_plain_port(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) = error.downcast_ref() {
            return true;
        }
        // An I/O error names the source of its inner error as its own source, and passes over the inner error itself.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mistake_is_found_behind_other_errors() {
        let mistake = || TlsError::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(is_plain_port(&mistake()));
        assert!(is_plain_port(&io::Error::other(mistake())));
        assert!(is_plain_port(&io::Error::other(io::Error::other(mistake()))));
        assert!(!is_plain_port(&io::Error::other(TlsError::DecryptError)));
        assert!(!is_plain_port(&io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
}
