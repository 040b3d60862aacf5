//! How the server and the proxy in front of it can behave.

/// How the server and the proxy in front of it behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerMode {
    Healthy,
    Slow,
    RefusingConnections,
    Unreachable,
    RequiringCredentials,
    UnknownAuthority,
    Expired,
    WrongHostName,
    ResettingBeforeRead,
    StallingBeforeBody,
    BreakingResponse,
    TooFewStatuses,
    InvalidBody,
    RequestTooLarge,
    RateLimited,
    ServerError,
    MixedStatuses,
    NoLogsPipeline,
    LaterForSome,
    OneStatus,
    Redirecting,
    Unauthorized,
    Forbidden,
    LookupFailing,
    TooManyColumns,
    BadRequest,
}

impl ServerMode {
    pub const FAULTS: [Self; 25] = [
        Self::Slow,
        Self::RefusingConnections,
        Self::Unreachable,
        Self::RequiringCredentials,
        Self::UnknownAuthority,
        Self::Expired,
        Self::WrongHostName,
        Self::ResettingBeforeRead,
        Self::StallingBeforeBody,
        Self::BreakingResponse,
        Self::TooFewStatuses,
        Self::InvalidBody,
        Self::RequestTooLarge,
        Self::RateLimited,
        Self::ServerError,
        Self::MixedStatuses,
        Self::NoLogsPipeline,
        Self::LaterForSome,
        Self::OneStatus,
        Self::Redirecting,
        Self::Unauthorized,
        Self::Forbidden,
        Self::LookupFailing,
        Self::TooManyColumns,
        Self::BadRequest,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "server: healthy",
            Self::Slow => "server: slow",
            Self::RefusingConnections => "proxy: refuses connections",
            Self::Unreachable => "proxy: cannot reach the server",
            Self::RequiringCredentials => "proxy: requires credentials",
            Self::UnknownAuthority => "server: certificate of an unknown authority",
            Self::Expired => "server: expired certificate",
            Self::WrongHostName => "server: certificate for another host name",
            Self::ResettingBeforeRead => "proxy: resets before reading",
            Self::StallingBeforeBody => "server: stalls before reading the body",
            Self::BreakingResponse => "server: stalls or closes during its response",
            Self::TooFewStatuses => "server: 200 with fewer statuses than events",
            Self::InvalidBody => "server: 200 with HTML, garbage or a truncated list",
            Self::RequestTooLarge => "server: 413 for more than a few events",
            Self::RateLimited => "server: 429, Retry-After absent, valid or invalid",
            Self::ServerError => "server: 500 to 504, body empty, HTML or two documents",
            Self::MixedStatuses => "server: 202, 429, 500 and 400 for single events",
            Self::NoLogsPipeline => "collector: 503 for each event that is no span",
            Self::LaterForSome => "server: 429 for half of the events, always the same",
            Self::OneStatus => "collector: one status for all events",
            Self::Redirecting => "server: redirects, 301 to 308",
            Self::Unauthorized => "server: 401",
            Self::Forbidden => "server: 403, 404 and 422, JSON or HTML",
            Self::LookupFailing => "refinery: 400, then a list of 202",
            Self::TooManyColumns => "server: 400 for requests with a session event",
            Self::BadRequest => "server: 400 for the whole request",
        }
    }

    pub(super) fn certificate(self) -> Certificate {
        match self {
            Self::UnknownAuthority => Certificate::UnknownAuthority,
            Self::Expired => Certificate::Expired,
            Self::WrongHostName => Certificate::WrongHostName,
            _ => Certificate::Good,
        }
    }
}

/// The certificate that the server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificate {
    Good,
    UnknownAuthority,
    Expired,
    WrongHostName,
}

impl Certificate {
    pub(super) const FILES: [&str; 4] =
        ["good.pem", "of-a-stranger.pem", "expired.pem", "wrong-name.pem"];
}
