//! The request that an open belongs to, where it is known.

/// Fields of the request, as the server has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpState {
    pub method: Option<Vec<u8>>,
    /// Without the query string, which may hold secrets.
    pub url_path: Option<Vec<u8>>,
    pub server_address: Option<Vec<u8>>,
    pub status: Option<u32>,
}
