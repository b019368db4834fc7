//! The passage between the workers of one server: connections whose request found every thread busy.
//!
//! A socket pair made before the first fork. Any worker puts in, whoever is idle first takes out, so what is in it waits
//! for no worker in particular. A message is one connection: its descriptor, who it is, and the bytes read so far.
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use tricorn_scoreboard::{Scoreboard, Slot};

use crate::peer::{ListenerInfo, Peer};

/// More bytes than this stay where they are: a message must fit the socket's buffer beside others.
pub const LONGEST_REQUEST: usize = 32 * 1024;
/// Addresses and a path are far shorter.
const LONGEST_LABEL: usize = 1024;
/// So many newcomers a worker may be made to catch up with: enough for those that it missed during a call or two.
const ARREARS: u64 = 8;
const LONGEST_MESSAGE: usize = LONGEST_REQUEST + LONGEST_LABEL;

pub struct Passage {
    entrance: OwnedFd,
    exit: OwnedFd,
    board: &'static Scoreboard,
}

/// What a message says beside the descriptor.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub peer: Peer,
    pub listener: ListenerInfo,
    /// Requests answered on the connection before this one.
    pub requests: u32,
    /// When the request was complete. Units: monotonic nanoseconds, the same in every process.
    pub received_ns: u64,
    /// From the first byte of the request on.
    pub bytes: Vec<u8>,
}

impl Passage {
    /// To be made before the fork. Errors: whatever the kernel says to a socket pair.
    pub fn new(board: &'static Scoreboard) -> io::Result<Passage> {
        let (entrance, exit) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok(Passage {
            entrance,
            exit,
            board,
        })
    }

