//! One connection to one broker: made within a bound, closed within a bound, and cut for sure when dropped.
//!
//! lapin gives no handle on a connection that is still shaking hands, and no way to end a connection that the broker has
//! blocked; either would leave a thread and a socket behind for each attempt. So this file keeps a duplicate of the socket, and
//! shutting it down ends lapin's side too.
//!
//! It must never show a URL with its credentials: [`shown`] is the only text form of one.
//!
//! Before: nothing of ours. After: [`crate::broker`].

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use lapin::protocol::AMQPErrorKind;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::time::timeout;

use super::error::BrokerError;
use crate::tls;

/// Timeout from the first packet to an open connection. A healthy broker needs milliseconds; name look-up, TLS and a proxy may
/// each add a second or two.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Timeout of the orderly close; after it the socket is cut, which costs nothing but a line in the broker's log.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Interval of heartbeats; a dead peer is noticed after two of them. Short enough that an operator sees a cut network within a
/// minute, long enough not to break on a broker that pauses for some seconds; RabbitMQ advises 5 to 20 s.
const HEARTBEAT_SECS: u16 = 20;
/// Limit of a frame. lapin keeps two buffers of 32 frames for each connection: 2 MiB with this limit, 8 MiB with RabbitMQ's own
/// of 128 KiB. Larger bodies travel in several frames.
const FRAME_BYTES_MAX: u32 = 32 * 1024;

/// Advice on a frame that cannot be read. The library reads each frame as a whole, and gives up the connection over an
/// unreadable one. A sender's message that breaks it comes again with the next connection.
const UNPARSABLE: &str = "; if it comes again at once, a message at the head of the queue has a routing key, a property or \
    the name of a header that is not UTF-8: take it out of the queue (docs/INSTALL.md, RabbitMQ)";

/// The text form of a broker's URL: `host:port/vhost`, without its credentials and parameters.
pub fn shown(url: &str) -> String {
    parse(url).map_or_else(|error| error.why, |uri| address(&uri))
}

fn address(uri: &AMQPUri) -> String {
    format!("{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost.trim_start_matches('/'))
}

/// Reads a URL. An unusable one is answered in general words: the parser's own would repeat it, password included.
fn parse(url: &str) -> Result<AMQPUri, BrokerError> {
    let wrong = |why: &str| BrokerError::new(format!("amqp.url: {why}"));
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority_ends = after_scheme.find(['/', '?', '#']).unwrap_or(after_scheme.len());
    if after_scheme[authority_ends..].contains('@') {
        // `amqp://user:pa/ss@host` would be read as host `user`, port `pa`: the password would show.
        return Err(wrong("write `/`, `?`, `#` and `@` of user, password and vhost as %2F, %3F, %23 and %40"));
    }
    let mut uri: AMQPUri = url.parse().map_err(|_| wrong("not a valid amqp:// or amqps:// URL"))?;
    if uri.vhost.is_empty() {
        // `amqp://host/` names, to the letter, a vhost without a name. No such vhost is in use; writers of the URL mean the
        // default.
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
    Ok(uri)
}

/// An open connection. Dropping it cuts the socket.
pub(super) struct Link {
    connection: Connection,
    address: String,
    _cutter: Cutter,
}

/// Opens a connection that the broker lists under `name`. Dropping the future leaves nothing behind.
pub(super) async fn connect(url: &str, name: &str) -> Result<Link, BrokerError> {
    let uri = parse(url)?;
    let (address, scheme) = (address(&uri), uri.scheme.clone());
    let failed = |why: String| BrokerError::new(format!("{address}: {why}"));
    let cutter = Cutter::default();
    let socket = Arc::clone(&cutter.0);
    let runtime = lapin::runtime::default_runtime().map_err(|error| failed(error.to_string()))?;
    let reactor = runtime.clone();
    // Runs on lapin's own thread, which cannot be stopped from here: hence the bound inside, too.
    let open = async move |uri: AMQPUri, _| {
        let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
        let bounded = timeout(CONNECT_WITHIN, async {
            let stream = plain.connect_with_config_async(TLSConfig::default(), &reactor).await?;
            if let AsyncTcpStream::Plain(tcp) = &stream {
                keep(&socket, tcp.get_ref().as_fd().try_clone_to_owned()?.into())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, TLSConfig::default()).await,
            }
        });
        let stream = bounded.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(stream)
    };
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "podero-bridge".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    match timeout(CONNECT_WITHIN, Connection::connector(uri, runtime, open, properties)).await {
        Ok(Ok(connection)) => Ok(Link { connection, address, _cutter: cutter }),
        Ok(Err(error)) => Err(failed(misdirected(&scheme, &error).map_or_else(|| error.to_string(), str::to_owned))),
        Err(_) => Err(failed(format!("no connection within {} s", CONNECT_WITHIN.as_secs()))),
    }
}

/// An explanation if a URL's scheme and its port do not go together.
fn misdirected(scheme: &AMQPScheme, error: &lapin::Error) -> Option<&'static str> {
    match scheme {
        AMQPScheme::AMQPS => tls::is_plain_port(error).then_some(tls::PLAIN_PORT),
        AMQPScheme::AMQP => matches!(error.kind(), lapin::ErrorKind::ParsingError(_))
            .then_some("that port does not speak AMQP; if it speaks TLS, write amqps:// and the TLS port"),
    }
}

