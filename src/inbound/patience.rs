//! How long a connection of the public door may owe a request: also its second one, and all that follow.
//!
//! The server times the first request's headers and connections that are idle, but not one that has begun its next
//! request and does not go on. So each connection is known here by a second handle of its socket, and cut off when it
//! has brought no whole request for too long. It reads and writes nothing, and never cuts one whose request is being
//! worked on.
//!
//! Before: [`crate::app`] hands in each new connection. After: [`crate::inbound::http`] says when a request begins.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A connection of the door; lives as long as the server holds it, and its socket with it.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    is_busy: AtomicBool,
    quiet_looks: AtomicU32,
}

impl Connection {
    /// A whole request head has come.
    pub fn begins(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.quiet_looks.store(0, Ordering::Relaxed);
    }

    /// The request has its answer.
    pub fn ends(&self) {
        self.is_busy.store(false, Ordering::Relaxed);
    }
}

/// All connections of the door. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Patience(Arc<Mutex<Vec<Weak<Connection>>>>);

impl Patience {
    /// Knows a connection from now on, by another handle of its socket.
    pub fn watch(&self, socket: TcpStream) -> Arc<Connection> {
        let connection =
            Arc::new(Connection { socket, is_busy: AtomicBool::new(false), quiet_looks: AtomicU32::new(0) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        connection
    }

    /// Looks at each connection once; one that has brought no request for `looks_max` looks is cut off. How many were.
    pub fn look(&self, looks_max: u32) -> usize {
        let mut cut = 0;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            if connection.is_busy.load(Ordering::Relaxed) {
                return true;
            }
            let is_over = connection.quiet_looks.fetch_add(1, Ordering::Relaxed) >= looks_max;
            if is_over {
                // One that is gone already is as good.
                let _ = connection.socket.shutdown(Shutdown::Both);
                cut += 1;
            }
            !is_over
        });
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn only_a_connection_that_owes_a_request_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let patience = Patience::default();
        let open = || {
            let client = TcpStream::connect(address).expect("connected");
            (client, patience.watch(listener.accept().expect("accepted").0))
        };
        let ((mut quiet, _quiet), (_, busy), (_, active)) = (open(), open(), open());
        busy.begins();
        for _ in 0..3 {
            assert_eq!(patience.look(3), 0);
            active.begins();
            active.ends();
        }
        assert_eq!(patience.look(3), 1);
        assert_eq!(quiet.read(&mut [0]).expect("closed in order"), 0);
        drop((busy, active));
        assert_eq!(patience.look(0), 0, "what is gone is forgotten");
    }
}
