//! A connection: its two directions, and its life from the first packet to the last.

use super::errors::Told;
use super::frames::Frames;
use super::session::Session;
use super::startup::{self, Refused};
use super::{Shared, TIME_TO_BEGIN};
use crate::rest::v1::members::STALLED_MAX;
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

    /// Sends what waits. Once this was given up, what was sent may end anywhere: then the connection is good for nothing.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(STALLED_MAX, self.write.write_all(&self.out)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.out.clear();
        // A long row is not remembered.
        if self.out.capacity() > 4 * OUT_BYTES {
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
