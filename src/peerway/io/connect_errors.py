"""Why a byte stream could not be opened or broke, in a person's words."""

from __future__ import annotations

import errno
import ssl

from peerway.core.machine import PeerwayError

# X.509 verification results (OpenSSL's x509_vfy.h); the ssl module has no names for them.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = (18, 19)
_UNKNOWN_ISSUER = (20, 21)
_WRONG_HOST = (62, 64)

_NOT_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
        "UNEXPECTED_MESSAGE",
    }
)

_BY_ERRNO = {
    errno.ECONNREFUSED: "refused the connection: nothing listens there, or a firewall rejects it",
    errno.ECONNRESET: "reset the connection",
    errno.ECONNABORTED: "aborted the connection",
    errno.EPIPE: "closed the connection",
    errno.ETIMEDOUT: "stopped answering",
    errno.EHOSTUNREACH: "cannot be reached: no route to the host",
    errno.ENETUNREACH: "cannot be reached: there is no network that leads there",
    errno.ENETDOWN: "cannot be reached: the network is down",
    errno.EADDRNOTAVAIL: "cannot be reached: there is no address of ours to reach it from",
    errno.EAFNOSUPPORT: "cannot be reached: this system does not speak its address family",
    errno.EACCES: "cannot be reached: this system forbids it (a firewall rule?)",
    errno.EPERM: "cannot be reached: this system forbids it (a firewall rule?)",
    errno.EMFILE: "cannot be reached: this process has too many open files",
    errno.ENFILE: "cannot be reached: this system has too many open files",
}


def explain(error: BaseException, where: str) -> str:
    """One line: what failed, on `where` ("relay.example:443"), and what that means."""
    if isinstance(error, PeerwayError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} {_certificate_fault(error)}"
    if isinstance(error, ssl.SSLError):
        return _explain_tls(error, where)
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer from {where} in time"
    if isinstance(error, OSError):
        if isinstance(error, ConnectionError) and error.errno is None:
            return f"{where} closed the connection"
        known = _BY_ERRNO.get(error.errno or 0)
        if known:
            return f"{where} {known}"
        return f"{where}: {error.strerror or type(error).__name__}"
    return f"{where}: {str(error) or type(error).__name__}"


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "has expired"
    if code == _NOT_YET_VALID:
        return "is not valid yet; is the clock right?"
    if code in _SELF_SIGNED:
        return "is self-signed: nobody this system trusts vouches for it; to trust it, pin it"
    if code in _UNKNOWN_ISSUER:
        return "is signed by an authority this system does not know"
    if code in _WRONG_HOST:
        return f"is for another host ({error.verify_message})"
    return f"is not trusted: {error.verify_message}"


def _explain_tls(error: ssl.SSLError, where: str) -> str:
    name = getattr(error, "reason", None)  # not every SSLError has one
    if name in _NOT_TLS:
        return f"{where} does not speak TLS; is it plain HTTP?"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"{where} closed the connection during the TLS handshake; is it plain HTTP?"
    reason = (name or str(error)).replace("_", " ").lower()
    return f"TLS with {where} failed: {reason}"
