//! Connections as they come. With TLS each is handed on once it is encrypted; those that take their time do not keep others waiting.

use super::{SHAKING_MAX, Speaks, Tls, plain};
use crate::server::keep_alive;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The type of the record that TLS begins with.
const HANDSHAKE: u8 = 22;
/// How long to wait when no connection can be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A port.
pub(crate) struct Listener {
    tcp: TcpListener,
    speaks: Speaks,
    tls: Option<Arc<Tls>>,
    /// Those that are not encrypted yet. Each has its time, and ends with this.
    shaking: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Listener {
    pub(crate) fn new(tcp: TcpListener, speaks: Speaks, tls: Option<Arc<Tls>>) -> Listener {
        Listener { tcp, speaks, tls, shaking: JoinSet::new() }
    }

    /// The next connection. May be given up and begun again.
    pub(crate) async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            let accepted = tokio::select! {
                Some(shaken) = self.shaking.join_next() => match shaken {
                    Ok(Some(connection)) => return connection,
                    _ => continue,
                },
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are small; waiting to fill a packet would only delay them. Without the option they are still right.
                    let _ = stream.set_nodelay(true);
                    keep_alive(&stream);
                    let Some(tls) = &self.tls else { return (Connection::Plain(stream), peer) };
                    let (tls, speaks) = (Arc::clone(tls), self.speaks);
                    self.shaking.spawn(async move { Some((begin(stream, &tls, speaks).await?, peer)) });
                }
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection was not taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

/// Whether the client alone is why there is no connection.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Begins TLS, or tells who speaks something else. `None` if nothing came of it, which is the client's to know.
async fn begin(stream: TcpStream, tls: &Tls, speaks: Speaks) -> Option<Connection> {
    let begun = async {
        let mut begin = [0; plain::PREFACE.len()];
        let count = stream.peek(&mut begin).await?;
        match begin[..count].first() {
            Some(&HANDSHAKE) => encrypt(stream, tls, speaks).await.map(Some),
            Some(_) => {
                plain::refuse(stream, &begin[..count]).await;
                Ok(None)
            }
            None => Ok(None),
        }
    };
    match tokio::time::timeout(SHAKING_MAX, begun).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection was not encrypted");
            None
        }
        Err(_) => {
            tracing::debug!("a connection took too long to be encrypted");
            None
        }
    }
}

/// The server's side of TLS.
///
/// # Errors
/// The client's mistakes, and the connection's.
pub(crate) async fn encrypt(stream: TcpStream, tls: &Tls, speaks: Speaks) -> io::Result<Connection> {
    match TlsAcceptor::from(tls.config(speaks)).accept(stream).into_fallible().await {
        Ok(stream) => Ok(Connection::Tls(Box::new(stream))),
        Err((error, stream)) => {
            // The client is told why, in TLS.
            plain::end(stream).await;
            Err(error)
        }
    }
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) enum Connection {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether others on its way cannot read along.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Connection::Tls(_))
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Connection::Plain(stream) => stream.connect_info(),
            Connection::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Connection::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Connection::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Plain(stream) => stream.is_write_vectored(),
            Connection::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_flush(context),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
