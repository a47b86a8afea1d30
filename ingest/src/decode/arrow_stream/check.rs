//! What a message says of its nodes and buffers, against the schema and the bytes that are there.

use super::{Fault, Limits};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{BodyCompressionMethod, CompressionType, FieldNode, RecordBatch};
use std::io::Read;

/// Before each compressed buffer: its length once decompressed, or −1 if it is not compressed.
const LENGTH_BYTES: usize = 8;

/// Refuses dictionaries of what is not plain.
pub(super) fn schema(schema: &Schema) -> Result<(), String> {
    for field in schema.fields() {
        check_type(field.data_type()).map_err(|what| format!("column `{}`: {what}", field.name()))?;
    }
    Ok(())
}

fn check_type(data_type: &DataType) -> Result<(), String> {
    use DataType as T;
    match data_type {
        T::Dictionary(_, values) if values.is_nested() || matches!(**values, T::Dictionary(..)) => {
            Err(format!("dictionaries of {values} are not read; write plain values"))
        }
        T::Dictionary(_, values) => check_type(values),
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::Map(item, _) => {
            check_type(item.data_type())
        }
        T::Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        _ => Ok(()),
    }
}

/// The type of the values of a dictionary.
pub(super) fn dictionary_value_type(schema: &Schema, id: i64) -> Result<&DataType, String> {
    #[expect(deprecated, reason = "the format names dictionaries by number, and its reader finds them so")]
    let fields = schema.fields_with_dict_id(id);
    match fields.first().map(|field| field.data_type()) {
        Some(DataType::Dictionary(_, values)) => Ok(values),
        _ => Err(format!("no column of the schema has the dictionary {id}")),
    }
}

/// That a batch of these columns can be read without trusting it further.
pub(super) fn batch<'s>(
    batch: &RecordBatch<'_>,
    columns: impl Iterator<Item = &'s DataType>,
    body: &Buffer,
    limits: &Limits,
) -> Result<(), Fault> {
    let rows = length(batch.length(), limits)?;
    let (Some(nodes), Some(buffers)) = (batch.nodes(), batch.buffers()) else {
        return Err(Fault::Wrong("it names no columns or no buffers".into()));
    };
    let mut walk = Walk {
        nodes: nodes.iter(),
        buffers: buffers.len(),
        variadic: batch.variadicBufferCounts().into_iter().flatten(),
        limits,
    };
    for column in columns {
        let found = walk.array(column)?;
        if found != rows {
            return Err(Fault::Wrong(format!("a column has {found} rows, the batch {rows}")));
        }
    }
    if walk.nodes.next().is_some() || walk.buffers != 0 || walk.variadic.next().is_some() {
        return Err(Fault::Wrong("it has more columns or buffers than its schema".into()));
    }
    if rows > limits.bare_rows_max && body.is_empty() {
        return Err(Fault::Wrong(format!("{rows} rows without a byte of content")));
    }
    let compression = batch.compression().map(|compression| (compression.codec(), compression.method()));
    let codec = match compression {
        None => None,
        Some((codec @ (CompressionType::LZ4_FRAME | CompressionType::ZSTD), BodyCompressionMethod::BUFFER)) => {
            Some(codec)
        }
        Some((codec, method)) => {
            return Err(Fault::Wrong(format!("it is compressed with {codec:?} by {method:?}; LZ4 and ZSTD are read")));
        }
    };
    let (mut named, mut decompressed) = (0, 0);
    for buffer in buffers {
        let bytes = inside(buffer.offset(), buffer.length(), body)?;
        // Any number of columns could be made of the same bytes, and each of them takes memory of its own.
        named += bytes.len();
        if named > body.len() {
            return Err(Fault::Wrong("its buffers overlap".into()));
        }
        if let Some(codec) = codec.filter(|_| !bytes.is_empty()) {
            decompressed += decompressed_length(bytes, codec, limits.decompressed_bytes_max - decompressed)?;
        }
    }
    Ok(())
}

