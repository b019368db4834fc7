//! What the engine is told at start: limits, deadlines and sizes, one field a setting.
use std::path::PathBuf;

use tricorn_proto::Policy;
use tricorn_proto::trust::AddrList;

/// Times in milliseconds, sizes in bytes. Source: the settings of the same names.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub policy: Policy,
    /// `forwarded_allow_ips`: direct peers whose forwarding fields are believed.
    pub trusted_peers: AddrList,
    /// Idle time allowed between two requests; 0 closes after each response.
    pub keepalive_ms: u64,
    pub client_header_timeout_ms: u64,
    pub client_body_timeout_ms: u64,
    /// Every received byte prolongs the body deadline by 1/rate seconds; 0 = no minimum rate.
    pub client_body_min_rate: u64,
    /// Longest time without progress while output waits for the peer.
    pub send_timeout_ms: u64,
    pub request_buffering: bool,
    /// A larger buffered body needs a share of `worker_buffer_memory`, or goes to an unlinked temporary file.
    pub request_buffer_memory: usize,
    /// 0 = unlimited.
    pub limit_request_body: u64,
    /// Output buffered for a peer before the application has to wait.
    pub response_buffer_memory: usize,
    /// Memory for larger request bodies, shared by all connections; beyond it they go to files.
    pub worker_buffer_memory: usize,
    /// Connections with a request in progress; above it nothing is accepted.
    pub worker_connections: usize,
    pub sendfile: bool,
    /// Answers of several connections leave by one system call, where the system allows it.
    pub io_uring: bool,
    /// Somebody else's loop turns the engine: small output waits until `flush_waiting` is called at the end of its step.
    pub foreign_loop: bool,
    /// Calls of the application run at the same time, each on a processor of its own (CPython without a GIL).
    pub parallel_calls: bool,
    /// Where request bodies are spooled.
    pub spool_dir: PathBuf,
    /// Value of the Server field.
    pub server: Vec<u8>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            policy: Policy::default(),
            trusted_peers: AddrList::default(),
            keepalive_ms: 2_000,
            client_header_timeout_ms: 30_000,
            client_body_timeout_ms: 30_000,
            client_body_min_rate: 100,
            send_timeout_ms: 60_000,
            request_buffering: true,
            request_buffer_memory: 256 * 1024,
            limit_request_body: 1 << 30,
            response_buffer_memory: 1 << 20,
            worker_buffer_memory: 32 << 20,
            worker_connections: 1_000,
            sendfile: true,
            io_uring: true,
            foreign_loop: false,
            parallel_calls: false,
            spool_dir: std::env::temp_dir(),
            server: b"tricorn".to_vec(),
        }
    }
}
