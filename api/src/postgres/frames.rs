//! Messages as they come: cut out of the bytes of a connection, of bounded size, and read without trust.
//!
//! Memory grows with the bytes that came, never with a length that a client only says.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the packet that begins a connection; PostgreSQL's own limit.
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;
/// Bytes that are read ahead of being asked for, to notice a client that goes away.
const AHEAD_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 8 << 10;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The client went away, or its connection failed.
    #[error("the client went away")]
    Gone,
    /// The bytes are no message, or one that is too large.
    #[error("{0}")]
    Wrong(String),
}

impl From<io::Error> for FrameError {
    fn from(_: io::Error) -> Self {
        FrameError::Gone
    }
}

/// A message: its type and what is in it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// Where messages are read from. Reading may be given up and begun again: nothing is lost by it.
pub(super) struct Frames<R> {
    read: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// `begin`: what was read already.
    pub(super) fn new(read: R, begin: &[u8]) -> Frames<R> {
        Frames { read, buffer: BytesMut::from(begin) }
    }

    /// The packet that begins a connection, which has no type; without its length.
    pub(super) async fn startup(&mut self) -> Result<Bytes, FrameError> {
        self.fill(4).await?;
        let length = length(&self.buffer[..4]);
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            let why = format!("a connection begins with a packet of 8 to {STARTUP_BYTES_MAX} bytes, not of {length}");
            return Err(FrameError::Wrong(why));
        }
        self.fill(length).await?;
        self.buffer.advance(4);
        Ok(self.buffer.split_to(length - 4).freeze())
    }

    /// Done when something of the next message is there.
    pub(super) async fn begun(&mut self) -> Result<(), FrameError> {
        self.fill(1).await
    }

    /// The next message, of at most so many bytes.
    pub(super) async fn message(&mut self, bytes_max: usize) -> Result<Frame, FrameError> {
        self.fill(5).await?;
        let (kind, length) = (self.buffer[0], length(&self.buffer[1..5]));
        if length < 4 {
            return Err(FrameError::Wrong(format!("a message says that it has {length} bytes, its length included")));
        }
        if length > bytes_max {
            return Err(FrameError::Wrong(format!("a message has {length} bytes; at most {bytes_max} are taken here")));
        }
        self.fill(1 + length).await?;
        self.buffer.advance(5);
        Ok(Frame { kind, body: self.buffer.split_to(length - 4).freeze() })
    }

    /// Done when the client goes away. What it sends meanwhile is kept; when that is much, nobody looks any more.
    pub(super) async fn gone(&mut self) {
        while self.buffer.len() < AHEAD_BYTES_MAX {
            if self.more().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), FrameError> {
        while self.buffer.len() < bytes {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), FrameError> {
        self.buffer.reserve(READ_BYTES);
        match self.read.read_buf(&mut self.buffer).await? {
            0 => Err(FrameError::Gone),
            _ => Ok(()),
        }
    }
}

fn length(bytes: &[u8]) -> usize {
    let mut four = [0; 4];
    four.copy_from_slice(bytes);
    // One that is negative is too large.
    u32::from_be_bytes(four) as usize
}

/// What is left of a message. Everything that it cannot be is told, nothing panics.
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn new(body: Bytes) -> Fields {
        Fields(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<Bytes, FrameError> {
        match count <= self.0.len() {
            true => Ok(self.0.split_to(count)),
            false => Err(short()),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, FrameError> {
        Ok(self.bytes(2)?.get_i16())
    }

    pub(super) fn i32(&mut self) -> Result<i32, FrameError> {
        Ok(self.bytes(4)?.get_i32())
    }

    /// A count, of things of which each has at least so many bytes here.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, FrameError> {
        let count = usize::from(self.i16()?.cast_unsigned());
        if count * bytes_each > self.0.len() {
            return Err(short());
        }
        Ok(count)
    }

    /// A text up to the zero that ends it.
    pub(super) fn text(&mut self) -> Result<String, FrameError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(short)?;
        let text = self.bytes(end)?;
        self.0.advance(1);
        String::from_utf8(text.into()).map_err(|_| FrameError::Wrong("a text is not UTF-8".to_owned()))
    }
}

fn short() -> FrameError {
    FrameError::Wrong("a message ends before its last field".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn messages_are_cut_wherever_the_bytes_are() {
        block(async {
            let bytes: Vec<u8> = [b"Q\0\0\0\x06a\0".as_slice(), b"S\0\0\0\x04"].concat();
            let (mut client, server) = tokio::io::duplex(3);
            tokio::spawn(async move {
                for byte in bytes {
                    tokio::io::AsyncWriteExt::write_all(&mut client, &[byte]).await.expect("write");
                }
            });
            let mut frames = Frames::new(server, &[]);
            let first = frames.message(100).await.expect("a message");
            assert_eq!((first.kind, &*first.body), (b'Q', b"a\0".as_slice()));
            let second = frames.message(100).await.expect("a message");
            assert_eq!((second.kind, second.body.len()), (b'S', 0));
            assert!(matches!(frames.message(100).await, Err(FrameError::Gone)));
        });
    }

    #[test]
    fn what_says_to_be_large_is_refused_before_it_comes() {
        let refused =
            |bytes: &'static [u8]| block(async { Frames::new(bytes, &[]).message(100).await.expect_err("wrong") });
        for wrong in [b"Q\0\0\0\x03".as_slice(), b"Q\x7f\xff\xff\xff", b"Q\xff\xff\xff\xff", b"Q\0\0\0\x65"] {
            assert!(matches!(refused(wrong), FrameError::Wrong(_)), "{wrong:?}");
        }
        let began = |bytes: &'static [u8]| block(async { Frames::new(bytes, &[]).startup().await.expect_err("wrong") });
        for wrong in [b"\0\0\0\x07".as_slice(), b"\xff\xff\xff\xff", b"\0\0\x27\x11"] {
            assert!(matches!(began(wrong), FrameError::Wrong(_)), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_of_any_bytes_never_panic(bytes: Vec<u8>, reads in prop::collection::vec(0..6usize, 0..20)) {
            let mut fields = Fields::new(Bytes::from(bytes));
            for read in reads {
                let _ = match read {
                    0 => fields.byte().map(drop),
                    1 => fields.i16().map(drop),
                    2 => fields.i32().map(drop),
                    3 => fields.text().map(drop),
                    4 => fields.count(4).map(drop),
                    _ => fields.bytes(usize::MAX).map(drop),
                };
            }
        }
    }
}
