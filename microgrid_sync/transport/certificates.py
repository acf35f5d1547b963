"""Reads and checks certificates and keys, so that what is wrong with them is said at once.

gRPC takes whatever bytes it is given, tries for ever, and ends the process on an empty key.
"""

import os
from contextlib import suppress

_PEM = b"-----BEGIN "
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_DER = b"\x30"
"""The first byte of what is encoded in DER (ASN.1, a sequence)."""

Source = str | os.PathLike[str] | bytes | None


def read_root_certificates(name: str, source: Source) -> bytes | None:
    """Read the authorities to trust.

    Raises:
        ValueError: If they cannot be used; it says why, and shows nothing of them.
    """
    text = _read(name, source)
    if text is None:
        return None
    _require_pem(name, text, b"CERTIFICATE", "certificates")
    # Not at the top: most connections are not encrypted, and this is half the import of ours.
    import ssl  # noqa: PLC0415 - see above

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=text.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{name}: no certificates that can be read: {_words(error)}") from None
    return text


def read_identity(
    key_name: str, key: Source, chain_name: str, chain: Source
) -> tuple[bytes | None, bytes | None]:
    """Read the client's private key and its certificates.

    Raises:
        ValueError: If they cannot be used; it says why, and shows nothing of them.
    """
    key_text, chain_text = _read(key_name, key), _read(chain_name, chain)
    if key_text is None or chain_text is None:
        return key_text, chain_text
    if b" PRIVATE KEY-----" not in key_text and b"CERTIFICATE-----" in key_text:
        raise ValueError(f"{key_name}: a certificate where the private key belongs; swapped?")
    if b"CERTIFICATE-----" not in chain_text and b" PRIVATE KEY-----" in chain_text:
        raise ValueError(f"{chain_name}: a private key where the certificates belong; swapped?")
    _require_pem(key_name, key_text, b"PRIVATE KEY", "private key")
    _require_pem(chain_name, chain_text, b"CERTIFICATE", "certificates")
    if b"ENCRYPTED" in key_text:
        raise ValueError(f"{key_name}: the private key is encrypted; gRPC needs it decrypted")
    _require_match(key_name, key_text, chain_name, chain_text)
    return key_text, chain_text


def _read(name: str, source: Source) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    path = os.fspath(source)
    if "-----" in path or "\n" in path:
        # Not shown: it may be a key.
        raise ValueError(f"{name}: a path or bytes are needed, not the text of a PEM file itself")
    try:
        # Not with pathlib, which costs more to import than a file or two are worth.
        with open(path, "rb") as file:  # noqa: PTH123 - see above
            return file.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}={path!r} cannot be read: {error}") from error


def _require_pem(name: str, text: bytes, kind: bytes, what: str) -> None:
    """Say what a text is that has nothing of the kind in PEM form."""
    if not text.strip():
        raise ValueError(f"{name}: empty; a PEM file with a {what} is needed")
    if text.startswith(_BYTE_ORDER_MARKS):
        raise ValueError(f"{name}: begins with a byte-order mark; save it as plain ASCII")
    if text.startswith(_DER):
        raise ValueError(f"{name}: in DER form; PEM is needed (openssl converts it)")
    if _PEM not in text or kind + b"-----" not in text:
        raise ValueError(f"{name}: no {what} in PEM form ({_PEM.decode()}{kind.decode()}-----)")


def _require_match(key_name: str, key: bytes, chain_name: str, chain: bytes) -> None:
    """Check that a key can be read, and that the first certificate is its own."""
    import ssl  # noqa: PLC0415 - as above
    import tempfile  # noqa: PLC0415 - as above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python's ssl reads them from a file alone: one that only this user can read, for a moment.
    descriptor, path = tempfile.mkstemp(prefix="microgrid-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + b"\n" + chain)
        # An encrypted key asks for a password: none, instead of a question on the terminal.
        context.load_cert_chain(path, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        words = _words(error)
        if "MISMATCH" in words.upper():
            raise ValueError(
                f"{key_name}: the private key does not belong to the first of {chain_name}"
            ) from None
        raise ValueError(f"{key_name} and {chain_name} cannot be read: {words}") from None
    finally:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - as above


def _words(error: Exception) -> str:
    return getattr(error, "reason", None) or type(error).__name__
