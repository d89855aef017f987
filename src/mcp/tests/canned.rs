//! An HTTP server that answers as recorded: by the first recording that fits what is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Part of a request's decoded head (its line and headers), and the file that answers it.
type Answers = &'static [(&'static str, &'static str)];

/// A server on a loopback port; it stops when dropped.
pub(super) struct Canned {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Canned {
    /// Answers from `tests/fixtures`; what nothing fits is 404.
    pub(super) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stop) = (Arc::<Mutex<Vec<String>>>::default(), CancellationToken::new());
        let (kept, stopped) = (asked.clone(), stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                tokio::spawn(serve(stream, answers, kept.clone()));
            }
        });
        Self { url, asked, _stop: stop.drop_guard() }
    }

    /// The heads of all requests, decoded.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answers: Answers, asked: Arc<Mutex<Vec<String>>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = percent_encoding::percent_decode(&head).decode_utf8_lossy().replace('+', " ");
    let file = answers.iter().find(|(part, _)| head.contains(part)).map(|(_, file)| *file);
    asked.lock().unwrap().push(head);
    let (status, kind, body) = file.map_or((404, "text/plain".to_owned(), "404 page not found\n".to_owned()), recorded);
    let answer = format!(
        "HTTP/1.1 {status} Recorded\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn recorded(file: &str) -> (u64, String, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let body = recorded["body"].as_str().map_or_else(|| recorded["body"].to_string(), str::to_owned);
    let kind = recorded["headers"]["Content-Type"].as_str().unwrap().to_owned();
    (recorded["status"].as_u64().unwrap(), kind, body)
}
