//! Text and columns to updates: the bodies of `POST /v1/tags`, `POST /v1/facts/{fact}` and `POST /v1/spaces/{space}`, and lists of user
//! ids.
//!
//! A body comes in chunks; [`lines::LineSplitter`] cuts it into lines and skips an over-long one without keeping it;
//! [`tags::TagDecoder`] turns a line into changes of one user and [`events::EventDecoder`] into one event, all of the
//! line or nothing; [`body::BodyReader`] puts both together, counts, and keeps the first errors by line number.
//!
//! * [`lines`]: chunks to lines.
//! * [`mapping`]: a record of any shape to such a line, as declared for a source.
//! * `json`: the pull reader over one line's bytes. It keeps numbers as written, so that no digit is lost.
//! * `arrow_stream`: Arrow's IPC streams, checked before Arrow reads them; `column_body`: a body of that, as [`body`] is of lines.
//! * `tag_columns`, `events::columns`: columns to tags and to events. `avro`: Avro to JSON.
//! * `json_rows`, `json_text`: columns and single values as JSON. `own_items`: slices of lists without the items of others.
//! * `guard`: readers of others, held so that a panic is an error.
//! * [`value`]: text to the 64 bits of a number tag or column, exactly; `number`: the same of what comes as a number.
//! * [`vectors`]: lines and columns to vectors. [`error`]: why a line is refused.

#[cfg(feature = "arrow")]
pub mod arrow_stream;
#[cfg(feature = "avro")]
pub mod avro;
pub mod body;
#[cfg(feature = "arrow")]
pub mod column_body;
pub mod error;
pub mod events;
pub mod lines;
pub mod mapping;
#[cfg(feature = "arrow")]
pub mod tag_columns;
pub mod tags;
pub mod user_list;
pub mod value;
pub mod vectors;

#[cfg(feature = "arrow")]
pub(crate) mod guard;
pub(crate) mod json;
#[cfg(feature = "arrow")]
pub(crate) mod json_rows;
#[cfg(any(feature = "arrow", feature = "avro"))]
pub(crate) mod json_text;
#[cfg(feature = "arrow")]
pub(crate) mod number;
#[cfg(feature = "arrow")]
pub(crate) mod own_items;

pub use body::{BodyReader, LineDecoder, LineReport};
pub use error::{LineError, LineErrorKind};
pub use events::EventDecoder;
#[cfg(feature = "arrow")]
pub use events::columns::ColumnDecoder;
pub use events::fields::{BindError, FieldNames};
pub use events::row::RowDecoder;
pub use lines::{LINE_BYTES_MAX, Line, LineSplitter};
pub use mapping::Mapping;
pub(crate) use mapping::push_json_string;
pub use tags::TagDecoder;
pub use user_list::{UserListDecoder, UserListFormat};
pub use vectors::{VectorDecoder, VectorFields};
