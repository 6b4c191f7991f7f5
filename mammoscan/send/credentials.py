"""What we show a peer and how we know it: TLS files and tokens, checked before anything else is done."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from mammoscan.core.errors import UsageError

if TYPE_CHECKING:
    from mammoscan.send.destination import SendConfig

# token68 of RFC 6750.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def check(config: SendConfig) -> None:
    """See that the files named can be used.

    Raises
    ------
    UsageError
        When one cannot.
    """
    if config.tls or config.ca or config.certificate:
        tls_context(config)
    token(config)


def tls_context(config: SendConfig) -> ssl.SSLContext:
    """TLS 1.2 and above with the peer's certificate checked (PS3.15 B.12).

    Raises
    ------
    UsageError
        When a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate is not None:
            # An empty password, so that a key with one is an error and not a question to nobody.
            context.load_cert_chain(config.certificate, config.key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"TLS cannot be set up: {reason}",
            remedy="check --tls-ca, --tls-cert and --tls-key: PEM files, the key without a password",
        ) from error
    return context


def token(config: SendConfig) -> str:
    """The bearer token, '' where there is none.

    Raises
    ------
    UsageError
        When its file cannot be read or holds something else.
    """
    if config.token_file is None:
        return ""
    try:
        found = config.token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the token cannot be read", path=config.token_file, remedy="write the bare token into it, one line"
        ) from error
    if not _TOKEN.fullmatch(found):
        raise UsageError(
            "this is not a bearer token", path=config.token_file, remedy="write the bare token into it, one line"
        )
    return found