impl Link {
    /// `host:port/vhost`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// `true` while no loss is known.
    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.connection.create_channel().await.map_err(|error| self.lost(&error))
    }

    /// The broker's events about the connection as a whole, from now on.
    pub(super) fn events(&self) -> BoxStream<'static, Event> {
        self.connection.events_listener().boxed()
    }

    /// An error with the address before lapin's text, and advice on what lapin cannot read.
    pub(super) fn lost(&self, error: &lapin::Error) -> BrokerError {
        let advice = if matches!(error.kind(), ErrorKind::ParsingError(_)) { UNPARSABLE } else { "" };
        self.failed(format!("{error}{advice}"))
    }

    /// An error with the address.
    pub(super) fn failed(&self, why: impl fmt::Display) -> BrokerError {
        BrokerError::new(format!("{}: {why}", self.address))
    }

    /// Closes the connection in order, within a bound.
    pub(super) async fn close(self) {
        // The socket is cut next, however the close ends.
        let _ = timeout(CLOSE_WITHIN, self.connection.close(200, "OK".into())).await;
    }
}

/// `true` if an error ended a channel alone. lapin reports it among the events of the connection; the channel's user learns of
/// it there.
pub(super) fn is_of_a_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if matches!(refusal.kind(), AMQPErrorKind::Soft(_)))
}

/// Resolves with the reason when the connection is gone.
pub(super) async fn gone(events: &mut (impl Stream<Item = Event> + Unpin)) -> Option<lapin::Error> {
    while let Some(event) = events.next().await {
        if let Event::Error(error) = event
            && !is_of_a_channel(&error)
        {
            return Some(error);
        }
    }
    None
}

/// Shuts the socket down when dropped, or as soon as there is one.
#[derive(Default)]
struct Cutter(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    NotYet,
    Open(std::net::TcpStream),
    Cut,
}

fn keep(socket: &Mutex<Socket>, duplicate: std::net::TcpStream) -> io::Result<()> {
    let mut socket = socket.lock().expect("no code panics while it holds the socket");
    match *socket {
        Socket::NotYet | Socket::Open(_) => {
            *socket = Socket::Open(duplicate);
            Ok(())
        }
        Socket::Cut => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let mut socket = self.0.lock().expect("no code panics while it holds the socket");
        if let Socket::Open(tcp) = std::mem::replace(&mut *socket, Socket::Cut) {
            // It may be closed already, which is as good.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        let cases = [
            ("amqp://bridge:hunter2@rabbit:5673/prod?heartbeat=5", "rabbit:5673/prod"),
            ("amqps://bridge:hunter2@rabbit/%2fprod", "rabbit:5671/prod"),
            ("amqp://rabbit", "rabbit:5672/"),
            ("amqp://hunter2@rabbit/", "rabbit:5672/"),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_shown_at_all() {
        for url in [
            "bridge:hunter2@rabbit",
            "amqp:bridge:hunter2@rabbit",
            "http://bridge:hunter2@rabbit",
            "amqp://bridge:1hunter2/x@rabbit",
            "amqp://bridge:12/hunter2@rabbit/prod",
            "amqp://bridge:12?hunter2@rabbit/prod",
            "amqp://bridge:12#hunter2@rabbit/prod",
            "hunter2",
            "",
        ] {
            let text = shown(url);
            assert!(text.starts_with("amqp.url: "), "{url}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("bridge"), "{url}: {text}");
        }
    }

    #[test]
    fn heartbeat_and_frame_size_are_ours_unless_the_url_names_them() {
        let uri = parse("amqp://rabbit").expect("it is a URL");
        assert_eq!((uri.query.heartbeat, uri.query.frame_max), (Some(HEARTBEAT_SECS), Some(FRAME_BYTES_MAX)));
        let uri = parse("amqp://rabbit?heartbeat=7&frame_max=9000").expect("it is a URL");
        assert_eq!((uri.query.heartbeat, uri.query.frame_max), (Some(7), Some(9000)));
    }
}
