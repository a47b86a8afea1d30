//! The REST door.
//!
//! * [`router`]: all routes and the layers around them.
//! * [`v1`]: the resources, one file each: what goes over the wire, how it is answered, the handler.
//! * [`authorize`]: who may call what. * [`asker`]: who asks, and their questions while they are answered.
//! * [`problem`], [`body`], [`negotiate`]: errors out, JSON in, formats out.
//! * [`unpack`], [`drain`]: packed bodies; the rest of a body that was refused. * [`stream`]: bodies that are written while they are read.
//! * [`limits`], [`cursors`]: what bounds the work of queries; snapshots held between pages.
//! * [`health`], [`metrics`], [`openapi`]: for operators and for programs that read the API's description.
//! * [`console`]: the pages for people.

pub mod asker;
pub mod authorize;
pub mod body;
pub mod console;
pub mod cursors;
pub mod drain;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod negotiate;
pub mod observe;
pub mod openapi;
pub mod problem;
pub mod router;
pub mod stream;
pub mod unpack;
pub mod v1;
