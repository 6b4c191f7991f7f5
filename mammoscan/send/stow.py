"""STOW-RS (PS3.18 10.5): the files as they are, in one request a study, over one kept connection.

Multipart is urllib3's, all of HTTP is requests'. dicomweb-client does not take their place: what its public methods
return leaves out what sending rests on. Seen of 0.61.2: it raises for 409 before it looks for the objects that failed;
takes failures in an answer with a charset in its Content-Type, and a page of HTML, for success; follows redirects and
makes GET of POST; sends an empty body when it repeats a large one; names hosts without their port, and cuts IPv6
addresses; gives every body the same boundary; and sets no limit to an answer's length or time.
"""

from __future__ import annotations

import itertools
import json
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from urllib3.fields import RequestField
from urllib3.filepost import choose_boundary, encode_multipart_formdata

from mammoscan.send import credentials
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, Parcel, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mammoscan.send.destination import Destination, SendConfig

_AT_ONCE = 20  # objects in one request: bounds what is in doubt and what is held in memory
_CONFIGURATION = {401, 403, 404, 405, 406, 407, 411}
_REDIRECTS = {301, 302, 303, 307, 308}
_NOT_NOW = {408, 429, 502, 503, 504}
_BY_OBJECT = {200, 202, 409}  # the answer speaks of each object
_TROUBLES = 3  # objects in a row that the server fails on: then it is the server
_WHOSE_ADDRESS = "check the address, and that a DICOMweb server answers there"
_LONGEST_ANSWER = 16 << 20  # bytes


class _Bearer(requests.auth.AuthBase):
    """A bearer token (RFC 6750). As a mere header, requests would replace it by what ~/.netrc says of the host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


_PHRASES = {int(status): status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a server answered, all of it in memory. headers: names in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def __str__(self) -> str:
        # The standard's words and not the server's own, which may hold anything.
        words = _PHRASES.get(self.status, "")
        return f"the server answers {self.status} {words}".rstrip()

    def json(self) -> Any:
        """The content as JSON, None where it is something else."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


