//! The table of HTTP statuses that deliveries, `check` and `board` share. Pure.

/// The meaning of an HTTP status for any request.
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

/// True if Honeycomb will never accept an event that has this status in the response to its batch.
/// The other 4xx concern the key, the dataset or the load, so the event may be accepted later.
pub fn is_final_for_event(status: u16) -> bool {
    (400..=499).contains(&status) && !matches!(status, 401 | 403 | 404 | 408 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_event_with_a_final_status_is_dropped() {
        for status in [400, 402, 405, 413, 422, 425, 499] {
            assert!(is_final_for_event(status), "{status}");
        }
        for status in [0, 101, 202, 301, 401, 403, 404, 408, 429, 500, 503, 600] {
            assert!(!is_final_for_event(status), "{status}");
        }
    }

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
