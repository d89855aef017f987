//! A container's log, read line by line as it comes in: whatever its length, one line is held.

use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::core::Request;
use kube::core::subresource::LogParams;
use tokio::time::timeout;

use crate::model::{Kind, ObjectRef};
use crate::observe::reader::{ReadError, Reader, broken, no_request};

/// Bytes of a log that are read: ten times what a kubelet keeps of one run by default.
const LOG_MAX_BYTES: u64 = 128 << 20;
/// Bytes of one line of a log; the rest of a longer one is passed over.
const LINE_MAX_BYTES: usize = 64 << 10;
/// How long one log may take, if the caller sets no end: the gate gives a tool up after 15 s.
pub const LOG_TIMEOUT: Duration = Duration::from_secs(8);

/// Which part of which log.
#[derive(Clone, Debug)]
pub struct LogAsk<'a> {
    pub pod: &'a ObjectRef,
    /// None: the pod's only container.
    pub container: Option<&'a str>,
    /// The container's last run before the present one.
    pub previous: bool,
    /// None: all of it.
    pub tail_lines: Option<u32>,
    pub since_seconds: Option<i64>,
}

/// How much of a log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRead {
    pub lines: u64,
    pub bytes: u64,
    /// Else it was too long or too slow, and what came after is not known.
    pub whole: bool,
}

impl Reader {
    /// Hands each line of a container's log, with its timestamp before it, to `take` as it comes in. It ends early after
    /// `within` or 128 MiB, which is no error once there was a line.
    pub async fn log(
        &self,
        ask: &LogAsk<'_>,
        within: Duration,
        mut take: impl FnMut(&str),
    ) -> Result<LogRead, ReadError> {
        let Some(path) = self.path(Kind::Pod, Some(ask.pod.namespace()))? else { return Err(ReadError::NotFound) };
        let params = LogParams {
            container: ask.container.map(str::to_owned),
            previous: ask.previous,
            tail_lines: ask.tail_lines.map(i64::from),
            since_seconds: ask.since_seconds,
            timestamps: true,
            ..LogParams::default()
        };
        let request = Request::new(path).logs(ask.pod.name(), &params).map_err(|_| no_request())?;
        let mut read = LogRead::default();
        let reading = async {
            let _slot = self.0.slots.acquire().await;
            let body = self.0.client.request_stream(request).await.map_err(|error| self.why(&error))?;
            read_lines(body, &mut read, &mut take).await
        };
        let end = timeout(within, reading).await.unwrap_or(Err(ReadError::TimedOut));
        match end {
            Err(error) if read.lines == 0 => Err(error),
            _ => Ok(read),
        }
    }
}

/// Takes a body apart into lines, holding one at a time.
async fn read_lines(body: impl AsyncBufRead, read: &mut LogRead, take: &mut impl FnMut(&str)) -> Result<(), ReadError> {
    let mut body = std::pin::pin!(body);
    let mut line: Vec<u8> = Vec::new();
    while read.bytes < LOG_MAX_BYTES {
        let chunk = body.fill_buf().await.map_err(broken)?;
        let length = chunk.len();
        if length == 0 {
            if !line.is_empty() {
                read.lines += 1;
                take(&String::from_utf8_lossy(&line));
            }
            read.whole = true;
            break;
        }
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                read.lines += 1;
                take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
                line.clear();
            }
        }
        body.as_mut().consume(length);
        read.bytes += length as u64;
    }
    Ok(())
}
