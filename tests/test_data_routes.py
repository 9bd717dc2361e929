"""Where the files of an image set come from: by hand, a web server, a Debian package."""

import functools
import gzip
import http.server
import os
import socket
import threading
import time

import pytest
from data_fixtures import idx

from actsweep.config.schema import DataConfig
from actsweep.data import load, prepare, routes
from actsweep.data import tfds as our_tfds
from actsweep.utils.errors import UserError


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    with idx.isolated(tmp_path, monkeypatch):
        yield


@pytest.fixture(scope="module")
def arrays():
    return idx.draw()


def test_every_route_that_failed_is_listed_with_what_to_type(tmp_path, monkeypatch):
    def closed(name, root, work, log):
        raise routes.RouteFailed("the network is unreachable")

    monkeypatch.setattr(
        prepare,
        "ROUTES",
        (("files", routes.local_files), ("download", closed), ("Debian package", routes.debian)),
    )
    monkeypatch.setattr(routes.shutil, "which", lambda tool: None)
    with pytest.raises(UserError) as error:
        load(DataConfig(dir=str(tmp_path)))
    text = str(error.value)
    for words in (
        f"prepared folder: no {tmp_path / 'fashion_mnist' / '3.0.1'}",
        f"files: no {routes.manual_dir('fashion_mnist', tmp_path)}",
        "download: the network is unreachable",
        "Debian package: no apt-get on this machine",
        "data.dir=",
        "data=digits",
    ):
        assert words in text
    assert not (tmp_path / "fashion_mnist" / "3.0.1").exists()
    assert not list(tmp_path.glob(".actsweep-fashion_mnist-*"))


@pytest.mark.parametrize("damage", ["checksum", "gzip", "idx", "short"])
def test_a_bad_source_file_is_refused(tmp_path, arrays, damage):
    files = idx.write(routes.manual_dir("mnist", tmp_path), arrays)
    path = files / our_tfds.IDX_NAMES[0]
    raw = path.read_bytes()
    idx.register("mnist", files)
    if damage == "checksum":
        idx.flip(path)
    elif damage == "gzip":
        path.write_bytes(raw[:-30])
    else:
        plain = gzip.decompress(raw)
        path.write_bytes(gzip.compress(b"x" + plain[1:] if damage == "idx" else plain[:-1]))
    if damage != "checksum":
        idx.register("mnist", files)
    words = {"checksum": "checksum", "gzip": "gzip", "idx": "not an IDX", "short": "header says"}
    with pytest.raises(UserError, match=words[damage]):
        prepare.prepare("mnist", tmp_path)
    assert not prepare.is_prepared(tmp_path / "mnist" / "3.0.1")


def test_unknown_names():
    with pytest.raises(UserError, match="did you mean data=kmnist"):
        prepare.prepare("kmnst")


@pytest.fixture
def server(tmp_path, arrays, monkeypatch):
    """mnist's files on a local web server, where TFDS now expects them."""
    import tensorflow_datasets as tfds

    files = idx.write(tmp_path / "www", arrays)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    for key in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_address[1]}/"
        monkeypatch.setattr(tfds.image_classification.MNIST, "URL", url)
        idx.register("mnist", files)
        yield files
        web.shutdown()


def test_download(server, tmp_path, arrays, monkeypatch):
    monkeypatch.setattr(prepare, "ROUTES", (("download", routes.download),))
    decoded = prepare.arrays("mnist", tmp_path / "root")
    ours = idx.as_rows(decoded["test_images"], decoded["test_labels"])
    assert ours == idx.as_rows(*arrays["test"])


def test_a_download_that_fails_says_why(server, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "ROUTES", (("download", routes.download),))
    (server / our_tfds.IDX_NAMES[2]).unlink()
    with pytest.raises(UserError, match=r"download: http://127.*t10k-images.*404"):
        prepare.prepare("mnist", tmp_path / "root")


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(routes, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(routes, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        monkeypatch.setattr(our_tfds, "urls", lambda name: {"file": url})
        start = time.monotonic()
        with pytest.raises(routes.RouteFailed, match="no answer within"):
            routes.download("mnist", tmp_path, tmp_path, print)
        assert time.monotonic() - start < 5


def published(plain, file):
    """A gzip file as the authors of Fashion-MNIST published it: with time stamp and name."""
    stamp = 0x59A7E9DE if file.startswith("train") else 0x59A7E9F3
    name = file.removesuffix(".gz").encode()
    body = gzip.compress(plain, mtime=0)
    return body[:3] + b"\x08" + stamp.to_bytes(4, "little") + body[8:10] + name + b"\0" + body[10:]


@pytest.mark.parametrize("file", our_tfds.IDX_NAMES)
def test_the_published_gzip_header_comes_back(file):
    raw = published(b"some bytes", file)
    stripped = gzip.compress(b"some bytes", mtime=0)
    assert stripped != raw
    assert routes.restore_gzip_header(stripped, file) == raw
    assert routes.restore_gzip_header(raw, file) == raw
    assert gzip.decompress(raw) == b"some bytes"


APT = """#!/bin/sh
echo "$@" >> {log}
for word in "$@"; do last=$word; done
case "$*" in
  *" update") echo "E: some other list is closed" >&2; exit 100 ;;
  *" download "*) {download} ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/{inside}" && cp {files}/*.gz "$3/{inside}"
"""


def fake_debian(tmp_path, monkeypatch, files, download):
    tools = tmp_path / "tools"
    tools.mkdir()
    inside = routes.DEBIAN_PACKAGES["fashion_mnist"][1]
    apt = APT.format(log=tools / "log", download=download)
    for tool, text in (("apt-get", apt), ("dpkg", DPKG.format(inside=inside, files=files))):
        (tools / tool).write_text(text)
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(prepare, "ROUTES", (("Debian package", routes.debian),))
    return tools / "log"


def test_the_debian_package_needs_no_root_and_its_headers_are_mended(tmp_path, arrays, monkeypatch):
    """With stand-ins for apt-get and dpkg; one closed package list does not stop it."""
    stripped, original = tmp_path / "stripped", tmp_path / "original"
    idx.write(stripped, arrays)
    original.mkdir()
    for file in our_tfds.IDX_NAMES:
        plain = gzip.decompress((stripped / file).read_bytes())
        (original / file).write_bytes(published(plain, file))
    idx.register("fashion_mnist", original)
    log = fake_debian(tmp_path, monkeypatch, stripped, "echo deb > ${last}_0.0_all.deb")
    decoded = prepare.arrays("fashion_mnist", tmp_path / "root")
    ours = idx.as_rows(decoded["train_images"], decoded["train_labels"])
    assert ours == idx.as_rows(*arrays["train"])
    for line in log.read_text().splitlines():
        assert f"Dir::State::Lists={tmp_path / 'root'}" in line
        assert f"Dir::Cache={tmp_path / 'root'}" in line


def test_a_debian_package_that_can_not_be_had(tmp_path, monkeypatch):
    download = 'echo "E: Unable to locate package" >&2; exit 100'
    fake_debian(tmp_path, monkeypatch, tmp_path, download)
    with pytest.raises(UserError, match="Debian package: apt-get ended with 100: Unable to locate"):
        prepare.prepare("fashion_mnist", tmp_path / "root")
    with pytest.raises(routes.RouteFailed, match="no package of mnist"):
        routes.debian("mnist", tmp_path, tmp_path, print)
