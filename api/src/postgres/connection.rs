//! A connection: its two directions, and its life from the first packet to the last.

use super::errors::Told;
use super::frames::Frames;
use super::session::Session;
use super::startup::{self, Refused};
use super::{Shared, TIME_TO_BEGIN};
use crate::rest::stream::STALLED_MAX;
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes that wait to be sent at most, but for the rest of a row.
const OUT_BYTES: usize = 64 << 10;

/// Both directions of a connection.
pub(super) struct Pipe {
    pub(super) frames: Frames<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// What waits to be sent.
    pub(super) out: BytesMut,
}

impl Pipe {
    fn new(stream: TcpStream) -> Pipe {
        let (read, write) = stream.into_split();
        Pipe { frames: Frames::new(read), write, out: BytesMut::new() }
    }

    /// Whether enough waits to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= OUT_BYTES
    }

    /// Sends what waits. What was sent is gone from `out` at once: this may be given up and begun again, and nothing is sent twice.
    ///
    /// # Errors
    /// The connection's, or that the client reads nothing. Then nothing waits any more: what was sent may end anywhere.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let is_long = self.out.capacity() > 4 * OUT_BYTES;
        while !self.out.is_empty() {
            // Each time anew, so that a long row may take its time with a client that reads.
            let sent = match tokio::time::timeout(STALLED_MAX, self.write.write_buf(&mut self.out)).await {
                Ok(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => sent,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            if let Err(error) = sent {
                self.out = BytesMut::new();
                return Err(error);
            }
        }
        // A long row is not remembered.
        if is_long {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Tells why the connection ends, and ends it.
    pub(super) async fn end(mut self, told: Option<Told>) {
        if let Some(told) = told {
            told.put(&mut self.out, true);
        }
        // A client that does not read it has no use for it.
        let _ = tokio::time::timeout(TIME_TO_BEGIN, async {
            self.flush().await?;
            self.write.shutdown().await
        })
        .await;
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Answers are small; without the option they are still right.
    let _ = stream.set_nodelay(true);
    let mut pipe = Pipe::new(stream);
    let begun = startup::begin(&mut pipe, &shared.state, &shared.keys, peer);
    let begun = tokio::select! {
        begun = tokio::time::timeout(TIME_TO_BEGIN, begun) => begun,
        () = shared.stopping.cancelled() => return pipe.end(Some(stopping())).await,
    };
    let begun = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(Refused::Told(told))) => return pipe.end(Some(told)).await,
        Ok(Err(Refused::Quiet)) => return,
        Err(_) => {
            let message = format!("a connection has to begin within {} s", TIME_TO_BEGIN.as_secs());
            return pipe.end(Some(Told::new("08006", message))).await;
        }
    };
    Session::new(pipe, begun, shared).run().await;
}

/// Says that there are too many connections. Those that run can be cancelled all the same.
pub(super) async fn refuse(stream: TcpStream, shared: Arc<Shared>, connections_max: usize) {
    let mut pipe = Pipe::new(stream);
    // What is not read would tear the connection down before anything is told.
    let asked = tokio::time::timeout(TIME_TO_BEGIN, startup::packet(&mut pipe, &shared.keys)).await;
    match asked {
        Ok(Ok(_)) => {}
        Ok(Err(Refused::Told(told))) => return pipe.end(Some(told)).await,
        Ok(Err(Refused::Quiet)) | Err(_) => return,
    }
    let told = Told::new("53300", format!("{connections_max} connections are open, which is as many as there may be"));
    pipe.end(Some(told.hint("close some, or set `postgres_connections_max` higher"))).await;
}

/// What is told when the server ends.
pub(super) fn stopping() -> Told {
    Told::new("57P01", "the server is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
            let mut pipe = Pipe::new(listener.accept().await.expect("a client").0);
            // More than the system keeps for a client that does not read.
            let sent: Vec<u8> = (0..32u32 << 20).map(|byte| (byte % 251) as u8).collect();
            pipe.out.extend_from_slice(&sent);
            let given_up = tokio::time::timeout(std::time::Duration::from_millis(200), pipe.flush()).await;
            assert!(given_up.is_err(), "nobody reads");
            assert!(pipe.out.len() < sent.len(), "some of it went");
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                client.read_to_end(&mut read).await.expect("read");
                read
            });
            pipe.end(None).await;
            assert!(reading.await.expect("no panic") == sent, "once, and in order");
        });
    }

    #[test]
    fn what_cannot_be_sent_is_let_go_of() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
            let mut pipe = Pipe::new(listener.accept().await.expect("a client").0);
            drop(client);
            // The system takes something before it notices.
            pipe.out.extend_from_slice(&vec![0; 32 << 20]);
            pipe.flush().await.expect_err("nobody is there");
            assert!(pipe.out.is_empty());
        });
    }
}
