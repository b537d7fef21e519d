"""Why a byte stream could not be opened or broke, in a person's words."""

from __future__ import annotations

import errno
import ssl

from peerway.core.machine import PeerwayError

# X.509 verification results (OpenSSL's x509_vfy.h); the ssl module has no names for them.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = (18,)
_UNKNOWN_ISSUER = (2, 19, 20, 21)
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

_TOO_OLD = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "WRONG_SSL_VERSION",
        "NO_PROTOCOLS_AVAILABLE",
    }
)

NO_ANSWER = "is it running, is the address right, and does a firewall drop what is sent there?"

_BY_ERRNO = {
    errno.ECONNREFUSED: "refused the connection: nothing listens at that port, or a firewall rejects it",
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
        return f"no answer from {where} in time: {NO_ANSWER}"
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
        return "has expired: it must be renewed there, unless this machine's clock is wrong"
    if code == _NOT_YET_VALID:
        return "is not valid yet: is this machine's clock right?"
    if code in _SELF_SIGNED:
        return (
            "is self-signed, and nobody this system trusts vouches for it: "
            "use the whole URL that the relay printed, with its pin"
        )
    if code in _UNKNOWN_ISSUER:
        return (
            "is signed by an authority this system does not know: if it is your own, name its "
            "certificate with --ca FILE; if it is not, the relay may leave out an intermediate certificate"
        )
    if code in _WRONG_HOST:
        return (
            f"is for another host ({error.verify_message.rstrip('.')}): use the name it was issued for, "
            "unless somebody is in between"
        )
    return f"is not trusted: {error.verify_message}"


def _explain_tls(error: ssl.SSLError, where: str) -> str:
    name = getattr(error, "reason", None)  # not every SSLError has one
    if name in _TOO_OLD:
        return f"{where} speaks no TLS that is new enough: it needs 1.2 or newer"
    if name in _NOT_TLS:
        return f"{where} does not speak TLS: if it is a relay without TLS, its URL begins with http://"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return (
            f"{where} closed the connection during the TLS handshake: if it is a relay without TLS, its URL "
            "begins with http://; TLS older than 1.2 will not do"
        )
    reason = (name or str(error)).replace("_", " ").lower()
    return f"TLS with {where} failed: {reason}"
