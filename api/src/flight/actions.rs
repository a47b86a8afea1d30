//! Actions: preparing and closing, cancelling, options of sessions; and the handshake.

use super::door::{Flight, Messages, envelope};
use super::sessions::{Cookie, malformed};
use super::status::{cut, invalid};
use super::{Caller, EXPORT};
use crate::access;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, HandshakeRequest,
    HandshakeResponse,
};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

/// The actions that are answered.
const ACTIONS: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "Prepares a statement, which may have parameters."),
    ("ClosePreparedStatement", "Lets go of a prepared statement."),
    ("CancelQuery", "Cancels a statement whose rows wait or are being fetched."),
    ("CancelFlightInfo", "Cancels a statement whose rows wait or are being fetched."),
    ("SetSessionOptions", "Sets `catalog`, `schema` or `timeout_ms` for the session of a cookie."),
    ("GetSessionOptions", "Tells the options of the session."),
    ("CloseSession", "Ends the session."),
];

/// `ActionCancelQueryResult.CancelResult`: what was asked for happened, or cannot.
const CANCELLED: i32 = 1;
const NOT_CANCELLABLE: i32 = 3;

/// What the actions are called.
pub(super) fn all() -> [ActionType; ACTIONS.len()] {
    ACTIONS.map(|(name, about)| ActionType { r#type: name.to_owned(), description: about.to_owned() })
}

/// Gives back what the caller is let in by, as the header that it shall send from now on.
pub(super) fn handshake(
    request: &Request<Streaming<HandshakeRequest>>,
) -> Result<Response<Messages<HandshakeResponse>>, Status> {
    let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    // What cannot be read was refused before, unless nobody needs one.
    let token = authorization.and_then(|text| access::token_of(text).ok()).unwrap_or_default();
    // Whoever is let in without a token needs something to send all the same.
    let token = if token.is_empty() { "anonymous".to_owned() } else { token };
    let header = format!("Bearer {token}");
    let value = MetadataValue::try_from(&header).map_err(|_| invalid("the password is not a line of text"))?;
    let answer = HandshakeResponse { payload: Bytes::from(header), ..HandshakeResponse::default() };
    let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
    response.metadata_mut().insert("authorization", value);
    Ok(response)
}

impl Flight {
    /// Does what an action says.
    pub(super) async fn act(
        &self,
        caller: &Caller,
        action: Action,
    ) -> Result<Response<Messages<arrow_flight::Result>>, Status> {
        let body = &*action.body;
        let (answer, cookie): (Option<Vec<u8>>, Option<Cookie>) = match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                caller.need(EXPORT)?;
                let request: ActionCreatePreparedStatementRequest = request(body)?;
                (Some(self.prepare(caller, request).await?.as_any().encode_to_vec()), None)
            }
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = request(body)?;
                self.close_prepared(caller, &request.prepared_statement_handle)?;
                (None, None)
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = request(body)?;
                let is_cancelled = self.cancel_info(caller, FlightInfo::decode(request.info).map_err(malformed)?)?;
                let result = if is_cancelled { CANCELLED } else { NOT_CANCELLABLE };
                (Some(ActionCancelQueryResult { result }.as_any().encode_to_vec()), None)
            }
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(body).map_err(malformed)?;
                let info = request.info.ok_or_else(|| invalid("there is no FlightInfo to cancel"))?;
                let is_cancelled = self.cancel_info(caller, info)?;
                let status = if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
                (Some(CancelFlightInfoResult::new(status).encode_to_vec()), None)
            }
            "SetSessionOptions" => {
                let (answer, cookie) = self.set_options(caller, body)?;
                (Some(answer), cookie)
            }
            "GetSessionOptions" => (Some(self.get_options(caller)), None),
            "CloseSession" => {
                let (answer, cookie) = self.close_session(caller)?;
                (Some(answer), cookie)
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                super::statements::no_transaction(Some(b"asked for"))?;
                (None, None)
            }
            "CreatePreparedSubstraitPlan" => {
                return Err(Status::unimplemented("plans of Substrait are not taken; send SQL"));
            }
            other => {
                let names = ACTIONS.map(|(name, _)| name).join(", ");
                let other = cut(other.to_owned());
                return Err(Status::unimplemented(format!("there is no action `{other}`; there are {names}")));
            }
        };
        let answers = answer.map(|body| Ok(arrow_flight::Result { body: body.into() }));
        let mut response = Response::new(stream::iter(answers).boxed());
        if let Some(cookie) = cookie {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    /// Cancels the statement whose tickets are in there.
    fn cancel_info(&self, caller: &Caller, info: FlightInfo) -> Result<bool, Status> {
        let tickets: Vec<_> = info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket).collect();
        if tickets.is_empty() {
            return Err(invalid("the FlightInfo has no ticket; send it as GetFlightInfo gave it"));
        }
        let mut is_cancelled = false;
        for ticket in tickets {
            is_cancelled |= self.cancel(caller, &ticket.ticket)?;
        }
        Ok(is_cancelled)
    }
}

/// The message in an action's envelope.
fn request<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let unpacked = envelope(body)?.unpack::<M>();
    let unpacked = unpacked.map_err(|error| invalid(format!("the action cannot be read: {error}")))?;
    unpacked.ok_or_else(|| invalid(format!("the action's body is not a `{}`", M::type_url())))
}
