"""Our errors, each with the code that becomes the verb's ``completion_reason``."""

# What ends a call, in the words of the verb (verb-decisions, "Errors").
NORMAL = "normal conversation end"
DISCONNECTED = "disconnect from remote end"
CONNECTION_FAILURE = "connection failure"
SERVER_FAILURE = "server failure"
SERVER_ERROR = "server error"
NO_RESPONSE = "no_response"


class AgentdError(Exception):
    """Something that an operator or a caller of agentd can mend; the message says how."""

    completion_reason = SERVER_FAILURE


class CallRefused(AgentdError):
    """A connection that cannot become a call. ``code`` closes the websocket; the message is its reason."""

    def __init__(self, message: str, code: int = 1008) -> None:
        super().__init__(message)
        self.code = code
