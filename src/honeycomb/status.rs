//! The one table of HTTP statuses. Pure.

/// What an HTTP status says about a request, whatever the request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    Success,
    Redirect,
    /// The request is malformed or too large. Another one may succeed.
    Malformed,
    /// The server does not know the API key.
    UnknownKey,
    Forbidden,
    NotFound,
    /// The proxy needs credentials.
    ProxyCredentials,
    /// The same request may succeed later.
    Temporary,
    /// The same request will not succeed.
    Refused,
}

impl StatusClass {
    /// Classifies a status (RFC 9110). Honeycomb uses 400 for malformed batches, 413 for large
    /// ones, 401 for unknown keys and 429 for rate limits
    /// (<https://docs.honeycomb.io/api/tag/Events>).
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400 | 413 => Self::Malformed,
            401 => Self::UnknownKey,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            407 => Self::ProxyCredentials,
            408 | 425 | 429 | 500..=599 => Self::Temporary,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_one_class() {
        for (statuses, class) in [
            (&[200, 202, 299][..], StatusClass::Success),
            (&[301, 308], StatusClass::Redirect),
            (&[400, 413], StatusClass::Malformed),
            (&[401], StatusClass::UnknownKey),
            (&[403], StatusClass::Forbidden),
            (&[404], StatusClass::NotFound),
            (&[407], StatusClass::ProxyCredentials),
            (&[408, 425, 429, 500, 501, 503, 599], StatusClass::Temporary),
            (&[0, 101, 405, 415, 422, 600], StatusClass::Refused),
        ] {
            for status in statuses {
                assert_eq!(StatusClass::of(*status), class, "{status}");
            }
        }
    }
}
