//! Chunks to whole messages.

use super::{Fault, Limits, verified};
use arrow::buffer::MutableBuffer;

/// A whole message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) head: Vec<u8>,
    pub(super) body: MutableBuffer,
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub(super) struct Framer(State);

#[derive(Debug)]
enum State {
    /// The marker and the length of the head.
    Prefix {
        bytes: [u8; PREFIX_BYTES],
        have: usize,
    },
    Head {
        bytes: Vec<u8>,
        needed: usize,
    },
    Body {
        frame: Frame,
        needed: usize,
    },
    /// Behind the mark of the end.
    End,
}

const MARKER: [u8; 4] = [0xff; 4];
const PREFIX_BYTES: usize = 8;

impl Framer {
    pub(super) fn new() -> Framer {
        Framer(State::Prefix { bytes: [0; PREFIX_BYTES], have: 0 })
    }

    /// Whether the stream may end here.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.0, State::Prefix { have: 0, .. } | State::End)
    }

    /// Takes bytes off the chunk until a message is whole, or all.
    pub(super) fn feed(&mut self, chunk: &mut &[u8], limits: &Limits) -> Result<Option<Frame>, Fault> {
        loop {
            match &mut self.0 {
                State::Prefix { bytes, have } => {
                    let part = take(chunk, PREFIX_BYTES - *have);
                    bytes[*have..*have + part.len()].copy_from_slice(part);
                    *have += part.len();
                    if *have >= MARKER.len() && bytes[..4] != MARKER {
                        return Err(not_a_stream(bytes));
                    }
                    if *have < PREFIX_BYTES {
                        return Ok(None);
                    }
                    let length = i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
                    self.0 = match length {
                        0 => State::End,
                        length => State::Head { bytes: Vec::new(), needed: head_length(length, limits)? },
                    };
                }
                State::Head { bytes, needed } => {
                    bytes.extend_from_slice(take(chunk, *needed - bytes.len()));
                    if bytes.len() < *needed {
                        return Ok(None);
                    }
                    let head = std::mem::take(bytes);
                    let needed = body_length(&head, limits)?;
                    self.0 = State::Body { frame: Frame { head, body: MutableBuffer::new(0) }, needed };
                }
                State::Body { frame, needed } => {
                    frame.body.extend_from_slice(take(chunk, *needed - frame.body.len()));
                    if frame.body.len() < *needed {
                        return Ok(None);
                    }
                    return match std::mem::replace(self, Framer::new()).0 {
                        State::Body { frame, .. } => Ok(Some(frame)),
                        _ => Ok(None),
                    };
                }
                State::End if chunk.is_empty() => return Ok(None),
                State::End => return Err(Fault::Wrong("it stands behind the end of the stream".into())),
            }
        }
    }
}

fn take<'a>(chunk: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (part, rest) = chunk.split_at(most.min(chunk.len()));
    *chunk = rest;
    part
}

fn not_a_stream(bytes: &[u8; PREFIX_BYTES]) -> Fault {
    let what = match bytes {
        [b'A', b'R', b'R', b'O', ..] => "it is an Arrow file; send the streaming format",
        [b'{', ..] => "it is text; send it as application/x-ndjson, or write an Arrow stream",
        _ => "it does not begin with FF FF FF FF; send the streaming format of Arrow 0.15 or newer",
    };
    Fault::Wrong(what.to_owned())
}

fn head_length(length: i32, limits: &Limits) -> Result<usize, Fault> {
    match usize::try_from(length) {
        Ok(length) if length <= limits.head_bytes_max => Ok(length),
        Ok(length) => {
            let most = limits.head_bytes_max;
            Err(Fault::TooLarge(format!("its head has {length} bytes; at most {most} are read; send fewer columns")))
        }
        Err(_) => Err(Fault::Wrong(format!("its head cannot have {length} bytes"))),
    }
}

fn body_length(head: &[u8], limits: &Limits) -> Result<usize, Fault> {
    let length = verified(head)?.bodyLength();
    match usize::try_from(length) {
        Ok(length) if length <= limits.body_bytes_max => Ok(length),
        Ok(length) => {
            let most = limits.body_bytes_max;
            let what =
                format!("its body has {length} bytes; at most {most} are read; send record batches of fewer rows");
            Err(Fault::TooLarge(what))
        }
        Err(_) => Err(Fault::Wrong(format!("its body cannot have {length} bytes"))),
    }
}
