//! A connection: its two directions, and its life from the first packet to the last.

use super::errors::Told;
use super::frames::Frames;
use super::session::Session;
use super::startup::{self, GSS, QUESTIONS_MAX, Refused, TLS};
use super::{Shared, TIME_TO_BEGIN};
use crate::rest::stream::STALLED_MAX;
use crate::tls::{Connection, Speaks, Tls, encrypt};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// Bytes that wait to be sent at most, but for the rest of a row.
const OUT_BYTES: usize = 64 << 10;

/// Bytes of the packet that asks for encryption.
const ASKING_BYTES: usize = 8;
/// That packet, with what it asks for: TLS, or what Kerberos has.
const ASKS_TLS: [u8; ASKING_BYTES] = asking(TLS);
const ASKS_GSS: [u8; ASKING_BYTES] = asking(GSS);

const fn asking(code: i32) -> [u8; ASKING_BYTES] {
    let code = code.to_be_bytes();
    [0, 0, 0, ASKING_BYTES as u8, code[0], code[1], code[2], code[3]]
}

/// Both directions of a connection.
pub(super) struct Pipe {
    pub(super) frames: Frames<ReadHalf<Connection>>,
    write: WriteHalf<Connection>,
    /// What waits to be sent.
    pub(super) out: BytesMut,
    /// Whether others on its way cannot read along.
    pub(super) is_encrypted: bool,
}

impl Pipe {
    /// `begin`: what was read of it already.
    fn new(connection: Connection, begin: &[u8]) -> Pipe {
        let is_encrypted = connection.is_encrypted();
        let (read, write) = tokio::io::split(connection);
        Pipe { frames: Frames::new(read, begin), write, out: BytesMut::new(), is_encrypted }
    }

    /// Encrypts a connection whose client asks for it, where there is TLS. No byte is read beyond the question: what somebody sent
    /// along with it would be taken for something that came encrypted.
    async fn open(mut stream: TcpStream, tls: Option<&Arc<Tls>>) -> io::Result<Pipe> {
        let Some(tls) = tls else { return Ok(Pipe::new(Connection::Plain(stream), &[])) };
        for _ in 0..QUESTIONS_MAX {
            let mut begin = [0; ASKING_BYTES];
            stream.read_exact(&mut begin).await?;
            match begin {
                ASKS_TLS => {
                    stream.write_all(b"S").await?;
                    return Ok(Pipe::new(encrypt(stream, tls, Speaks::Postgres).await?, &[]));
                }
                ASKS_GSS => stream.write_all(b"N").await?,
                begin => return Ok(Pipe::new(Connection::Plain(stream), &begin)),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
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
        // What was taken may wait to be sent where it is encrypted.
        match tokio::time::timeout(STALLED_MAX, self.write.flush()).await {
            Ok(flushed) => flushed?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
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
    let opened = tokio::select! {
        opened = tokio::time::timeout(TIME_TO_BEGIN, Pipe::open(stream, shared.state.tls())) => opened,
        () = shared.stopping.cancelled() => return,
    };
    // Who asks for encryption and does not go on with it has nobody to be told.
    let Ok(Ok(mut pipe)) = opened else { return };
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
    let opened = tokio::time::timeout(TIME_TO_BEGIN, Pipe::open(stream, shared.state.tls())).await;
    let Ok(Ok(mut pipe)) = opened else { return };
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

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
            let mut pipe = Pipe::new(Connection::Plain(listener.accept().await.expect("a client").0), &[]);
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
            let mut pipe = Pipe::new(Connection::Plain(listener.accept().await.expect("a client").0), &[]);
            drop(client);
            // The system takes something before it notices.
            pipe.out.extend_from_slice(&vec![0; 32 << 20]);
            pipe.flush().await.expect_err("nobody is there");
            assert!(pipe.out.is_empty());
        });
    }
}