class Stow:
    """A DICOMweb server. attempt: which try this is; each sends fewer objects at once, for servers that drop many."""

    def __init__(self, destination: Destination, config: SendConfig, attempt: int = 0) -> None:
        self._url = destination.url
        self._host = urlsplit(destination.url).hostname or ""
        self._timeout = config.timeout
        self._at_once = max(1, _AT_ONCE >> 2 * attempt)
        self._too_large: int | None = None  # bytes: the smallest request that was refused as too large
        self._troubles = 0
        self._session = requests.Session()
        # Given with each request: requests puts REQUESTS_CA_BUNDLE before what its session was told.
        self._trusted: str | None = str(config.ca) if config.ca is not None else None
        if config.certificate is not None:
            self._session.cert = (str(config.certificate), str(config.key or config.certificate))
        if token := credentials.token(config):
            self._session.auth = _Bearer(token)

    def __enter__(self) -> Stow:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def send(self, parcels: Iterable[Parcel]) -> Iterator[Answer]:
        """As ``Transport.send``."""
        for _, same_study in itertools.groupby(parcels, key=lambda p: p.item.study_instance_uid):
            while batch := list(itertools.islice(same_study, self._at_once)):
                yield from self._store(batch)

    def has(self, item: Item) -> bool | None:
        """As ``Transport.has``, by QIDO-RS (PS3.18 10.6)."""
        study, series = quote(item.study_instance_uid), quote(item.series_instance_uid)
        reply = self._request(
            "GET",
            f"{self._url}/{study}/series/{series}/instances",
            params={"SOPInstanceUID": item.sop_instance_uid},
            headers={"Accept": "application/dicom+json"},
        )
        if reply.status in {204, 404}:
            return False
        if reply.status in {429, 503}:
            raise PeerError(str(reply), retry_after=_retry_after(reply))
        if reply.status != 200:
            return None
        try:
            return any(_value(found, "00080018") == item.sop_instance_uid for found in reply.json())
        except (AttributeError, TypeError):
            return None

    def commit(self, items: Sequence[Item]) -> dict[str, bool]:  # noqa: ARG002 (the protocol's)
        """STOW-RS answers for what it stored; there is nothing further to ask."""
        return {}

    def _store(self, batch: Sequence[Parcel]) -> Iterator[Answer]:
        """Store objects of one study, in one request or in as many as the server wants."""
        size = sum(len(parcel.content) for parcel in batch)
        if len(batch) > 1 and self._too_large is not None and size >= self._too_large:
            yield from self._halves(batch)
            return
        reply = self._post(batch)
        self._check(reply)
        failed, stored = _told(reply)
        if reply.status in _BY_OBJECT and (reply.status != 409 or failed or stored):
            self._troubles = 0
            yield from self._answers(batch, reply.status, failed, stored)
            return
        if reply.status == 413:
            self._too_large = min(size, self._too_large or size)
        if reply.status >= 500:
            yield from self._after_trouble(batch, reply)
        elif len(batch) > 1:
            yield from self._halves(batch)
        else:
            yield Answer(batch[0].item, Outcome.REFUSED, str(reply))

    def _halves(self, batch: Sequence[Parcel]) -> Iterator[Answer]:
        middle = len(batch) // 2
        yield from self._store(batch[:middle])
        yield from self._store(batch[middle:])

    def _after_trouble(self, batch: Sequence[Parcel], reply: _Reply) -> Iterator[Answer]:
        """After an error of the server, which may have stored objects before: those it has not, in smaller requests."""
        left = []
        for parcel in batch:
            if self.has(parcel.item):
                yield Answer(parcel.item, Outcome.STORED, "the peer had it when asked")
            else:
                left.append(parcel)
        if len(batch) > 1:
            for some in (left[: len(batch) // 2], left[len(batch) // 2 :]):
                if some:
                    yield from self._store(some)
        elif left:
            self._troubles += 1
            if self._troubles >= _TROUBLES:
                raise PeerError(str(reply), remedy="look into the server's log")
            yield Answer(left[0].item, Outcome.FAILED, str(reply))

    def _post(self, batch: Sequence[Parcel]) -> _Reply:
        boundary = choose_boundary()
        # No transfer-syntax parameter: it is optional, and servers are seen to drop parts that have one.
        kind = {"Content-Type": "application/dicom"}
        content, _ = encode_multipart_formdata([RequestField("", p.content, headers=kind) for p in batch], boundary)
        return self._request(
            "POST",
            f"{self._url}/{quote(batch[0].item.study_instance_uid)}",
            data=content,
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )

    def _request(self, method: str, url: str, **options: Any) -> _Reply:
        """One request with its whole answer.

        Redirects are not followed: a POST would become a GET, and a token go to where it does not belong.
        """
        try:
            with self._session.request(
                method, url, timeout=self._timeout, verify=self._trusted, allow_redirects=False, stream=True, **options
            ) as response:
                content, deadline = bytearray(), time.monotonic() + self._timeout
                for chunk in response.iter_content(512):
                    content += chunk
                    if len(content) > _LONGEST_ANSWER or time.monotonic() > deadline:
                        raise PeerError("the server's answer does not end", remedy=_WHOSE_ADDRESS)
                return _Reply(response.status_code, response.headers, bytes(content))
        except requests.exceptions.SSLError as error:
            raise ConfigurationError(
                "the TLS connection was not accepted", remedy="check --tls-ca, the host name, and that it is https"
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> PeerError:
        """What happened, without the addresses that the libraries' messages repeat."""
        cause = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            known = cause.__cause__
            kind: type[PeerError] = ConfigurationError
            if isinstance(known, socket.gaierror) and known.errno == socket.EAI_AGAIN:
                kind = PeerError
            return kind(
                f"the name {self._host} cannot be resolved",
                remedy="check the host name, and the name service of this machine",
            )
        if isinstance(error, ValueError):  # such as a host name with an empty label
            return ConfigurationError(f"no request can be made ({type(error).__name__})", remedy=_WHOSE_ADDRESS)
        if isinstance(error, requests.exceptions.ProxyError):
            return PeerError("the proxy cannot be used", remedy="check the variables HTTPS_PROXY, HTTP_PROXY, NO_PROXY")
        if isinstance(error, requests.Timeout):
            return PeerError("no answer in time", remedy=_WHOSE_ADDRESS)
        words = getattr(getattr(cause, "__cause__", None), "strerror", None)
        return PeerError(f"no connection, or it was lost{': ' + words if words else ''}", remedy=_WHOSE_ADDRESS)

    def _check(self, reply: _Reply) -> None:
        """Raise for an answer that is not about objects."""
        if reply.status in _CONFIGURATION:
            remedy = "check the address and what the server lets us do"
            if reply.status in {401, 403}:
                remedy = "check --token-file or ~/.netrc, and what the server lets us do"
            raise ConfigurationError(str(reply), remedy=remedy)
        if reply.status in _REDIRECTS:
            raise ConfigurationError(str(reply), remedy=self._elsewhere(reply))
        if reply.status in _NOT_NOW:
            raise PeerError(str(reply), retry_after=_retry_after(reply))
        if reply.status < 400 and reply.status not in _BY_OBJECT:
            raise ConfigurationError(str(reply), remedy=_WHOSE_ADDRESS)

    def _elsewhere(self, reply: _Reply) -> str:
        """The remedy for a redirect: where the server sent us, as it is given with ``--to``."""
        try:
            there = urlsplit(urljoin(f"{self._url}/", reply.headers.get("Location", "")))
            named = f"{there.scheme}://{there.hostname}{f':{there.port}' if there.port else ''}{there.path}"
        except ValueError:
            return _WHOSE_ADDRESS
        # Without the study of this request and what else may stand there: queries can hold secrets.
        before, studies, _ = named.partition("/studies/")
        named = before + studies.rstrip("/")
        printable = all(c.isprintable() for c in named)
        return f"if you trust it, send to {named} instead" if printable and there.hostname else _WHOSE_ADDRESS

    def _answers(
        self, batch: Sequence[Parcel], status: int, failed: Mapping[str, int], stored: set[str]
    ) -> Iterator[Answer]:
        """What a reply says of each object."""
        for parcel in batch:
            item = parcel.item
            reason = failed.get(item.sop_instance_uid)
            if item.sop_instance_uid in stored:
                yield Answer(item, Outcome.STORED)
            elif reason is None:
                # Answers without a word about an object come with success and with loss: the server is asked.
                there = status != 409 and self.has(item)
                yield Answer(item, Outcome.STORED if there else Outcome.FAILED, "the answer does not mention it")
            else:
                passing = reason in {0, 0x0110, 0x0213} or 0xA700 <= reason <= 0xA7FF
                outcome = Outcome.FAILED if passing else Outcome.REFUSED
                whole = reason == 0x0122
                yield Answer(item, outcome, f"failure reason {reason:04X}H", whole_class=whole)


def _told(reply: _Reply) -> tuple[dict[str, int], set[str]]:
    """What a response says of failed (with the reason) and of stored instances; nothing where it is no answer."""
    try:
        said = reply.json()
        failed = {str(_value(i, "00081155")): int(_value(i, "00081197") or 0) for i in _items(said, "00081198")}
        stored = {str(_value(i, "00081155")) for i in _items(said, "00081199")}
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}, set()
    return failed, stored


def _items(said: Any, tag: str) -> list[dict[str, Any]]:
    # Some servers put the one response into a list.
    said = said[0] if isinstance(said, list) and said else said
    return list(said.get(tag, {}).get("Value", [])) if said else []


def _value(item: dict[str, Any], tag: str) -> Any:
    values = item.get(tag, {}).get("Value", [])
    return values[0] if values else None


def _retry_after(reply: _Reply) -> float:
    """Seconds that the server asks us to wait (RFC 9110 10.2.3); 0 where it does not say."""
    said = reply.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
