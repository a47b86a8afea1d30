//! A server that a command asks by REST.

use super::trust::{Trust, of_tls};
use super::{Asker, LOOK_INTERVAL, TrustArguments, URL_DEFAULT};
use crate::cli::Exit;
use crate::error::{Failure, Kind, Problem};
use crate::jobs::JobDefinition;
use crate::rest::asker::CLI_AGENT;
use crate::rest::negotiate::Format;
use crate::rest::v1::attribution::{AttributionAnswer, AttributionRequest};
use crate::rest::v1::catalog::{CatalogDocument, PutAnswer, PutParameters};
use crate::rest::v1::count::{CountAnswer, CountRequest};
use crate::rest::v1::effect::{EffectAnswer, EffectRequest};
use crate::rest::v1::erasures::{AdmissionAnswer, ErasureAnswer, ErasuresAnswer, UserIds};
use crate::rest::v1::experiment::{ExperimentAnswer, ExperimentRequest};
use crate::rest::v1::explain::{ExplainAnswer, ExplainRequest};
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::expression::Where;
use crate::rest::v1::funnel::{FunnelAnswer, FunnelRequest};
use crate::rest::v1::jobs::JobAnswer;
use crate::rest::v1::judge::{JudgeAnswer, JudgeRequest};
use crate::rest::v1::lookalike::{LookalikeAnswer, LookalikeRequest};
use crate::rest::v1::members::{MembersAnswer, MembersRequest};
use crate::rest::v1::movement::{MovementAnswer, MovementParameters};
use crate::rest::v1::overlap::{OverlapAnswer, OverlapRequest};
use crate::rest::v1::path::{PathAnswer, PathRequest};
use crate::rest::v1::profile::{ProfileAnswer, ProfileRequest};
use crate::rest::v1::purposes::{PurposeAnswer, PurposeRequest, PurposesAnswer};
use crate::rest::v1::retention::{RetentionAnswer, RetentionRequest};
use crate::rest::v1::sequence::{SequenceAnswer, SequenceRequest};
use crate::rest::v1::sinks::{SinkAnswer, SinksAnswer};
use crate::rest::v1::sources::{RewindAnswer, RewindRequest, SourceAnswer, SourcesAnswer};
use crate::rest::v1::sql::{SqlAnswer, SqlRequest};
use crate::rest::v1::tenants::{TenantAnswer, TenantRequest, TenantsAnswer};
use crate::rest::v1::tokens::{NewTokenAnswer, TokenAnswer, TokenRequest, TokensAnswer};
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A stream lasts as long as somebody watches.
const STREAM_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long an answer may take, beyond what the server itself allows a query.
const ANSWER_MAX: Duration = Duration::from_secs(900);

/// Holds the token of commands; a flag would be seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "BELUGA_TOKEN";

/// A server asked by REST.
pub(in crate::cli) struct Remote {
    url: String,
    client: reqwest::blocking::Client,
    headers: HeaderMap,
    trust: Trust,
}