/// A number of values.
fn length(found: i64, limits: &Limits) -> Result<usize, Fault> {
    match usize::try_from(found) {
        Ok(length) if length <= limits.values_max => Ok(length),
        Ok(length) => {
            let most = limits.values_max;
            Err(Fault::TooLarge(format!("a column has {length} values; at most {most} are read in one batch")))
        }
        Err(_) => Err(Fault::Wrong(format!("a column cannot have {found} values"))),
    }
}

/// Nodes and buffers in the order in which the schema takes them.
struct Walk<'a, N, V> {
    nodes: N,
    /// How many are left.
    buffers: usize,
    variadic: V,
    limits: &'a Limits,
}

impl<'n, N: Iterator<Item = &'n FieldNode>, V: Iterator<Item = i64>> Walk<'_, N, V> {
    /// The length of the next array.
    fn array(&mut self, data_type: &DataType) -> Result<usize, Fault> {
        use DataType as T;
        let node = self.nodes.next().ok_or_else(|| "it has fewer columns than its schema".to_owned())?;
        let length = length(node.length(), self.limits)?;
        if usize::try_from(node.null_count()).map_or(true, |nulls| nulls > length) {
            return Err(Fault::Wrong(format!("{} of {length} values cannot be NULL", node.null_count())));
        }
        match data_type {
            T::Null => {}
            T::Utf8 | T::Binary | T::LargeUtf8 | T::LargeBinary => self.take(3)?,
            T::Utf8View | T::BinaryView => {
                let more =
                    self.variadic.next().ok_or_else(|| "a column of views without its count of buffers".to_owned())?;
                let more = usize::try_from(more).map_err(|_| format!("a column cannot have {more} buffers"))?;
                self.take(more.saturating_add(2))?;
            }
            T::List(item) | T::LargeList(item) | T::Map(item, _) => {
                self.take(2)?;
                self.array(item.data_type())?;
            }
            T::FixedSizeList(item, size) => {
                self.take(1)?;
                let (found, size) = (self.array(item.data_type())?, usize::try_from(*size).unwrap_or(0));
                if length.checked_mul(size) != Some(found) {
                    return Err(Fault::Wrong(format!("{length} lists of {size} cannot have {found} values")));
                }
            }
            T::Struct(fields) => {
                self.take(1)?;
                for field in fields {
                    self.array(field.data_type())?;
                }
            }
            // The schema was refused with any other.
            _ => self.take(2)?,
        }
        Ok(length)
    }

    fn take(&mut self, count: usize) -> Result<(), String> {
        let left = self.buffers.checked_sub(count);
        self.buffers = left.ok_or_else(|| "it has fewer buffers than its schema takes".to_owned())?;
        Ok(())
    }
}

/// The bytes of a buffer.
fn inside(offset: i64, length: i64, body: &[u8]) -> Result<&[u8], Fault> {
    let range = || {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(usize::try_from(length).ok()?)?;
        body.get(offset..end)
    };
    range().ok_or_else(|| {
        Fault::Wrong(format!("a buffer of {length} bytes at {offset} does not lie in its body of {} bytes", body.len()))
    })
}

/// What a compressed buffer takes once it is not; at most `most`.
fn decompressed_length(bytes: &[u8], codec: CompressionType, most: usize) -> Result<usize, Fault> {
    let Some((prefix, content)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Fault::Wrong(format!("a compressed buffer of {} bytes", bytes.len())));
    };
    let announced = i64::from_le_bytes(*prefix);
    if announced == -1 {
        return Ok(0);
    }
    let announced = usize::try_from(announced).map_err(|_| format!("a buffer cannot have {announced} bytes"))?;
    if announced > most {
        let what = "its buffers are too large once they are decompressed; send record batches of fewer rows";
        return Err(Fault::TooLarge(what.to_owned()));
    }
    // Zstandard is given a buffer of that length. LZ4 is read to its end, whatever was announced.
    if codec == CompressionType::LZ4_FRAME && announced > 0 {
        let mut frames = lz4_flex::frame::FrameDecoder::new(content).take(announced as u64 + 1);
        let found = std::io::copy(&mut frames, &mut std::io::sink()).map_err(|error| format!("LZ4: {error}"))?;
        if found != announced as u64 {
            return Err(Fault::Wrong(format!("a buffer of {found} bytes or more says that it has {announced}")));
        }
    }
    Ok(announced)
}
