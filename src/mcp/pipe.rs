//! A pipe in this process for MCP messages: whole, typed, and received in the order in which they were sent.

use std::future::{Future, ready};

use rmcp::RoleClient;
use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, ServiceRole, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Messages on the way in one direction; more than any caller has calls in flight.
const MESSAGES_MAX: usize = 256;

/// One end of a pipe. A byte stream would do as well, but it lets messages of parallel calls change places.
pub struct Pipe<R: ServiceRole> {
    to: mpsc::Sender<TxJsonRpcMessage<R>>,
    from: mpsc::Receiver<RxJsonRpcMessage<R>>,
}

/// Both ends of a new pipe.
pub fn pipe() -> (Pipe<RoleClient>, Pipe<RoleServer>) {
    let (to_server, from_client) = mpsc::channel(MESSAGES_MAX);
    let (to_client, from_server) = mpsc::channel(MESSAGES_MAX);
    (Pipe { to: to_server, from: from_server }, Pipe { to: to_client, from: from_client })
}

/// Why a message did not leave.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    #[error("the other end is gone")]
    Closed,
    #[error("{MESSAGES_MAX} messages are waiting")]
    Full,
}

impl<R: ServiceRole> Transport<R> for Pipe<R> {
    type Error = PipeError;

    fn send(&mut self, item: TxJsonRpcMessage<R>) -> impl Future<Output = Result<(), PipeError>> + Send + 'static {
        // Sent here, not in the future: those are run side by side.
        ready(self.to.try_send(item).map_err(|error| match error {
            TrySendError::Full(_) => PipeError::Full,
            TrySendError::Closed(_) => PipeError::Closed,
        }))
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<R>>> + Send {
        self.from.recv()
    }

    async fn close(&mut self) -> Result<(), PipeError> {
        self.from.close();
        Ok(())
    }
}
