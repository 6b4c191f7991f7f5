"""STOW-RS on the wire: what leaves us, and how answers are read that servers of the field give."""

import contextlib
import email
import http.server
import json
import threading
from pathlib import Path

import pytest

from mammoscan.send import stow
from mammoscan.send.destination import SendConfig, parse
from mammoscan.send.transport import Item, Outcome, Parcel, PeerError

PDF = "1.2.840.10008.5.1.4.1.1.104.1"
NOT_SUPPORTED = 0x0122  # SOP class not supported (PS3.18 table I.2-2)


class Server:
    """Answers each POST with the next of ``answers`` (status, Content-Type, body) and every query with 204."""

    def __init__(self, *answers, endless=False):
        self.requests = []  # method, path, headers, body
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.keep(b"")
                self.send_response(204)
                self.end_headers()

            def do_POST(self):
                self.keep(self.rfile.read(int(self.headers["Content-Length"])))
                status, kind, content = answers[min(server.posts(), len(answers)) - 1]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(1 << 40 if endless else len(content)))
                self.end_headers()
                self.wfile.write(content)
                with contextlib.suppress(OSError):
                    while endless and not server.stop.wait(0.05):
                        self.wfile.write(b" ")
                        self.wfile.flush()

            def keep(self, body):
                server.requests.append((self.command, self.path, self.headers, body))

            def log_message(self, *_):
                pass

        self.stop = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"

    def posts(self):
        return sum(command == "POST" for command, *_ in self.requests)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()


def _parcel(number, content=b"x", study="1.2.3"):
    return Parcel(
        Item(Path(f"{number}.dcm"), f"{number}.dcm", str(number), PDF, f"1.9.{number}", "1.4", study), content
    )


def _send(server, *parcels, timeout=5.0):
    config = SendConfig(timeout=timeout)
    with stow.Stow(parse(f"http://{server.place}/dicom-web/studies"), config) as peer:
        return list(peer.send(parcels))


def _said(failed=(), stored=()):
    """A response to store, in the DICOM JSON model (PS3.18 10.5.3)."""

    def reference(uid, **more):
        return {"00081150": {"vr": "UI", "Value": [PDF]}, "00081155": {"vr": "UI", "Value": [uid]}, **more}

    out = {}
    if failed:
        reason = {"00081197": {"vr": "US", "Value": [NOT_SUPPORTED]}}
        out["00081198"] = {"vr": "SQ", "Value": [reference(uid, **reason) for uid in failed]}
    if stored:
        out["00081199"] = {"vr": "SQ", "Value": [reference(uid) for uid in stored]}
    return out


def test_objects_leave_as_their_files_are_each_request_under_a_boundary_of_its_own():
    # Line ends, a line of dashes and an empty preamble are content like any other.
    contents = [b"\r\n--\r\nDICM", bytes(range(256)) * 10, b"--\r\n\r\n", b"\n" * 3]
    parcels = [_parcel(n, content, study=f"1.2.{n // 2}") for n, content in enumerate(contents)]
    answers = [json.dumps(_said(stored=[p.item.sop_instance_uid for p in parcels])).encode()]
    with Server((200, "application/dicom+json", *answers)) as server:
        assert [answer.outcome for answer in _send(server, *parcels)] == [Outcome.STORED] * 4
    boundaries = set()
    for (_, path, headers, body), some, study in zip(server.requests, (contents[:2], contents[2:]), "01", strict=True):
        assert path == f"/dicom-web/studies/1.2.{study}"
        assert headers["Host"] == server.place
        said = headers["Content-Type"]
        whole = email.message_from_bytes(f"Content-Type: {said}\r\n\r\n".encode() + body)
        assert whole.get_content_type() == "multipart/related"
        assert whole.get_param("type") == "application/dicom"
        assert [part.get_content_type() for part in whole.get_payload()] == ["application/dicom"] * 2
        boundary = whole.get_boundary()
        head = b"Content-Type: application/dicom\r\n\r\n"
        parts = body.split(f"--{boundary}".encode())
        assert parts[1:-1] == [b"\r\n" + head + content + b"\r\n" for content in some]
        boundaries.add(boundary)
    assert len(boundaries) == 2


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(
    "kind", ["application/dicom+json", "application/dicom+json; charset=utf-8", "Application/JSON"]
)
@pytest.mark.parametrize("listed", [False, True])
def test_an_object_that_failed_is_told_whatever_stands_around_the_answer(status, kind, listed):
    said = _said(failed=["1.9.1"], stored=["1.9.2"])
    with Server((status, kind, json.dumps([said] if listed else said).encode())) as server:
        first, second = _send(server, _parcel(1), _parcel(2))
    assert (first.outcome, first.detail, first.whole_class) == (Outcome.REFUSED, "failure reason 0122H", True)
    assert second.outcome is Outcome.STORED
    assert [command for command, *_ in server.requests] == ["POST"]


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("content", [b"<html>please log in</html>", b"", b"{}", b"[[]]", b"null", b'{"00081199": 3}'])
def test_an_answer_that_says_nothing_is_no_success_where_the_server_lacks_the_object(status, content):
    with Server((status, "text/html", content)) as server:
        (answer,) = _send(server, _parcel(1))
    assert answer.outcome is Outcome.FAILED
    assert [command for command, *_ in server.requests] == ["POST", "GET"]


def test_an_answer_without_an_end_is_given_up():
    server = Server((200, "application/dicom+json", b"{"), endless=True)
    with server, pytest.raises(PeerError, match="does not end"):
        _send(server, _parcel(1), timeout=0.5)
