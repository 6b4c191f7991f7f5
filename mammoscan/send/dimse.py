"""C-STORE (PS3.4 B) over one association, with C-FIND for what is in doubt and storage commitment (PS3.4 J)."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import socket
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from mammoscan.core import implementation
from mammoscan.send import credentials
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, Parcel, PeerError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pynetdicom.association import Association

    from mammoscan.send.destination import Destination, SendConfig

log = logging.getLogger(__name__)

COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root
# Ours are uncompressed: every peer takes one of these (PS3.5 10.1).
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
COMMIT_WAIT = 10.0  # seconds for the answer, which may come later on an association of the peer's own
_WARNINGS = {0x0107, 0x0116, 0xB000, 0xB006, 0xB007}  # stored, with a remark
# The peer would say the same again (PS3.7 C, PS3.4 B.2.3): invalid or duplicate instances, classes and attributes that
# it does not know, no authorization, data that do not fit their class or that it cannot understand.
_FOR_GOOD = {
    0x0105, 0x0106, 0x0111, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0124,
    *range(0xA900, 0xAA00), *range(0xC000, 0xD000),
}  # fmt: skip
_WHEN_LOST = "check that the peer runs and is a DICOM node, and its log"
_NO_SUCH_CLASS = {0x0118, 0x0122}


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a name leads to, as ``socket`` puts it."""

    family: int
    where: Any


