"""Services and disks that refuse: their own reason is said, and what they do not have is done without."""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ecgbatch.synthetic.archive import ArchiveShape
from storage import Folder, bucket, build, folder_at, verify_store
from storage.bucket_access import access
from tests.commands import result_of, said_by
from tests.storage.refusing_s3 import refusing
from tests.storage.test_bucket import objects, s3, s3_port, use  # noqa: F401 - fixtures
from tests.storage.test_storage import plan_of, produce


@pytest.fixture(autouse=True)
def as_a_new_process():
    bucket.is_conditional.cache_clear()


@pytest.mark.parametrize("how", ["refuses", "ignores"])
def test_service_without_conditional_writes_is_used_without_and_said_once(s3, monkeypatch, capfd, how):  # noqa: F811
    wanted = objects(build("s3://ecg/as-usual", plan_of(), produce))
    assert capfd.readouterr().err == ""
    with refusing(s3, how) as endpoint:
        use(monkeypatch, endpoint)
        store = build("s3://ecg/work", plan_of(), produce)
        folder = folder_at("s3://ecg/work")
        assert folder.put_if_absent("lock", b"mine")
        assert not folder.put_if_absent("lock", b"another's")
        assert folder.read("lock") == b"mine"
        assert verify_store(store, read_data=True) == []
        assert objects(store) == wanted
        assert [key for key, _ in folder.files(".build")] == []
    said = capfd.readouterr().err
    assert said.count(f"this service {how} conditional writes") == said.count("run one at a time there") >= 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [("expired", "ExpiredToken: .*over, x; fetch new"), ("skewed", "RequestTimeTooSkewed: .*set this machine")],
)
def test_reason_of_the_service_is_said_first_uncut_and_at_once(s3, monkeypatch, how, reason):  # noqa: F811
    with refusing(s3, how) as endpoint:
        use(monkeypatch, endpoint)
        for ask in (
            lambda place: place.read("x"),
            lambda place: place.put("x", b""),
            lambda place: place.put_if_absent("x", b""),
        ):
            with pytest.raises(PermissionError, match=rf"^s3://ecg/work/\S+: {reason}"):
                ask(folder_at("s3://ecg/work"))


def test_certificate_that_does_not_do_is_said_at_once(tmp_path, monkeypatch):
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *subject]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    monkeypatch.setattr(HTTPServer, "handle_error", lambda *_: None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        use(monkeypatch, f"https://127.0.0.1:{server.server_port}")
        with pytest.raises(
            PermissionError, match=r"s3://ecg/x: certificate of the service: CaUsedAsEndEntity; .*authority is not known here"
        ):
            folder_at("s3://ecg").read("x")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        bucket._store.cache_clear()


def test_profile_gives_keys_region_and_endpoint_and_the_environment_wins(tmp_path, monkeypatch, s3):  # noqa: F811
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    ward = f"[profile ward]\nregion = eu-central-1\nendpoint_url = {endpoint}\n"
    (tmp_path / "config").write_text(f"{ward}[profile sso]\nsso_session = x\n")
    (tmp_path / "credentials").write_text("[ward]\naws_access_key_id = AKIA\naws_secret_access_key = secret\n")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "ward")
    bucket._store.cache_clear()
    folder_at("s3://ecg/work").put("x", b"by profile")
    assert folder_at("s3://ecg/work").read("x") == b"by profile"
    assert access()["AWS_REGION"] == "eu-central-1"
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert access()["AWS_REGION"] == "us-west-2"
    monkeypatch.setenv("AWS_PROFILE", "sso")
    with pytest.raises(ValueError, match="export-credentials --profile sso"):
        access()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ValueError, match="AWS_PROFILE=nobody: expected a profile"):
        access()


def test_profile_of_a_user_without_home_is_one_sentence(monkeypatch):
    def no_entry(*_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "AWS_CONFIG_FILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    monkeypatch.setenv("AWS_PROFILE", "ward")
    with pytest.raises(ValueError, match=r"AWS_PROFILE=ward: .*this user has none: name it by AWS_CONFIG_FILE"):
        access()


@pytest.mark.parametrize("place", ["gs://b/w", "s3a://b/w", "S3://b/w", "az://b", "file:///tmp/w", "s3:b/w", "gs:b"])
def test_address_of_another_kind_is_refused_and_makes_no_folder(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archive").mkdir()
    for command in (
        ["convert", "archive", place],
        ["convert", place, "work"],
        ["schedule", "archive", place, "--cron", "* * * * *"],
    ):
        code, _, error = said_by(*command)
        assert code == 2
        assert "s3://bucket/prefix" in error
        assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    with pytest.raises(ValueError, match=r"s3://bucket/prefix"):
        folder_at(place)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_disk_without_links_takes_a_whole_run(tmp_path, monkeypatch, error):
    from ecgbatch.synthetic.archive import write_archive

    def refuse(*_args, **_options):
        raise OSError(error, os.strerror(error))

    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=10.0), seed=8)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    for _ in range(2):
        result_of("run", tmp_path / "archive", tmp_path / "work")
    latest = tmp_path / "work" / "reports" / "latest"
    assert latest.is_file()
    assert not latest.is_symlink()
    assert (latest.parent / Folder(tmp_path / "work").pointed("reports/latest") / "cohort.html").is_file()
    assert result_of("verify", tmp_path / "work")["n_problems"] == 0
    assert not list(tmp_path.glob("work/**/*.partial"))


def test_a_name_is_given_to_one_writer_only_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    for key in map(str, range(20)):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda number, key=key: Folder(tmp_path).put_if_absent(key, b"%d" % number), range(8)))
        assert sum(won) == 1
        assert Folder(tmp_path).read(key) == b"%d" % won.index(True)
    monkeypatch.setattr(sys.modules["storage.folder"], "CLAIM_S", 0.2)
    (tmp_path / "dead.claim.partial").mkdir()
    began = time.process_time()
    assert Folder(tmp_path).put_if_absent("dead", b"x")
    assert time.process_time() - began < 10