    /// Readable while a connection waits in it.
    pub fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }

    /// Is there anybody who could take something?
    pub fn has_siblings(&self) -> bool {
        self.board.workers() > 1
    }

    /// Is there a worker that should rather take the next newcomer than `own`? One that accepts, and has fewer requests in
    /// progress, or as many and has taken fewer newcomers so far.
    pub fn others_are_freer(&self, own: &Slot) -> bool {
        let load = |slot: &Slot| (slot.in_flight(), slot.newcomers());
        let own = load(own);
        let mut accepting = self.board.slots().iter().filter(|slot| slot.accepting());
        accepting.any(|other| load(other) < own)
    }

    /// Counts what `own` has taken. A worker that is far behind the others (it has just come, or hung for a while) is not made
    /// to catch up with all of it: that would be one worker at work and the others idle.
    pub fn count_newcomers(&self, own: &Slot, taken: u64) {
        let all = self.board.slots().iter().map(Slot::newcomers);
        let least = all.max().unwrap_or(0).saturating_sub(ARREARS);
        own.set_newcomers((own.newcomers() + taken).max(least));
    }

    /// Puts a connection in. The caller keeps its own descriptor, and closes it when this went well.
    ///
    /// Errors: `AGAIN` when the passage is full, `MSGSIZE` for what is too long for it.
    pub fn put(&self, socket: BorrowedFd<'_>, passed: &Passed) -> Result<(), Errno> {
        let label = encode(passed);
        if passed.bytes.len() > LONGEST_REQUEST || label.len() > LONGEST_LABEL {
            return Err(Errno::MSGSIZE);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [socket];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let parts = [IoSlice::new(&label), IoSlice::new(&passed.bytes)];
        sendmsg(&self.entrance, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Takes a connection out; `None` when a sibling was quicker.
    ///
    /// Errors: those of the system; `INVAL` for a message that no `put` has written.
    pub fn take(&self) -> Result<Option<(OwnedFd, Passed)>, Errno> {
        let mut message = vec![0; LONGEST_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut message)];
        let received = match recvmsg(
            &self.exit,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        };
        let socket = control.drain().find_map(|found| match found {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        let whole = !received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        message.truncate(received.bytes);
        match (socket, decode(&message)) {
            (Some(socket), Some(passed)) if whole => Ok(Some((socket, passed))),
            // No descriptors are left to receive it with: the connection is lost, as one that cannot be accepted is.
            (None, _) => Err(Errno::MFILE),
            _ => Err(Errno::INVAL),
        }
    }
}

/// requests (4) | received_ns (8) | peer, listener: length (2) and text
fn encode(passed: &Passed) -> Vec<u8> {
    let mut label = Vec::with_capacity(96);
    label.extend(passed.requests.to_ne_bytes());
    label.extend(passed.received_ns.to_ne_bytes());
    match &passed.peer {
        Peer::Inet(address) => push(&mut label, address.to_string().as_bytes()),
        Peer::Unix => push(&mut label, b""),
    }
    match &passed.listener {
        ListenerInfo::Inet(address) => push(&mut label, format!("i{address}").as_bytes()),
        ListenerInfo::Unix(path) => {
            let path = path.as_os_str().as_encoded_bytes();
            push(&mut label, &[b"u", path].concat());
        }
    }
    label
}

fn push(label: &mut Vec<u8>, text: &[u8]) {
    label.extend((text.len() as u16).to_ne_bytes());
    label.extend(text);
}

fn decode(message: &[u8]) -> Option<Passed> {
    let (requests, rest) = message.split_first_chunk()?;
    let (received_ns, rest) = rest.split_first_chunk()?;
    let (peer, rest) = pull(rest)?;
    let (listener, bytes) = pull(rest)?;
    let peer = match peer {
        b"" => Peer::Unix,
        address => Peer::Inet(address_of(address)?),
    };
    let listener = match listener.split_first()? {
        (b'i', address) => ListenerInfo::Inet(address_of(address)?),
        (_, path) => ListenerInfo::Unix(path_of(path)),
    };
    Some(Passed {
        peer,
        listener,
        requests: u32::from_ne_bytes(*requests),
        received_ns: u64::from_ne_bytes(*received_ns),
        bytes: bytes.to_vec(),
    })
}

fn pull(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_ne_bytes(*length)))
}

fn address_of(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn passed(bytes: usize) -> Passed {
        Passed {
            peer: Peer::Inet("[::1]:7".parse().unwrap()),
            listener: ListenerInfo::Unix(PathBuf::from("/run/a b.sock")),
            requests: 3,
            received_ns: 5,
            bytes: vec![b'x'; bytes],
        }
    }

    fn passage() -> Passage {
        Passage::new(Scoreboard::create(2).unwrap()).unwrap()
    }

    #[test]
    fn what_is_put_in_comes_out_with_a_living_socket() {
        let passage = passage();
        assert!(passage.take().unwrap().is_none());
        let (mut near, far) = UnixStream::pair().unwrap();
        passage.put(far.as_fd(), &passed(LONGEST_REQUEST)).unwrap();
        drop(far);
        let (socket, came) = passage.take().unwrap().unwrap();
        assert_eq!(came, passed(LONGEST_REQUEST));
        UnixStream::from(socket).write_all(b"hello").unwrap();
        let mut said = String::new();
        near.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        assert!(passage.take().unwrap().is_none());
    }

    #[test]
    fn a_full_passage_and_a_long_request_are_refused() {
        let passage = passage();
        let (_near, far) = UnixStream::pair().unwrap();
        let long = passed(LONGEST_REQUEST + 1);
        assert_eq!(passage.put(far.as_fd(), &long), Err(Errno::MSGSIZE));
        let count = (0..10_000)
            .take_while(|_| passage.put(far.as_fd(), &passed(100)).is_ok())
            .count();
        assert!((10..10_000).contains(&count), "{count}");
        assert_eq!(passage.put(far.as_fd(), &passed(100)), Err(Errno::AGAIN));
    }

    /// Two that accept.
    fn workers(passage: &Passage) -> [&'static Slot; 2] {
        [0, 1].map(|_| {
            let slot = passage.board.claim(0).expect("room for two");
            slot.set_accepting(true);
            slot
        })
    }

    #[test]
    fn the_freer_worker_has_less_to_do_or_has_taken_fewer() {
        let passage = passage();
        let [own, other] = workers(&passage);
        assert!(!passage.others_are_freer(own), "nobody has done anything");
        passage.count_newcomers(own, 1);
        assert!(passage.others_are_freer(own) && !passage.others_are_freer(other));
        // Hung, perhaps: that it has taken fewer does not make it free.
        let record = other.begin_request(b"GET", b"/", 0).unwrap();
        assert!(!passage.others_are_freer(own) && passage.others_are_freer(other));
        other.end_request(record);
        assert!(passage.others_are_freer(own));
        other.set_accepting(false);
        assert!(!passage.others_are_freer(own));
    }

    #[test]
    fn a_worker_that_was_away_catches_up_with_a_few() {
        let passage = passage();
        let [own, other] = workers(&passage);
        passage.count_newcomers(own, 1_000);
        passage.count_newcomers(other, 0);
        assert_eq!(other.newcomers(), 1_000 - ARREARS);
        passage.count_newcomers(other, 3);
        assert_eq!(other.newcomers(), 1_003 - ARREARS);
        passage.count_newcomers(own, 1);
        assert_eq!(own.newcomers(), 1_001);
    }

    #[test]
    fn inet_listeners_and_unix_peers_survive_the_way() {
        let mut there = passed(0);
        there.peer = Peer::Unix;
        there.listener = ListenerInfo::Inet("0.0.0.0:8000".parse().unwrap());
        assert_eq!(decode(&encode(&there)), Some(there));
        assert_eq!(decode(b"too short"), None);
    }
}
