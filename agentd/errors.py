"""Our errors, and the reasons for which a call ends."""

# The verb's ``completion_reason`` (verb-decisions, "Errors").
NORMAL = "normal conversation end"
DISCONNECTED = "disconnect from remote end"
CONNECTION_FAILURE = "connection failure"
SERVER_FAILURE = "server failure"
SERVER_ERROR = "server error"
NO_RESPONSE = "no_response"


class AgentdError(Exception):
    """Something that an operator or a caller of agentd can mend; the message says how."""


class CallRefused(AgentdError):
    """A connection that cannot become a call. ``code`` closes the websocket; the message is its reason."""

    def __init__(self, message: str, code: int = 1008) -> None:
        super().__init__(message)
        self.code = code
