//! One HTTP API that is only read: bounded in time and size, with its login, and errors by remedy.

use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::observe::ReadError;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Establishing a connection takes milliseconds; a server that is not there should be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One request with its whole answer: below the 15 s after which the gate gives a tool up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// Bytes of an answer that is held whole: a thousand alert rules are about 2 MB.
const BODY_MAX_BYTES: u64 = 8 << 20;
/// Bytes of an answer that is read as it comes in, and of which only a summary is kept: 10,000 series of 120 points.
const STREAM_MAX_BYTES: u64 = 128 << 20;
/// Bytes of an error's text, or of what a change answers.
const WORDS_MAX_BYTES: usize = 4 << 10;
/// Chunks on the way from the network to the parser; each is some 16 KB.
const CHUNKS_MAX: usize = 16;

/// How one logs in.
#[derive(Clone, Debug, Default)]
pub enum Login {
    #[default]
    None,
    Bearer(SecretString),
    Basic {
        user: String,
        password: SecretString,
    },
    /// A header's whole value, as PagerDuty wants it: `Token token=...`.
    Token(SecretString),
}

/// Where an API is, and how one gets in.
#[derive(Clone, Debug, Default)]
pub struct WebOptions {
    /// Without a trailing slash.
    pub url: String,
    pub login: Login,
    /// Further headers, such as `X-Scope-OrgID`.
    pub headers: Vec<(&'static str, String)>,
    /// Authorities to trust beside the system's, as PEM.
    pub ca_file: Option<PathBuf>,
}

impl WebOptions {
    /// A client for it, which trusts whom it is to trust and follows no redirect: that would carry the login elsewhere.
    ///
    /// # Errors
    /// When the authorities cannot be read.
    pub(crate) fn client(&self) -> anyhow::Result<ClientBuilder> {
        let mut builder =
            Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).map_err(|e| anyhow::anyhow!("ca_file: {}: {e}", file.display()))?;
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(builder)
    }

    /// The request with headers and login.
    pub(crate) fn with_login(&self, mut request: RequestBuilder) -> RequestBuilder {
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        match &self.login {
            Login::None => request,
            Login::Bearer(token) => request.bearer_auth(token.expose_secret()),
            Login::Basic { user, password } => request.basic_auth(user, Some(password.expose_secret())),
            Login::Token(token) => request.header("authorization", format!("Token token={}", token.expose_secret())),
        }
    }
}

/// The first 4 KiB of an answer of a few words, such as an error's.
pub(crate) async fn few_words(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < WORDS_MAX_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(WORDS_MAX_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One API. Clones share connections.
#[derive(Clone)]
pub(crate) struct Web {
    http: Client,
    options: WebOptions,
    redactor: Redactor,
}

impl Web {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the authorities cannot be read or the client cannot be built.
    pub(crate) fn new(options: WebOptions, redactor: Redactor) -> anyhow::Result<Self> {
        Ok(Self { http: options.client()?.build()?, options, redactor })
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// GET with these parameters.
    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        self.options.with_login(self.http.get(format!("{}{path}", self.options.url)).query(query))
    }

    /// A query too long for a URL goes as a form; it changes nothing there.
    pub(crate) fn post_form(&self, path: &str, form: &[(&str, String)]) -> RequestBuilder {
        self.options.with_login(self.http.post(format!("{}{path}", self.options.url)).form(form))
    }

    /// The answer as JSON, at most 8 MiB of it.
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value, ReadError> {
        let answer = async {
            let mut response = self.send(request).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
                if (bytes.len() + chunk.len()) as u64 > BODY_MAX_BYTES {
                    return Err(too_long(BODY_MAX_BYTES));
                }
                bytes.extend_from_slice(&chunk);
            }
            serde_json::from_slice(&bytes).map_err(|_| ReadError::Unavailable("the answer is no JSON".into()))
        };
        timeout(REQUEST_TIMEOUT, answer).await.unwrap_or(Err(ReadError::TimedOut))
    }

    /// What `parse` makes of the answer while it comes in, so that it is never held whole; at most 128 MiB are read.
    pub(crate) async fn stream<T, P>(&self, request: RequestBuilder, parse: P) -> Result<T, ReadError>
    where
        T: Send + 'static,
        P: FnOnce(&mut dyn Read) -> serde_json::Result<T> + Send + 'static,
    {
        let answer = async {
            let mut response = self.send(request).await?;
            let (to, from) = mpsc::channel::<Vec<u8>>(CHUNKS_MAX);
            let parsing = tokio::task::spawn_blocking(move || {
                parse(&mut BufReader::with_capacity(64 << 10, Chunks { from, rest: Vec::new(), at: 0 }))
            });
            let fed = feed(&mut response, to).await;
            let parsed = parsing.await;
            fed?;
            match parsed {
                Ok(Ok(value)) => Ok(value),
                _ => Err(ReadError::Unavailable("the answer is not what was asked for".into())),
            }
        };
        timeout(REQUEST_TIMEOUT, answer).await.unwrap_or(Err(ReadError::TimedOut))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ReadError> {
        let response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(self.refused(status, &few_words(response).await))
    }

    /// The error's own words: Prometheus' `error`, PagerDuty's `error.message`, or plain text as Loki gives it.
    fn refused(&self, status: StatusCode, body: &str) -> ReadError {
        let parsed: Option<Value> = serde_json::from_str(body).ok();
        let field = |pointer: &str| parsed.as_ref().and_then(|value| value.pointer(pointer)?.as_str());
        let said = field("/error").or_else(|| field("/error/message")).or_else(|| field("/message"));
        let says = self.redactor.redact(said.unwrap_or(body)).one_line().cut(300);
        let says = if says.is_empty() { text!("it answered {}", status.as_u16()) } else { says };
        match status.as_u16() {
            401 | 403 => ReadError::Forbidden(says),
            408 | 504 => ReadError::TimedOut,
            // Prometheus ends a query that takes too long so.
            503 if field("/errorType") == Some("timeout") => ReadError::TimedOut,
            404 => ReadError::Unavailable(text!("it answered 404 ({}): is the URL right?", says)),
            429 => ReadError::Unavailable(text!("it asks to wait: {}", says)),
            300..=399 => ReadError::Unavailable(text!("it redirects ({}): is the URL right?", status.as_u16())),
            400..=499 => ReadError::Refused(says),
            _ => ReadError::Unavailable(says),
        }
    }
}

/// Hands the answer on as it comes in. A parser that has gone away has found what it wanted, or nothing.
async fn feed(response: &mut Response, to: mpsc::Sender<Vec<u8>>) -> Result<(), ReadError> {
    let mut read: u64 = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        read += chunk.len() as u64;
        if read > STREAM_MAX_BYTES {
            return Err(too_long(STREAM_MAX_BYTES));
        }
        if to.send(chunk.to_vec()).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn too_long(max: u64) -> ReadError {
    ReadError::Unavailable(text!("the answer is longer than {} MiB: ask for less", max >> 20))
}

fn broken(error: &reqwest::Error) -> ReadError {
    if error.is_timeout() {
        ReadError::TimedOut
    } else if error.is_connect() {
        ReadError::Unreachable(Redacted::literal("it cannot be reached"))
    } else {
        ReadError::Unavailable(Redacted::literal("the answer broke off"))
    }
}

/// The chunks as one text to read, for a thread that may block.
struct Chunks {
    from: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.rest.len() {
            match self.from.blocking_recv() {
                Some(chunk) => (self.rest, self.at) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.rest.len() - self.at);
        into[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
