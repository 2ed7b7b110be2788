//! Why a request did not complete: every request that is neither completed nor in flight has exactly one of these.

/// The kinds of failure, by the point in a request's life at which it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nobody listens there (or it is unreachable).
    Refused,
    /// The timeout came while the connection was being opened.
    ConnectTimeout,
    /// The peer reset the connection.
    Reset,
    /// The peer closed before the response was complete.
    EofMidResponse,
    /// The bytes are no HTTP/1.1 response.
    Parse,
    /// The timeout came before the response head was complete.
    HeaderTimeout,
    /// The timeout came within the response body.
    BodyTimeout,
    /// The timeout came while the request waited for a free connection: it was never sent.
    QueueTimeout,
    /// A complete response with a status that was not expected.
    Status,
    /// A complete response that is not what the scenario asked for.
    Validation,
    /// Not sent: the client queue was full.
    Shed,
    /// A browser was redirected more often than browsers follow.
    RedirectCircle,
}

impl Failure {
    /// All kinds, in the order of their index.
    pub const ALL: [Self; 12] = [
        Self::Refused,
        Self::ConnectTimeout,
        Self::Reset,
        Self::EofMidResponse,
        Self::Parse,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::QueueTimeout,
        Self::Status,
        Self::Validation,
        Self::Shed,
        Self::RedirectCircle,
    ];

    /// The place of this kind in arrays of counters.
    pub fn index(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::ConnectTimeout => 1,
            Self::Reset => 2,
            Self::EofMidResponse => 3,
            Self::Parse => 4,
            Self::HeaderTimeout => 5,
            Self::BodyTimeout => 6,
            Self::QueueTimeout => 7,
            Self::Status => 8,
            Self::Validation => 9,
            Self::Shed => 10,
            Self::RedirectCircle => 11,
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::EofMidResponse => "eof_mid_response",
            Self::Parse => "parse",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::QueueTimeout => "queue_timeout",
            Self::Status => "status",
            Self::Validation => "validation",
            Self::Shed => "shed",
            Self::RedirectCircle => "redirect_circle",
        }
    }

    /// Which of the five terms of the accounting identity it belongs to.
    pub fn account(self) -> Account {
        match self {
            Self::Refused
            | Self::Reset
            | Self::EofMidResponse
            | Self::Parse
            | Self::Status
            | Self::Validation
            | Self::RedirectCircle => Account::Error,
            Self::ConnectTimeout | Self::HeaderTimeout | Self::BodyTimeout | Self::QueueTimeout => Account::TimedOut,
            Self::Shed => Account::Shed,
        }
    }

    /// What an operating system error on a connection means.
    pub fn of_io(error: &std::io::Error, connecting: bool) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut if connecting => Self::ConnectTimeout,
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Self::Reset,
            // Unreachable, refused, no route, no free port: no connection came about. Later, it was lost.
            _ if connecting => Self::Refused,
            _ => Self::Reset,
        }
    }
}

/// The terms of `planned = completed + errors + timed_out + shed + in_flight_at_end` that a failure can add to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    Error,
    TimedOut,
    Shed,
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn indexes_are_places_in_the_list() {
        for (index, kind) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
