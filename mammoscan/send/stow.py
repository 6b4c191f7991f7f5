"""STOW-RS (PS3.18 10.5): the files as they are, in one request a study, over one kept connection."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests

from mammoscan.errors import UsageError
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mammoscan.send.destination import Destination, SendConfig

_AT_ONCE = 20  # objects in one request: bounds what is in doubt and what is held in memory
_CONFIGURATION = {400, 401, 403, 404, 405, 406, 411, 413, 415}


class _Bearer(requests.auth.AuthBase):
    """A bearer token (RFC 6750). As a mere header, requests would replace it by what ~/.netrc says of the host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Stow:
    """A DICOMweb server."""

    def __init__(self, destination: Destination, config: SendConfig) -> None:
        self._url = destination.url
        self._timeout = config.timeout
        self._session = requests.Session()
        # Given with each request: requests puts REQUESTS_CA_BUNDLE before what its session was told.
        self._trusted: str | None = str(config.ca) if config.ca is not None else None
        if config.certificate is not None:
            self._session.cert = (str(config.certificate), str(config.key or config.certificate))
        if config.token_file is not None:
            try:
                token = config.token_file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError("the token cannot be read", path=config.token_file) from error
            self._session.auth = _Bearer(token)

    def __enter__(self) -> Stow:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def send(self, items: Sequence[Item]) -> Iterator[Answer]:
        """As ``Transport.send``."""
        for _, same_study in itertools.groupby(items, key=lambda i: i.study_instance_uid):
            while batch := list(itertools.islice(same_study, _AT_ONCE)):
                yield from self._store(batch)

    def has(self, item: Item) -> bool | None:
        """As ``Transport.has``, by QIDO-RS (PS3.18 10.6)."""
        url = f"{self._url}/{item.study_instance_uid}/series/{item.series_instance_uid}/instances"
        try:
            response = self._session.get(
                url,
                params={"SOPInstanceUID": item.sop_instance_uid},
                headers={"Accept": "application/dicom+json"},
                timeout=self._timeout,
                verify=self._trusted,
            )
        except requests.RequestException as error:
            raise PeerError(_reason(error), path=self._url) from error
        if response.status_code in {204, 404}:
            return False
        if response.status_code != 200:
            return None
        try:
            return any(_value(found, "00080018") == item.sop_instance_uid for found in response.json())
        except (ValueError, AttributeError):
            return None

    def commit(self, items: Sequence[Item]) -> dict[str, bool]:  # noqa: ARG002 (the protocol's)
        """STOW-RS answers for what it stored; there is nothing further to ask."""
        return {}

    def _store(self, batch: Sequence[Item]) -> list[Answer]:
        boundary = uuid.uuid4().hex
        parts = []
        for item in batch:
            # No transfer-syntax parameter: it is optional, and servers are seen to drop parts that have one.
            parts.append(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
            parts += [item.path.read_bytes(), b"\r\n"]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        study = quote(batch[0].study_instance_uid)
        try:
            response = self._session.post(
                f"{self._url}/{study}",
                data=body,
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Accept": "application/dicom+json",
                },
                timeout=self._timeout,
                verify=self._trusted,
            )
        except requests.exceptions.SSLError as error:
            raise ConfigurationError("the TLS connection was not accepted", path=self._url) from error
        except requests.RequestException as error:
            raise PeerError(_reason(error), path=self._url) from error
        return self._answers(batch, response)

    def _answers(self, batch: Sequence[Item], response: requests.Response) -> list[Answer]:
        status = response.status_code
        if status in _CONFIGURATION:
            raise ConfigurationError(f"the server answers {status} {response.reason}", path=self._url)
        if status not in {200, 202, 409}:
            raise PeerError(f"the server answers {status} {response.reason}", path=self._url)
        failed, stored = _told(response)
        out = []
        for item in batch:
            uid = item.sop_instance_uid
            reason = failed.get(uid)
            if uid in stored:
                out.append(Answer(item, Outcome.STORED))
            elif reason is None:
                # Answers without a word about an object come with success and with loss: the server is asked.
                there = status != 409 and self.has(item)
                out.append(Answer(item, Outcome.STORED if there else Outcome.FAILED, "the answer does not mention it"))
            else:
                passing = reason == 0x0110 or 0xA700 <= reason <= 0xA7FF
                outcome = Outcome.FAILED if passing else Outcome.REFUSED
                out.append(Answer(item, outcome, f"failure reason {reason:04X}H"))
        return out


def _told(response: requests.Response) -> tuple[dict[str, int], set[str]]:
    """What a response says of failed (with the reason) and of stored instances; nothing where it is no answer."""
    try:
        said = response.json()
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


def _reason(error: requests.RequestException) -> str:
    """What happened, without the addresses that the library's messages repeat."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it was lost"
    return type(error).__name__
