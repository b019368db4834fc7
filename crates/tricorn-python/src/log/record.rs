//! What an access line is made of: the seam between the gateway and the access log.
//!
//! Invariant: knows neither Python nor descriptors, so that the formatting can be tested by itself.

/// Where an access line gets its values from. Implemented by the gateway for one finished exchange.
///
/// Everything is bytes as received (latin-1); the writer escapes. `None` is printed as `-`.
/// Characters of environ variables beyond latin-1 come as backslash escapes.
pub trait RecordSource {
    /// REMOTE_ADDR as the environ holds it after the call: middleware behind a proxy rewrites it.
    fn remote_addr(&self) -> &[u8];
    fn method(&self) -> &[u8];
    /// RAW_URI.
    fn target(&self) -> &[u8];
    /// PATH_INFO, undecoded as the gateway gave it to the application (latin-1 bytes).
    fn path(&self) -> Vec<u8>;
    fn query(&self) -> &[u8];
    /// SERVER_PROTOCOL, e.g. `HTTP/1.1`.
    fn protocol(&self) -> &[u8];
    /// Status line text, e.g. `200 OK`.
    fn status(&self) -> &[u8];
    fn body_bytes(&self) -> u64;
    fn duration_ns(&self) -> u64;
    /// `%({name}i)s`; name is lower-case; of repeated fields the last.
    fn request_field(&self, name: &str) -> Option<Vec<u8>>;
    /// HTTP_* as the environ has it: repeated fields joined by commas, for the atoms `f`, `a` and `u`.
    fn joined_field(&self, name: &str) -> Option<Vec<u8>> {
        self.request_field(name)
    }
    /// `%({name}o)s`; asked only when the format has such an atom.
    fn response_field(&self, name: &str) -> Option<Vec<u8>>;
    /// `%({name}e)s`; name is lower-case; asked only when the format has such an atom; needs the GIL.
    fn environ_variable(&self, name: &str) -> Option<Vec<u8>>;
}