impl Remote {
    pub(in crate::cli) fn new(url: &str, trust: &TrustArguments) -> Result<Remote, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let detail = format!("--url `{url}`: expected http://HOST:PORT or https://HOST:PORT");
            return Err(Failure::new(Kind::InvalidField, detail).suggest(format!("as in --url {URL_DEFAULT}")));
        }
        let trust = trust.read()?;
        let headers = with_token(std::env::var(TOKEN_VARIABLE).ok())?;
        let client = trust
            .blocking(reqwest::blocking::Client::builder())
            .timeout(ANSWER_MAX)
            // So the list of what runs tells them from programs.
            .user_agent(CLI_AGENT)
            .default_headers(headers.clone())
            .no_proxy()
            .build()
            .map_err(|error| Failure::new(Kind::Unreachable, error.to_string()))?;
        Ok(Remote { url, client, headers, trust })
    }

    fn post<Q: Serialize, A: DeserializeOwned>(&self, path: &str, request: &Q) -> Result<A, Failure> {
        read(self.send(self.client.post(format!("{}{path}", self.url)).json(request))?)
    }

    fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        read(self.send(self.client.get(format!("{}{path}", self.url)))?)
    }

    /// Posts a question and copies the answer in this format as it comes.
    fn copy<Q: Serialize>(
        &self,
        path: &str,
        request: &Q,
        format: ListFormat,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Exit> {
        let accept = format_of(format).media_type();
        let call = self.client.post(format!("{}{path}", self.url)).header(header::ACCEPT, accept);
        let mut response = self.send(call.json(request))?;
        response
            .copy_to(out)
            .map_err(|error| Failure::new(Kind::Unreachable, format!("the list broke off: {error}")))?;
        Ok(out.flush()?)
    }

    /// Posts a job.
    pub(in crate::cli) fn post_job(&self, definition: &JobDefinition) -> Result<JobAnswer, Failure> {
        self.post("/v1/jobs", definition)
    }

    /// How a job is.
    pub(in crate::cli) fn job(&self, id: &str) -> Result<JobAnswer, Failure> {
        self.get(&format!("/v1/jobs/{id}"))
    }

    /// All sources, by name.
    pub(in crate::cli) fn sources(&self) -> Result<Vec<SourceAnswer>, Failure> {
        let mut page: SourcesAnswer = self.get("/v1/sources")?;
        let mut sources = std::mem::take(&mut page.sources);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/sources?after={after}"))?;
            sources.append(&mut page.sources);
        }
        Ok(sources)
    }

    /// How a source is.
    pub(in crate::cli) fn source(&self, name: &str) -> Result<SourceAnswer, Failure> {
        self.get(&format!("/v1/sources/{name}"))
    }

    /// Tells a source what to do.
    pub(in crate::cli) fn command_source(&self, name: &str, command: &str) -> Result<SourceAnswer, Failure> {
        self.post(&format!("/v1/sources/{name}/{command}"), &())
    }

    /// All sinks, by name.
    pub(in crate::cli) fn sinks(&self) -> Result<Vec<SinkAnswer>, Failure> {
        let mut page: SinksAnswer = self.get("/v1/sinks")?;
        let mut sinks = std::mem::take(&mut page.sinks);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/sinks?after={after}"))?;
            sinks.append(&mut page.sinks);
        }
        Ok(sinks)
    }

    /// How a sink is.
    pub(in crate::cli) fn sink(&self, name: &str) -> Result<SinkAnswer, Failure> {
        self.get(&format!("/v1/sinks/{name}"))
    }

    /// Tells a sink what to do.
    pub(in crate::cli) fn command_sink(&self, name: &str, command: &str) -> Result<SinkAnswer, Failure> {
        self.post(&format!("/v1/sinks/{name}/{command}"), &())
    }

    /// Lets a source go on somewhere else.
    pub(in crate::cli) fn rewind_source(&self, name: &str, request: &RewindRequest) -> Result<RewindAnswer, Failure> {
        self.post(&format!("/v1/sources/{name}/rewind"), request)
    }

    /// The stream of changes of a live audience behind the one with this id.
    pub(in crate::cli) fn changes(
        &self,
        name: &str,
        last_id: Option<&str>,
    ) -> Result<reqwest::blocking::Response, Failure> {
        let request = self.client.get(self.url_of(&["v1", "audiences", name, "changes"])?).timeout(STREAM_MAX);
        self.send(match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
    }

    /// All tokens, by name.
    pub(super) fn tokens(&self) -> Result<Vec<TokenAnswer>, Failure> {
        let mut page: TokensAnswer = self.get("/v1/tokens")?;
        let mut tokens = std::mem::take(&mut page.tokens);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/tokens?after={after}"))?;
            tokens.append(&mut page.tokens);
        }
        Ok(tokens)
    }

    pub(super) fn create_token(&self, request: &TokenRequest) -> Result<NewTokenAnswer, Failure> {
        self.post("/v1/tokens", request)
    }

    pub(super) fn revoke_token(&self, name: &str) -> Result<(), Failure> {
        self.send(self.client.delete(self.url_of(&["v1", "tokens", name])?)).map(drop)
    }

    /// All purposes, by name.
    pub(crate) fn purposes(&self) -> Result<Vec<PurposeAnswer>, Failure> {
        let mut page: PurposesAnswer = self.get("/v1/purposes")?;
        let mut purposes = std::mem::take(&mut page.purposes);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/purposes?after={after}"))?;
            purposes.append(&mut page.purposes);
        }
        Ok(purposes)
    }

    pub(crate) fn put_purpose(&self, name: &str, request: &PurposeRequest) -> Result<PurposeAnswer, Failure> {
        let url = self.url_of(&["v1", "purposes", name])?;
        read(self.send(self.client.put(url).json(request))?)
    }

    pub(crate) fn delete_purpose(&self, name: &str) -> Result<(), Failure> {
        self.send(self.client.delete(self.url_of(&["v1", "purposes", name])?)).map(drop)
    }

    /// All tenants, by name.
    pub(crate) fn tenants(&self) -> Result<Vec<TenantAnswer>, Failure> {
        let mut page: TenantsAnswer = self.get("/v1/tenants")?;
        let mut tenants = std::mem::take(&mut page.tenants);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/tenants?after={after}"))?;
            tenants.append(&mut page.tenants);
        }
        Ok(tenants)
    }

    pub(crate) fn put_tenant(&self, name: &str, request: &TenantRequest) -> Result<TenantAnswer, Failure> {
        let url = self.url_of(&["v1", "tenants", name])?;
        read(self.send(self.client.put(url).json(request))?)
    }

    pub(crate) fn delete_tenant(&self, name: &str) -> Result<(), Failure> {
        self.send(self.client.delete(self.url_of(&["v1", "tenants", name])?)).map(drop)
    }

    /// All erasures, in their order.
    pub(super) fn erasures(&self) -> Result<Vec<ErasureAnswer>, Failure> {
        let mut page: ErasuresAnswer = self.get("/v1/erasures")?;
        let mut erasures = std::mem::take(&mut page.erasures);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/erasures?after={after}"))?;
            erasures.append(&mut page.erasures);
        }
        Ok(erasures)
    }

    pub(super) fn erase(&self, ids: &UserIds) -> Result<ErasureAnswer, Failure> {
        self.post_ids("/v1/erasures", ids)
    }

    pub(super) fn admit(&self, ids: &UserIds) -> Result<u64, Failure> {
        self.post_ids::<AdmissionAnswer>("/v1/admissions", ids).map(|answer| answer.admitted)
    }

    fn post_ids<A: DeserializeOwned>(&self, path: &str, ids: &UserIds) -> Result<A, Failure> {
        let line = |id: &[u8]| serde_json::Value::from(String::from_utf8_lossy(id)).to_string() + "\n";
        let body: String = ids.all().into_iter().map(line).collect();
        let call = self.client.post(format!("{}{path}", self.url)).header(header::CONTENT_TYPE, "application/x-ndjson");
        read(self.send(call.body(body))?)
    }

    /// The address of what these names lead to, whatever stands in them.
    fn url_of(&self, names: &[&str]) -> Result<reqwest::Url, Failure> {
        let wrong = |why: &dyn std::fmt::Display| Failure::new(Kind::InvalidField, format!("{}: {why}", self.url));
        let mut url = reqwest::Url::parse(&self.url).map_err(|error| wrong(&error))?;
        let mut path = url.path_segments_mut().map_err(|()| wrong(&"it can have no path"))?;
        path.pop_if_empty().extend(names);
        drop(path);
        Ok(url)
    }

    fn send(&self, request: reqwest::blocking::RequestBuilder) -> Result<reqwest::blocking::Response, Failure> {
        let response = request.send().map_err(|error| self.unreachable(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(self.refused(status, &response.text().unwrap_or_default())),
        }
    }

    /// Posts a question and copies the answer in this format as it comes. Once `stop` is set the connection is closed, which ends
    /// the question at the server.
    fn copy_until<Q: Serialize + Sync>(
        &self,
        path: &str,
        request: &Q,
        format: Format,
        out: &mut (dyn Write + Send),
        stop: &AtomicBool,
    ) -> Result<(), Exit> {
        let broken = |error: reqwest::Error| Failure::new(Kind::Unreachable, format!("the answer broke off: {error}"));
        let client = self.trust.waiting_for_none(reqwest::Client::builder());
        let client = client.default_headers(self.headers.clone()).user_agent(CLI_AGENT).no_proxy().build();
        let client = client.map_err(|error| self.unreachable(&error))?;
        let call = client.post(format!("{}{path}", self.url)).header(header::ACCEPT, format.media_type());
        let copied = async {
            let mut response = call.json(request).send().await.map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            if !status.is_success() {
                return Err(self.refused(status, &response.text().await.unwrap_or_default()).into());
            }
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                out.write_all(&chunk)?;
            }
            Ok(out.flush()?)
        };
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                copied = copied => copied,
                () = stopped => Err(Failure::new(Kind::Timeout, "the statement was cancelled").into()),
            }
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if let Some((why, advice)) = of_tls(error) {
            return Failure::new(Kind::Unreachable, format!("{}: {why}", self.url)).suggest(advice);
        }
        let why = if error.is_connect() { "no server answers there".to_owned() } else { error.to_string() };
        // A server looks at a client's certificate when the client is done with the handshake: its refusal may come as the end of the connection.
        if self.url.starts_with("https://") && !error.is_connect() && !error.is_timeout() {
            return Failure::new(Kind::Unreachable, format!("{}: {why}", self.url)).suggest(
                "if it asks for certificates of clients: --client-certificate FILE --client-key FILE, of its authority",
            );
        }
        Failure::new(Kind::Unreachable, format!("{}: {why}", self.url)).suggest(
            "start one with `beluga serve --data DIR`, name another with --url, or open the directory itself with --data",
        )
    }

    /// What an answer with an error says.
    fn refused(&self, status: reqwest::StatusCode, text: &str) -> Failure {
        match serde_json::from_str::<Problem>(text) {
            Ok(problem) => Failure::from_problem(problem),
            Err(_) => {
                Failure::new(Kind::Unreachable, format!("{} answered {status}: is it a Beluga server?", self.url))
            }
        }
    }
}

