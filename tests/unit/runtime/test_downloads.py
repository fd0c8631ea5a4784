"""Downloads: checked, resumed, and helpful where they fail; served by this machine alone."""

import gzip
import hashlib
import http.server
import random
import subprocess
import threading
from types import SimpleNamespace

import pytest

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import wheels
from ctrlrec.runtime.downloads import fetch
from ctrlrec.runtime.wheels import fetch_wheel

CONTENT = gzip.compress(random.Random(0).randbytes(5_000_000), mtime=0)


@pytest.fixture
def server():
    """Serves CONTENT as /file.gz, with ranges; breaks the connection after ``limit`` bytes while that is set."""
    state = SimpleNamespace(limit=None, ranges=[], ignore_ranges=False, encoding=None)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/file.gz":
                return self.send_error(404)
            asked = self.headers.get("Range", "bytes=0-")
            state.ranges.append(asked)
            start = 0 if state.ignore_ranges else int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                return self.end_headers()
            body = CONTENT[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if state.encoding:
                self.send_header("Content-Encoding", state.encoding)
            self.end_headers()
            self.wfile.write(body[: state.limit] if state.limit else body)
            return None

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_port}/file.gz"
        yield state
        running.shutdown()


def sha(data=CONTENT):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_file_is_fetched_once_and_kept(server, tmp_path):
    path = fetch(server.url, sha(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch(server.url, sha(), tmp_path) == path
    assert len(server.ranges) == 1


@pytest.mark.parametrize("encoding", [None, "x-gzip"])
@pytest.mark.parametrize("ignore_ranges", [False, True])
def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path, ignore_ranges, encoding):
    """Also where a server calls what the file is packed in an encoding of its own."""
    server.limit, server.encoding = 1 << 20, encoding
    with pytest.raises(CtrlRecError, match=r"could not be downloaded .*run again to continue"):
        fetch(server.url, sha(), tmp_path)
    assert not (tmp_path / "downloads" / "file.gz").exists()
    server.limit, server.ignore_ranges = None, ignore_ranges
    assert fetch(server.url, sha(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=0-", *(f"bytes={n << 20}-" for n in (1, 2, 3))]


@pytest.mark.parametrize(("there", "asked"), [(CONTENT, 1), (CONTENT + b"more", 2)])
def test_what_is_there_must_be_a_part_of_the_file(server, tmp_path, there, asked):
    """Whole already, the connection broke after the last byte; or longer, of an earlier edition of the file."""
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "file.gz.part").write_bytes(there)
    assert fetch(server.url, None, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(there)}-", "bytes=0-"][:asked]


def test_another_file_than_expected_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(CtrlRecError, match="not the file it should be"):
        fetch(server.url, sha(b"other"), tmp_path)
    assert not (tmp_path / "downloads" / "file.gz").exists()
    assert fetch(server.url, sha(), tmp_path).read_bytes() == CONTENT


def test_a_missing_address_says_what_to_do(server, tmp_path):
    with pytest.raises(CtrlRecError, match=r"404.*set dataset\.path"):
        fetch(server.url.replace("file", "gone"), None, tmp_path)


def test_a_wheel_is_checked_and_kept(tmp_path, monkeypatch):
    def pip(command, **_):
        target = command[command.index("--dest") + 1]
        (tmp_path / target / "some_data-1.0-py3-none-any.whl").write_bytes(b"wheel")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    digest = hashlib.sha256(b"wheel").hexdigest()
    path = fetch_wheel("some-data", "1.0", digest, tmp_path)
    assert path.read_bytes() == b"wheel"
    monkeypatch.setattr(wheels, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetch_wheel("some-data", "1.0", digest, tmp_path) == path
    with pytest.raises(CtrlRecError, match=rf"sha256 is {digest}, expected 00; delete the file"):
        fetch_wheel("some-data", "1.0", "00", tmp_path)


def test_without_an_index_the_command_to_run_by_hand_is_named(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        CtrlRecError, match=r"No matching distribution.*pip download --no-deps recbole==1\.2\.1.*dataset\.path="
    ):
        fetch_wheel("recbole", "1.2.1", "00", tmp_path)
