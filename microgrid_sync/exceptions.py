"""Defines the errors of the API, and turns a gRPC error into one of them."""

from typing import Any, ClassVar, Self, TypeVar

import grpc

from microgrid_sync.model.shown import escaped

_Error = TypeVar("_Error", bound="ApiClientError")


def _restore(cls: type[_Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> _Error:
    """Make an error again of what was pickled or copied of it."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class ApiClientError(Exception):
    """Something went wrong between the client and the API.

    Errors of this kind can be copied and pickled.

    Attributes:
        server_url: The URL of the server that was asked.
        operation: What was asked of it.
        description: What went wrong.
        is_retryable: Whether asking again may help. When in doubt, it may.
        attempts: How often it was tried, where that was counted.
    """

    def __init__(
        self, *, server_url: str, operation: str, description: str, retryable: bool
    ) -> None:
        """Make an error.

        Args:
            server_url: The URL of the server that was asked.
            operation: What was asked of it.
            description: What went wrong.
            retryable: Whether asking again may help.
        """
        description = escaped(description)
        super().__init__(f"{operation} on {server_url} failed: {description}")
        self.server_url = server_url
        self.operation = operation
        self.description = description
        self.is_retryable = retryable
        self.attempts: int | None = None

    def __str__(self) -> str:
        """Say what was asked of whom, what went wrong and how often it was tried."""
        text = super().__str__()
        if self.attempts is None:
            return text
        return f"{text} ({self.attempts} attempt{'' if self.attempts == 1 else 's'})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling the constructor, which wants keywords."""
        return _restore, (type(self), self.args, self.__dict__)

    @classmethod
    def from_grpc_error(
        cls, *, server_url: str, operation: str, grpc_error: grpc.RpcError
    ) -> "GrpcError":
        """Make the error that fits the status code of a gRPC error.

        Args:
            server_url: The URL of the server that was asked.
            operation: What was asked of it.
            grpc_error: What the gRPC library raised: any `grpc.RpcError` that is also a
                `grpc.Call`, as those of the blocking stack are, after the call has ended.

        Returns:
            An error of the class for that status code, `UnrecognizedGrpcStatus` if there is
                none. It keeps a `GrpcStatus`, not the error itself.
        """
        status = GrpcStatus.of(grpc_error)
        code = status.code()
        error_class = _CLASS_BY_CODE.get(code) if code is not None else None
        return (error_class or UnrecognizedGrpcStatus)(
            server_url=server_url, operation=operation, grpc_error=status
        )


class GrpcStatus:
    """How a gRPC call ended: a copy of what its error says that can be kept and pickled."""

    def __init__(
        self,
        code: grpc.StatusCode | None,
        details: str | None,
        trailing_metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> None:
        """Make a status.

        Args:
            code: The status code, if there is one.
            details: The server's own words, if any.
            trailing_metadata: The keys and values that came with the status.
        """
        self._code = code
        self._details = details
        self._trailing_metadata = trailing_metadata

    @classmethod
    def of(cls, error: grpc.RpcError) -> Self:
        """Copy what an error of the gRPC library says."""
        if not isinstance(error, grpc.Call):
            return cls(None, str(error) or type(error).__name__)
        metadata = tuple((key, value) for key, value in error.trailing_metadata() or ())
        return cls(error.code(), error.details(), metadata)

    def code(self) -> grpc.StatusCode | None:
        """Give the status code."""
        return self._code

    def details(self) -> str | None:
        """Give the server's own words."""
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Give the keys and values that came with the status."""
        return self._trailing_metadata

    def __str__(self) -> str:
        """Say code and details."""
        name = "no status code" if self._code is None else self._code.name
        return f"{name}: {self._details}" if self._details else name


class _OwnError(ApiClientError):
    """What the errors have in common that are no gRPC status, and of which there is one kind."""

    _description: ClassVar[str]
    _retryable: ClassVar[bool]

    def __init_subclass__(cls, *, words: str, retryable: bool) -> None:
        """Make the class of one kind.

        Args:
            words: What went wrong.
            retryable: Whether asking again may help.
        """
        super().__init_subclass__()
        cls._description, cls._retryable = words, retryable

    def __init__(self, *, server_url: str, operation: str) -> None:
        """Make an error.

        Args:
            server_url: The URL of the server that was asked, or would have been.
            operation: What was asked of it.
        """
        super().__init__(
            server_url=server_url,
            operation=operation,
            description=self._description,
            retryable=self._retryable,
        )


class ClientNotConnected(
    _OwnError, words="the client is not connected; call connect() first", retryable=True
):
    """The client is not connected to a server."""


class SetPointSuperseded(
    _OwnError,
    words="a newer set-point for the same component has taken its place",
    retryable=False,
):
    """Another set-point for the same component has taken the place of this one.

    A newer one was given by this client before this one had been confirmed: then it is not known
    whether the server has applied this one. Or another controller has overridden it, as the server
    says. It will not be tried again.

    Attributes:
        was_sent: Whether it had been sent by then.
        was_overridden: Whether the server says so: then it will not carry it out any more.
    """

    was_sent = False
    was_overridden = False


class SetPointRejected(_OwnError, words="the server has rejected the set-point", retryable=False):
    """The server will not carry out a set-point."""


class SetPointFailed(_OwnError, words="the component has not taken the set-point", retryable=True):
    """The server has accepted a set-point, and could not carry it out."""


class GrpcError(ApiClientError):
    """The server, or the way to it, answered with a gRPC status other than OK.

    Attributes:
        grpc_error: The status, with its ``code()``, ``details()`` and ``trailing_metadata()``.
    """

    def __init__(
        self,
        *,
        server_url: str,
        operation: str,
        description: str,
        grpc_error: "grpc.RpcError | GrpcStatus",
        retryable: bool,
    ) -> None:
        """Make an error.

        Args:
            server_url: The URL of the server that was asked.
            operation: What was asked of it.
            description: What went wrong.
            grpc_error: What the gRPC library raised, or a `GrpcStatus`.
            retryable: Whether asking again may help.
        """
        status = grpc_error if isinstance(grpc_error, GrpcStatus) else GrpcStatus.of(grpc_error)
        super().__init__(
            server_url=server_url,
            operation=operation,
            description=f"{description} ({status}){_hint(status)}",
            retryable=retryable,
        )
        self.grpc_error = status


_HANGS_UP = (
    "something listens there and hangs up at once: a server that expects encryption, for which the "
    "URL needs ssl=true; or, if ssl is on, one that wants a certificate of the client's "
    "(ssl_private_key_path, ssl_certificate_chain_path) or does not trust it; or none of gRPC"
)

_HINTS = (
    ("Socket closed", _HANGS_UP),
    # The same, of a server that has not read all that was sent.
    ("Connection reset by peer", _HANGS_UP),
    ("Broken pipe", _HANGS_UP),
    (
        "CERTIFICATE_VERIFY_FAILED",
        (
            "the server's certificate has expired, or is not of an authority that is trusted here: "
            "ssl_root_certificates_path names the file of those that are"
        ),
    ),
    ("Hostname Verification", "the server's certificate is for another name than the URL's host"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS: leave ssl=true out of the URL"),
    ("TSI_DATA_CORRUPTED", "the client's private key and certificate do not fit the server's"),
)
"""What gRPC says of a connection that could not be made, and what it probably means."""


def _hint(status: GrpcStatus) -> str:
    """Say what a status probably means that does not say so itself."""
    details = status.details() or ""
    if "failed to connect" not in details:
        return ""
    return next((f"; {meaning}" for words, meaning in _HINTS if words in details), "")


_CLASS_BY_CODE: "dict[grpc.StatusCode, type[_StatusError]]" = {}


class _StatusError(GrpcError):
    """What the errors for one status code have in common."""

    _description: ClassVar[str]
    _retryable: ClassVar[bool]

    def __init_subclass__(
        cls, *, code: grpc.StatusCode | None, words: str, retryable: bool = True
    ) -> None:
        """Make the class that errors with a status code have.

        Args:
            code: The status code; ``None`` for all that no other class has.
            words: What it means.
            retryable: Whether asking again may help.
        """
        super().__init_subclass__()
        cls._description, cls._retryable = words, retryable
        if code is not None:
            _CLASS_BY_CODE[code] = cls

    def __init__(
        self, *, server_url: str, operation: str, grpc_error: grpc.RpcError | GrpcStatus
    ) -> None:
        """Make an error.

        Args:
            server_url: The URL of the server that was asked.
            operation: What was asked of it.
            grpc_error: What the gRPC library raised, or a `GrpcStatus`.
        """
        super().__init__(
            server_url=server_url,
            operation=operation,
            description=self._description,
            grpc_error=grpc_error,
            retryable=self._retryable,
        )


class OperationCancelled(
    _StatusError, code=grpc.StatusCode.CANCELLED, words="the call was cancelled"
):
    """The call was cancelled, by the client or the server."""


class UnknownError(
    _StatusError,
    code=grpc.StatusCode.UNKNOWN,
    words="an error that the server has no better name for",
):
    """The server failed in a way that no other status describes."""


class InvalidArgument(
    _StatusError,
    ValueError,
    code=grpc.StatusCode.INVALID_ARGUMENT,
    words="the server takes the request for invalid",
    retryable=False,
):
    """The request makes no sense to the server, whatever state the microgrid is in."""


class OperationTimedOut(
    _StatusError,
    code=grpc.StatusCode.DEADLINE_EXCEEDED,
    words="no answer in time; it may have been carried out all the same",
):
    """The time for the call ran out; the server may have done what was asked all the same."""


class EntityNotFound(
    _StatusError, code=grpc.StatusCode.NOT_FOUND, words="the server does not know such a thing"
):
    """The server does not know what was asked for, a component for instance."""


class EntityAlreadyExists(
    _StatusError, code=grpc.StatusCode.ALREADY_EXISTS, words="it exists already"
):
    """What should be created exists already."""


class PermissionDenied(
    _StatusError, code=grpc.StatusCode.PERMISSION_DENIED, words="this caller may not do this"
):
    """The caller is known, and may not do this."""


class ResourceExhausted(
    _StatusError,
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    words="the server has run out of something that this needs",
):
    """Something of the server is used up: memory, a quota, the number of calls at once."""


class OperationPreconditionFailed(
    _StatusError,
    code=grpc.StatusCode.FAILED_PRECONDITION,
    words="the state of the microgrid does not allow this now",
):
    """The microgrid is not in a state in which this can be done."""


class OperationAborted(
    _StatusError, code=grpc.StatusCode.ABORTED, words="the server gave up half-way"
):
    """The server gave up, usually because something else came in between."""


class OperationOutOfRange(
    _StatusError, code=grpc.StatusCode.OUT_OF_RANGE, words="a value is outside what is allowed now"
):
    """A value is outside what is allowed now; other bounds may allow it later."""


class OperationNotImplemented(
    _StatusError,
    code=grpc.StatusCode.UNIMPLEMENTED,
    words="the server cannot do this",
    retryable=False,
):
    """The server, or the component, cannot do this at all."""


class InternalError(
    _StatusError,
    code=grpc.StatusCode.INTERNAL,
    words="something is broken in the server or on the way to it",
):
    """Something that the server or the gRPC library relies on is broken."""


class ServiceUnavailable(
    _StatusError, code=grpc.StatusCode.UNAVAILABLE, words="the server cannot be reached now"
):
    """The server cannot be reached, or not now."""


class DataLoss(
    _StatusError, code=grpc.StatusCode.DATA_LOSS, words="data is lost or damaged", retryable=False
):
    """Data is lost or damaged beyond repair."""


class OperationUnauthenticated(
    _StatusError,
    code=grpc.StatusCode.UNAUTHENTICATED,
    words="the server does not know who is asking",
    retryable=False,
):
    """The server does not know who is asking."""


class UnrecognizedGrpcStatus(
    _StatusError, code=None, words="a status that this client does not know"
):
    """The gRPC library reported a status that this package has no name for."""
