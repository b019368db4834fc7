//! What the engine has to tell the log; put into words at the edge, where the GIL is.
use std::io;

use tricorn_proto::Reject;

use crate::peer::Peer;

#[derive(Debug)]
pub enum Notice {
    /// A request was refused before the application saw it.
    Rejected { peer: Peer, reject: Reject },
    /// A request body could not be spooled; the request was answered 500.
    Spool(io::Error),
    /// The rest of a response could not be spooled; the thread waits for the peer instead.
    SpoolResponse(io::Error),
    /// A listener failed; it rests for a moment.
    Accept(io::Error),
    /// Do answers that leave together leave by io_uring, or why not? Said once, unless the configuration forbids it.
    Batches(io::Result<()>),
}
