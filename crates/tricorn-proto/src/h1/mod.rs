//! HTTP/1.x requests: the head ([`HeadParser`]) and the body behind it ([`BodyDecoder`]).
//!
//! Source: RFC 9112.
mod body;
mod chunk;
mod facts;
mod familiar;
mod parser;
mod target;

pub use body::{BodyDecoder, BodyStep};
pub use familiar::Familiar;
pub(crate) use familiar::Name;
pub use parser::HeadParser;