class Dimse:
    """A C-STORE peer. classes: the SOP classes of all that this folder may ever send there."""

    def __init__(self, destination: Destination, config: SendConfig, classes: Collection[str]) -> None:
        self._to = destination
        self._config = config
        self._classes = sorted(classes)
        self._association: Association | None = None
        self._connected = False
        self._server: Any = None
        self._reported: dict[str, dict[str, bool]] = {}  # transaction to SOPInstanceUID to success
        self._news = threading.Condition()

    def __enter__(self) -> Dimse:
        tls = credentials.tls_context(self._config) if self._config.tls else None
        addresses = _addresses(self._to)
        ae = AE(ae_title=self._config.calling)
        ae.implementation_class_uid = implementation.CLASS_UID
        ae.implementation_version_name = implementation.VERSION_NAME
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._config.timeout
        ae.connection_timeout = self._config.timeout
        handlers = [(evt.EVT_N_EVENT_REPORT, self._report), (evt.EVT_CONN_OPEN, self._bound)]
        try:
            if self._config.commit_port:
                self._listen(handlers[:1])
            self._association = self._associate(ae, addresses, handlers, tls)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def send(self, parcels: Iterable[Parcel]) -> Iterator[Answer]:
        """As ``Transport.send``."""
        for parcel in parcels:
            item = parcel.item
            if not self._accepts(item.sop_class_uid):
                yield Answer(item, Outcome.REFUSED, "the peer does not accept this SOP class", whole_class=True)
                continue
            try:
                dataset = dcmread(io.BytesIO(parcel.content))
            except Exception as error:  # noqa: BLE001 (pydicom raises many kinds; all mean the same here)
                log.warning("%s: cannot be read: %s", item.relative, type(error).__name__)
                yield Answer(item, Outcome.FAILED, "it cannot be read")
                continue
            try:
                status = self._peer.send_c_store(dataset)
            except (AttributeError, ValueError):  # said before anything is sent
                yield Answer(item, Outcome.FAILED, "it cannot be encoded as the peer wants it")
                continue
            except (RuntimeError, OSError) as error:
                raise PeerError("the association was lost", remedy=_WHEN_LOST) from error
            if "Status" not in status:
                raise PeerError("no answer in time, or the association was lost", remedy=_WHEN_LOST)
            yield _answer(item, int(status.Status))

    def has(self, item: Item) -> bool | None:
        """As ``Transport.has``, by C-FIND at the level of images."""
        if not self._accepts(FIND):
            return None
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = item.study_instance_uid, item.series_instance_uid
        query.SOPInstanceUID = item.sop_instance_uid
        found = False
        try:
            for status, identifier in self._peer.send_c_find(query, FIND):
                code = int(status.Status) if "Status" in status else None
                if code in {0xFF00, 0xFF01}:
                    found |= identifier is not None and identifier.get("SOPInstanceUID") == item.sop_instance_uid
                elif code == 0x0000:
                    return found
                else:
                    return None
        except (RuntimeError, ValueError) as error:
            raise PeerError("the association was lost", remedy=_WHEN_LOST) from error
        return None

    def commit(self, items: Sequence[Item]) -> dict[str, bool]:
        """As ``Transport.commit``: N-ACTION, and the report on this association or on one of the peer's own."""
        if not self._accepts(COMMITMENT):
            return {}
        transaction = f"2.25.{uuid.uuid4().int}"
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = Items()
        for item in items:
            reference = Dataset()
            reference.ReferencedSOPClassUID = item.sop_class_uid
            reference.ReferencedSOPInstanceUID = item.sop_instance_uid
            request.ReferencedSOPSequence.append(reference)
        try:
            status, _ = self._peer.send_n_action(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
        except (RuntimeError, ValueError) as error:
            log.warning("%s: storage commitment could not be asked for: %s", self._to.text, type(error).__name__)
            return {}
        if "Status" not in status or int(status.Status) != 0:
            log.warning("%s: no storage commitment for us", self._to.text)
            return {}
        deadline = time.monotonic() + min(COMMIT_WAIT, self._config.timeout)
        with self._news:
            while transaction not in self._reported and (left := deadline - time.monotonic()) > 0:
                self._news.wait(left)
            return self._reported.pop(transaction, {})

    @property
    def _peer(self) -> Association:
        if self._association is None or not self._association.is_established:
            raise PeerError("the association was lost", remedy=_WHEN_LOST)
        return self._association

    def _accepts(self, sop_class: str) -> bool:
        return any(c.abstract_syntax == sop_class for c in self._peer.accepted_contexts)

    def _report(self, event: Any) -> tuple[int, None]:
        """N-EVENT-REPORT: success (1) or failures (2) of a transaction (PS3.4 J.3.3)."""
        said = event.event_information
        outcome = {str(i.ReferencedSOPInstanceUID): True for i in said.get("ReferencedSOPSequence") or ()}
        outcome |= {str(i.ReferencedSOPInstanceUID): False for i in said.get("FailedSOPSequence") or ()}
        with self._news:
            self._reported[str(said.get("TransactionUID", ""))] = outcome
            self._news.notify_all()
        return 0x0000, None

    def _bound(self, event: Any) -> None:
        """Give a new connection a limit: the library would wait for ever for a peer that stops in the middle."""
        self._connected = True
        event.assoc.dul.socket.socket.settimeout(self._config.timeout)

    def _associate(
        self, ae: AE, addresses: Sequence[_Address], handlers: list[Any], tls: ssl.SSLContext | None
    ) -> Association:
        """The association by the first address where somebody answers."""
        contexts = [build_context(c, SYNTAXES) for c in (*self._classes, FIND, COMMITMENT)]
        why = PeerError("the peer could not be reached")
        for address in addresses:
            began = time.monotonic()
            try:
                association = ae.associate(
                    _for_library(address),
                    self._to.port,
                    contexts=contexts,
                    ae_title=self._to.title,
                    evt_handlers=handlers,
                    tls_args=(tls, self._to.host) if tls else None,
                )
            except OSError as error:  # no socket of this family
                why = PeerError(f"no connection: {error.strerror or error}")
                continue
            if association.is_established:
                return association
            if self._connected:
                raise _not_established(association)
            late = time.monotonic() - began >= self._config.timeout
            why = PeerError("no answer in time", remedy=_WHEN_LOST) if late else self._why_not(address, tls)
        raise why

    def _why_not(self, address: _Address, tls: ssl.SSLContext | None) -> PeerError:
        """Why there is no connection. The library tells only its log, so it is tried once more."""
        try:
            with socket.socket(address.family, socket.SOCK_STREAM) as plain:
                plain.settimeout(self._config.timeout)
                plain.connect(address.where)
                if tls is not None:
                    tls.wrap_socket(plain, server_hostname=self._to.host).close()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return PeerError("the TLS connection was closed", remedy="check that the peer speaks TLS at this port")
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "unknown reason"
            return ConfigurationError(
                f"the TLS connection was not accepted: {reason}",
                remedy="check --tls-ca, the host name, and that the peer speaks TLS at this port",
            )
        except TimeoutError:
            return PeerError("no answer in time", remedy=_WHEN_LOST)
        except OSError as error:
            return PeerError(
                f"no connection: {error.strerror or error}", remedy="check host and port, and that the peer runs"
            )
        return PeerError("the connection was lost", remedy=_WHEN_LOST)

    def _listen(self, handlers: list[Any]) -> None:
        own = AE(ae_title=self._config.calling)
        own.add_supported_context(COMMITMENT, SYNTAXES, scu_role=False, scp_role=True)
        own.add_supported_context("1.2.840.10008.1.1", SYNTAXES)
        own.require_called_aet = True
        try:
            self._server = own.start_server(("", self._config.commit_port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigurationError(
                f"port {self._config.commit_port} cannot be listened on: {error.strerror}",
                remedy="choose another --commit-port",
            ) from error

    def _close(self) -> None:
        if self._association is not None and self._association.is_established:
            with contextlib.suppress(RuntimeError):
                self._association.release()
        if self._server is not None:
            self._server.shutdown()
            self._server = None


def _answer(item: Item, code: int) -> Answer:
    """What a status of C-STORE means (PS3.4 B.2.3, PS3.7 C)."""
    if code == 0x0000 or code in _WARNINGS:
        return Answer(item, Outcome.STORED, f"warning {code:04X}H" if code else "")
    outcome = Outcome.REFUSED if code in _FOR_GOOD else Outcome.FAILED
    return Answer(item, outcome, f"status {code:04X}H", whole_class=code in _NO_SUCH_CLASS)


def _addresses(to: Destination) -> list[_Address]:
    """All addresses of a peer.

    Raises
    ------
    PeerError
        When its name cannot be resolved.
    """
    remedy = "check the host name, and the name service of this machine"
    try:
        found = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        kind = PeerError if error.errno == socket.EAI_AGAIN else ConfigurationError
        raise kind(f"the name {to.host} cannot be resolved: {error.strerror}", remedy=remedy) from error
    except ValueError as error:  # UnicodeError: labels that are empty or too long
        raise ConfigurationError(f"{to.host} is no host name", remedy=remedy) from error
    except OSError as error:
        raise PeerError(f"the name {to.host} cannot be resolved: {error.strerror}", remedy=remedy) from error
    return list(dict.fromkeys(_Address(int(family), where) for family, _, _, _, where in found))


def _for_library(address: _Address) -> str | tuple[str, int, int]:
    """An address as pynetdicom takes it, which tells the families by their dots."""
    if address.family != socket.AF_INET6:
        return str(address.where[0])
    name, _, flow, scope = address.where
    mapped = ipaddress.IPv6Address(name).ipv4_mapped
    return str(mapped) if mapped else (name, flow, scope)


def _not_established(association: Association) -> PeerError:
    if association.is_rejected:
        answer = association.acceptor.primitive
        permanent = answer is not None and answer.result == 0x01
        reason = f"the association was rejected{': ' + answer.reason_str if answer is not None else ''}"
        if permanent:
            return ConfigurationError(reason, remedy="check both AE titles, and that the peer knows ours")
        return PeerError(reason)
    answer = association.acceptor.primitive
    if answer is not None and answer.result == 0x00:
        # The library ends an association without a presentation context by itself.
        return ConfigurationError(
            "the peer accepts none of the SOP classes of the results",
            remedy="check both AE titles and what the peer takes from ours, or choose other kinds with --write",
        )
    return PeerError("the association was aborted or not answered", remedy=_WHEN_LOST)
