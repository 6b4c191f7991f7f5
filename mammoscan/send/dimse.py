"""C-STORE (PS3.4 B) over one association, with C-FIND for what is in doubt and storage commitment (PS3.4 J)."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from mammoscan.errors import UsageError
from mammoscan.report.sr_common import IMPLEMENTATION
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pynetdicom.association import Association

    from mammoscan.send.destination import Destination, SendConfig

log = logging.getLogger(__name__)

COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root
# Ours are uncompressed: every peer takes one of these (PS3.5 10.1).
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
COMMIT_WAIT = 10.0  # seconds for the answer, which may come later on an association of the peer's own
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_TRY_AGAIN = {0x0110, 0x0213, *_OUT_OF_RESOURCES}  # processing failure, resource limitation (PS3.7 C)
_WARNINGS = {0x0107, 0x0116, 0xB000, 0xB006, 0xB007}  # stored, with a remark


class Dimse:
    """A C-STORE peer."""

    def __init__(self, destination: Destination, config: SendConfig, items: Sequence[Item]) -> None:
        self._to = destination
        self._config = config
        self._classes = sorted({i.sop_class_uid for i in items})
        self._association: Association | None = None
        self._server: Any = None
        self._reported: dict[str, dict[str, bool]] = {}  # transaction to SOPInstanceUID to success
        self._news = threading.Condition()

    def __enter__(self) -> Dimse:
        tls = _tls(self._config)
        ae = AE(ae_title=self._config.calling)
        ae.implementation_class_uid, ae.implementation_version_name = IMPLEMENTATION, "MAMMOSCAN"
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._config.timeout
        ae.connection_timeout = self._config.timeout
        contexts = [build_context(c, SYNTAXES) for c in (*self._classes, FIND, COMMITMENT)]
        handlers = [(evt.EVT_N_EVENT_REPORT, self._report)]
        if self._config.commit_port:
            self._listen(handlers)
        association = ae.associate(
            self._to.host,
            self._to.port,
            contexts=contexts,
            ae_title=self._to.title,
            evt_handlers=handlers,
            tls_args=(tls, self._to.host) if tls else None,
        )
        if not association.is_established:
            self._close()
            raise _not_established(association, self._to)
        self._association = association
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def send(self, items: Sequence[Item]) -> Iterator[Answer]:
        """As ``Transport.send``."""
        accepted = {c.abstract_syntax for c in self._peer.accepted_contexts}
        for item in items:
            if item.sop_class_uid not in accepted:
                yield Answer(item, Outcome.REFUSED, f"the peer does not accept SOP class {item.sop_class_uid}")
                continue
            try:
                status = self._peer.send_c_store(dcmread(item.path))
            except (RuntimeError, ValueError, OSError) as error:
                raise PeerError("the association was lost", path=self._to.text) from error
            if "Status" not in status:
                raise PeerError("no answer in time, or the association was lost", path=self._to.text)
            code = int(status.Status)
            if code == 0x0000 or code in _WARNINGS:
                yield Answer(item, Outcome.STORED, f"warning {code:04X}H" if code else "")
            elif code in _TRY_AGAIN:
                yield Answer(item, Outcome.FAILED, f"status {code:04X}H")
            else:
                yield Answer(item, Outcome.REFUSED, f"status {code:04X}H")

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
            raise PeerError("the association was lost", path=self._to.text) from error
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
            raise PeerError("the association was lost", path=self._to.text)
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

    def _listen(self, handlers: list[Any]) -> None:
        own = AE(ae_title=self._config.calling)
        own.add_supported_context(COMMITMENT, SYNTAXES, scu_role=False, scp_role=True)
        own.add_supported_context("1.2.840.10008.1.1", SYNTAXES)
        own.require_called_aet = True
        try:
            self._server = own.start_server(("", self._config.commit_port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise UsageError(
                f"port {self._config.commit_port} cannot be listened on: {error.strerror}", remedy="choose another"
            ) from error

    def _close(self) -> None:
        if self._association is not None and self._association.is_established:
            with contextlib.suppress(RuntimeError):
                self._association.release()
        if self._server is not None:
            self._server.shutdown()
            self._server = None


def _not_established(association: Association, to: Destination) -> PeerError:
    if association.is_rejected:
        answer = association.acceptor.primitive
        permanent = answer is not None and answer.result == 0x01
        reason = f"the association was rejected{': ' + answer.reason_str if answer is not None else ''}"
        return (ConfigurationError if permanent else PeerError)(
            reason, path=to.text, remedy="check both AE titles" if permanent else ""
        )
    if association.is_aborted:
        return PeerError("the connection was aborted or not answered", path=to.text)
    return PeerError("the peer could not be reached", path=to.text)


def _tls(config: SendConfig) -> ssl.SSLContext | None:
    """TLS 1.2 and above with the peer's certificate checked (PS3.15 B.12)."""
    if not config.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate is not None:
            context.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"TLS cannot be set up: {error}", remedy="check --tls-ca, --tls-cert and --tls-key") from error
    return context