/// The headers of every call.
fn with_token(token: Option<String>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token.filter(|token| !token.trim().is_empty()) {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        // The value is not shown: it may be a token but for one character.
        let mut value =
            value.map_err(|_| Failure::new(Kind::InvalidField, format!("{TOKEN_VARIABLE} holds no token")))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

fn read<A: DeserializeOwned>(response: reqwest::blocking::Response) -> Result<A, Failure> {
    let bytes =
        response.bytes().map_err(|error| Failure::new(Kind::Unreachable, format!("read the answer: {error}")))?;
    understood(&bytes)
}

fn understood<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(Kind::Unreachable, format!("the answer is not understood: {error}")))
}

fn format_of(list: ListFormat) -> Format {
    match list {
        ListFormat::Ndjson => Format::Ndjson,
        ListFormat::Csv => Format::Csv,
        ListFormat::Arrow => Format::Arrow,
        ListFormat::Parquet => Format::Parquet,
    }
}

impl Asker for Remote {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure> {
        self.post("/v1/count", request)
    }

    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure> {
        self.post("/v1/profile", request)
    }

    fn lookalike(&self, request: &LookalikeRequest) -> Result<LookalikeAnswer, Failure> {
        self.post("/v1/lookalike", request)
    }

    fn funnel(&self, request: &FunnelRequest) -> Result<FunnelAnswer, Failure> {
        self.post("/v1/funnel", request)
    }

