"""Flags over environment over file over defaults; wrong settings say which and from where."""

from __future__ import annotations

import json

import pytest

from ecgbatch.settings import Settings, load_settings, stated


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    import os

    for name in [name for name in os.environ if name.upper().startswith("ECGBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


@pytest.fixture
def file(monkeypatch, tmp_path):
    path = tmp_path / "ecgbatch.toml"
    path.write_text('dask = "tcp://file:1"\nworkers = 3\nsettle_s = 5.0\n')
    monkeypatch.setenv("ECGBATCH_CONFIG", str(path))
    return path


def test_flags_win_over_environment_over_file_over_defaults(file, monkeypatch):
    monkeypatch.setenv("ECGBATCH_WORKERS", "2")
    monkeypatch.setenv("ECGBATCH_DASK", "tcp://environment:1")
    settings = load_settings(dask="tcp://flag:1", workers=None)
    assert (settings.dask, settings.workers, settings.settle_s) == ("tcp://flag:1", 2, 5.0)
    assert settings.wait_for_workers_s == 60.0
    told = stated(dask="tcp://flag:1")
    assert [told[name]["from"] for name in ("dask", "workers", "settle_s", "model")] == [
        "flag",
        "ECGBATCH_WORKERS",
        str(file),
        "default",
    ]


def test_usual_file_is_read_without_being_named(monkeypatch, tmp_path):
    (tmp_path / "ecgbatch").mkdir()
    (tmp_path / "ecgbatch" / "config.toml").write_text("workers = 1\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings().workers == 1


def test_secret_is_not_printed(monkeypatch):
    monkeypatch.setenv("ECGBATCH_NOTIFY_URL", "https://hooks.example/secret-token")
    assert "secret-token" not in json.dumps(stated())
    assert load_settings().notify_url.get_secret_value().endswith("secret-token")


def test_every_setting_says_what_it_means():
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = 0\n", r"'workers'.*greater than or equal to 1.*ecgbatch\.toml"),
        ("wrokers = 2\n", r"'wrokers'.*not permitted"),
        ("workers = \n", r"expected TOML"),
    ],
)
def test_wrong_file_says_what_is_wrong_and_where(file, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_settings()


def test_wrong_environment_is_named(monkeypatch):
    monkeypatch.setenv("ECGBATCH_WORKERS", "many")
    with pytest.raises(ValueError, match=r"'workers'.*from ECGBATCH_WORKERS"):
        load_settings()


def test_file_that_is_named_and_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("ECGBATCH_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ValueError, match=r"absent\.toml.*expected a TOML file"):
        load_settings()
