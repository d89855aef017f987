//! A call that is cancelled: the read that it stands on ends at the API server.

use rmcp::model::{ClientRequest, Request};
use rmcp::service::PeerRequestOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop"},
    "spec": {"containers": [{"name": "app"}]},
    "status": {"containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "state": {"running": {}}}]}}"#;

/// The head of the next request; None when the other end is gone.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Answers for the pod; of its log it sends one line and no end, says so, and says when nobody listens to that any more.
async fn answer(mut stream: TcpStream, tell: mpsc::UnboundedSender<&'static str>) {
    let mut logs = false;
    while let Some(head) = head(&mut stream).await {
        logs = head.contains("/pods/web-0/log");
        if !logs {
            let length = POD.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{POD}").as_bytes()).await.unwrap();
            continue;
        }
        let line = "2026-03-24T16:40:00Z still at work\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        tell.send("begun").unwrap();
    }
    if logs {
        tell.send("gone").unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_its_read_at_the_api_server() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, tell.clone()));
        }
    });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let clock = Clock::manual("2026-03-24T16:40:00Z".parse().unwrap());
    let reader = Reader::new(client, ClusterName::parse("test").unwrap(), Redactor::default(), clock);
    let client = connect(k8s_logs::K8sLogs::new(reader)).await.unwrap();
    let arguments = object(json!({"namespace": "shop", "pod": "web-0"}));
    let request = CallToolRequestParams::new("pod_logs").with_arguments(arguments);
    let request = ClientRequest::CallToolRequest(Request::new(request));
    let call = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    assert_eq!(told.recv().await, Some("begun"));
    let cancelled_at = std::time::Instant::now();
    call.cancel(None).await.unwrap();
    assert_eq!(told.recv().await, Some("gone"));
    // By itself the read would have gone on for its whole 12 s.
    assert!(cancelled_at.elapsed() < std::time::Duration::from_secs(5));
}