    fn retention(&self, request: &RetentionRequest) -> Result<RetentionAnswer, Failure> {
        self.post("/v1/retention", request)
    }

    fn sequence(&self, request: &SequenceRequest) -> Result<SequenceAnswer, Failure> {
        self.post("/v1/sequence", request)
    }

    fn path(&self, request: &PathRequest) -> Result<PathAnswer, Failure> {
        self.post("/v1/path", request)
    }

    fn experiment(&self, request: &ExperimentRequest) -> Result<ExperimentAnswer, Failure> {
        self.post("/v1/experiment", request)
    }

    fn effect(&self, request: &EffectRequest) -> Result<EffectAnswer, Failure> {
        self.post("/v1/effect", request)
    }

    fn attribution(&self, request: &AttributionRequest) -> Result<AttributionAnswer, Failure> {
        self.post("/v1/attribution", request)
    }

    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure> {
        self.post("/v1/overlap", request)
    }

    fn movement(&self, name: &str, parameters: &MovementParameters) -> Result<MovementAnswer, Failure> {
        let url = self.url_of(&["v1", "audiences", name, "movement"])?;
        read(self.send(self.client.get(url).query(parameters))?)
    }

    fn judge(&self, user_id: &str, request: &JudgeRequest) -> Result<JudgeAnswer, Failure> {
        read(self.send(self.client.post(self.url_of(&["v1", "users", user_id, "explain"])?).json(request))?)
    }

    fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, Failure> {
        self.post("/v1/explain", request)
    }

    fn members(&self, expression: &Where, limit: usize) -> Result<MembersAnswer, Failure> {
        let r#where = Some(expression.clone());
        self.post("/v1/members", &MembersRequest { r#where, limit: Some(limit), ..MembersRequest::default() })
    }

    fn all_members(&self, expression: &Where, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit> {
        let request = MembersRequest { r#where: Some(expression.clone()), ..MembersRequest::default() };
        self.copy("/v1/members", &request, format, out)
    }

    fn sql(&self, request: &SqlRequest, stop: &Arc<AtomicBool>) -> Result<SqlAnswer, Failure> {
        let mut bytes = Vec::new();
        match self.copy_until("/v1/sql", request, Format::Json, &mut bytes, stop) {
            Ok(()) => understood(&bytes),
            Err(Exit::Failed { failure, .. }) => Err(failure),
            Err(other) => Err(Failure::internal(format!("{other:?}"))),
        }
    }

    fn sql_rows(
        &self,
        request: &SqlRequest,
        format: ListFormat,
        out: &mut (dyn Write + Send),
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Exit> {
        self.copy_until("/v1/sql", request, format_of(format), out, stop)
    }

    fn put_catalog(&self, document: &CatalogDocument, parameters: PutParameters) -> Result<PutAnswer, Failure> {
        let PutParameters { dry_run, allow_drop } = parameters;
        let path = format!("{}/v1/catalog?dry_run={dry_run}&allow_drop={allow_drop}", self.url);
        read(self.send(self.client.put(path).json(document))?)
    }
}
