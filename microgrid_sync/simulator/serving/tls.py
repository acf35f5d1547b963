"""Makes a certificate for a simulator on the spot, so that encryption can be practised."""

import shutil
import tempfile
import weakref
from pathlib import Path
from urllib.parse import urlencode

import grpc


class Certificate:
    """A certificate, and the authority that has signed it, which stands in a file for clients."""

    def __init__(self, host: str) -> None:
        """Make both.

        Args:
            host: What clients call the server.

        Raises:
            ImportError: If the package trustme is not installed.
        """
        try:
            # Not at the top: simulators are rarely encrypted, and it brings cryptography with it.
            import trustme  # noqa: PLC0415 - see above
        except ImportError as error:
            raise ImportError(
                "a simulator with TLS needs trustme: pip install 'microgrid_sync[tls]'"
            ) from error
        authority = trustme.CA()
        issued = authority.issue_cert(host, "localhost", "127.0.0.1", "::1")
        self._key = issued.private_key_pem.bytes()
        self._chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        directory = tempfile.mkdtemp(prefix="microgrid-sync-tls-")
        # Gone with this object.
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._path = Path(directory) / "authority.pem"
        self._path.write_bytes(authority.cert_pem.bytes())

    @property
    def parameters(self) -> str:
        """What a client's URL must say."""
        return urlencode({"ssl": "on", "ssl_root_certificates_path": str(self._path)}, safe="/")

    def credentials(self) -> grpc.ServerCredentials:
        """What a server needs."""
        return grpc.ssl_server_credentials([(self._key, self._chain)])
