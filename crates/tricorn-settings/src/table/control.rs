//! The control socket.
use super::{Setting, computed, int, truth};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const CONTROL: &[Setting] = &[
    Setting::new("control_socket", Text, computed("none")).flags(&["--control-socket"]).metavar("PATH").not_yet()
        .help("Unix socket path of the runtime control interface."),
    Setting::new("control_socket_mode", Count, int(0o600)).flags(&["--control-socket-mode"]).metavar("INT").any_base().not_yet()
        .help("Permission bits of the control socket."),
    Setting::new("control_socket_disable", Bool, truth(false)).flags(&["--no-control-socket"])
        .help("Do not create the control socket."),
];
