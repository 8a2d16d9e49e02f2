"""Downloads: by https only, bounded, checked, and to where the caller says."""

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from mixacm_plugin import dm_wide_resnet, robust_teacher
from mixacm_plugin.common import downloads
from mixacm_plugin.common.checkpoints import CheckpointError, load_checkpoint
from mixacm_plugin.common.downloads import DownloadError, download, file_name

CONTENT = bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Answers by the name of the file that is asked for."""

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if name == "missing":
            self.send_error(404)
            return
        self.send_response(302 if name == "away" else 200)
        if name == "away":
            self.send_header("Location", "ftp://example.invalid/a.pt")
        if name in ("whole", "cut"):
            length = len(CONTENT) * (2 if name == "cut" else 1)
            self.send_header("Content-Length", str(length))
        if name == "named":
            self.send_header("Content-Disposition", "attachment; filename=../../elsewhere.pt")
        if name == "announced":
            self.send_header("Content-Length", str(10**9))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine, which speaks http, so that it is allowed here."""
    monkeypatch.setattr(downloads, "SCHEMES", ("http",))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/files"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["whole", "of unknown length", "named"])
@pytest.mark.parametrize("sha256", [None, SHA256, SHA256[:8]])
def test_a_file_comes_as_it_is_and_to_where_the_caller_says(name, sha256, server):
    download(f"{server}/{name}".replace(" ", "%20"), "folder/mine.pt", sha256)
    assert Path("folder/mine.pt").read_bytes() == CONTENT
    assert os.listdir("folder") == ["mine.pt"]
    assert os.listdir() == ["folder"]


@pytest.mark.parametrize(
    "name, sha256, words",
    [
        ("whole", "00" * 32, f"has sha256 {SHA256}, not 0000"),
        ("cut", None, "ended after 1,024 of 2,048 bytes"),
        ("missing", None, r"can't download .* \(Not Found\)"),
        ("announced", None, "is larger than 9,999 bytes"),
        ("away", None, "ftp://example.invalid/a.pt isn't https"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused_and_leaves_the_old_file(
    name, sha256, words, server, monkeypatch
):
    monkeypatch.setattr(downloads, "LARGEST", 9_999)
    Path("mine.pt").write_text("old")
    with pytest.raises(DownloadError, match=words) as error:
        download(f"{server}/{name}", "mine.pt", sha256)
    assert "\n" not in str(error.value)
    assert Path("mine.pt").read_text() == "old"
    assert os.listdir() == ["mine.pt"]


def test_a_file_larger_than_announced_is_refused(server, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 1_000)
    with pytest.raises(DownloadError, match="is larger than 1,000 bytes"):
        download(f"{server}/of%20unknown%20length", "mine.pt")
    assert not os.listdir()


@pytest.mark.parametrize("url", ["http://example.invalid/a.pt", "ftp://a/b.pt", "file:///etc/a.pt"])
def test_other_schemes_are_refused_before_anything_is_asked_for(url):
    with pytest.raises(DownloadError, match="isn't https"):
        download(url, "mine.pt")


def test_a_server_that_is_not_there_is_told_in_a_line():
    with pytest.raises(
        DownloadError, match=r"can't download https://127\.0\.0\.1:1/a\.pt"
    ) as error:
        download("https://127.0.0.1:1/a.pt", "mine.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "end", ["a.pt", "x/a.pt?b=/c", "..%2f..%2fa.pt", "%5c..%5Ca.pt", "a.pt#/etc/passwd"]
)
def test_a_files_name_is_never_a_path(end):
    assert file_name(f"https://example.invalid/{end}") == "a.pt"


@pytest.mark.parametrize("end", ["", "/", "..", "a/%2e%2e", "a%00b"])
def test_a_url_without_a_files_name_gets_one(end):
    assert file_name(f"https://example.invalid/{end}") == "download"


def test_checkpoints_and_teachers_are_not_downloaded_by_http(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    url = "http://example.invalid/a.pt"
    with pytest.raises(CheckpointError, match="isn't https"):
        load_checkpoint(url)
    with pytest.raises(CheckpointError, match=r"isn't https.*or give checkpoint: FILE"):
        robust_teacher("gowal2020_wrn28_10_extra", url)
    assert not os.listdir()


def test_a_checkpoint_is_downloaded_once(server, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    state = dm_wide_resnet(10, 1).state_dict()
    torch.save(state, "source.pt")
    monkeypatch.setattr(f"{__name__}.CONTENT", Path("source.pt").read_bytes())
    for _ in range(2):
        assert list(load_checkpoint(f"{server}/model.pt")) == list(state)
        monkeypatch.setattr(f"{__name__}.CONTENT", b"changed since")
    assert os.listdir("hub/checkpoints") == ["model.pt"]
