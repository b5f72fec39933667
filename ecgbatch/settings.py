"""Settings in one place: flags win over environment (``ECGBATCH_*``), over a TOML file, over defaults."""

from __future__ import annotations

import os
import re
import tomllib
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

PREFIX = "ECGBATCH_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Environment variable that names the TOML file; without it ``~/.config/ecgbatch/config.toml`` is read if it is there."""


class Settings(BaseSettings):
    """Everything that may be set without being an argument of one command; each field's description is its documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True)

    dask: str | None = Field(None, description="Dask scheduler, tls://host:port, or tcp:// on this machine; empty: threads here")
    workers: int | None = Field(None, ge=1, description="threads (training: processes) here; empty: the processors")
    dask_without_tls: bool = Field(
        False,
        description="accept tcp:// to another host: whoever reaches that scheduler runs any code there and reads the records",
    )
    tls_ca_file: Path | None = Field(None, description="certificate authority of a tls:// cluster (PEM)")
    tls_cert: Path | None = Field(None, description="this client's certificate (PEM)")
    tls_key: Path | None = Field(None, description="this client's private key (PEM)")
    wait_for_workers_s: float = Field(60.0, gt=0, description="seconds a cluster may be without any worker; raise it for queues")
    labels: Path | None = Field(None, description="label table (CSV) for run and convert")
    model: Path | None = Field(None, description="folder of the model that run scores with; empty: the one that ships")
    settle_s: float = Field(0.0, ge=0, description="a record with a file changed less than this many seconds ago waits a run")
    stop_within_s: float = Field(25.0, gt=0, description="after SIGTERM, seconds until the process ends whatever it does")
    notify_url: SecretStr | None = Field(None, description="webhook: gets a JSON object by POST when a night needs attention")
    notify_command: str | None = Field(None, description="command: gets the same JSON on standard input")
    pages: Literal["all", "called", "none"] | None = Field(
        None, description="records that get a page of their own: all, called, none; empty: all up to 2,000 records, called above"
    )
    set_aside_threshold: float = Field(0.1, ge=0, le=1, description="share of records set aside that needs attention")
    drift_threshold: float = Field(
        0.2, ge=0, le=1, description="distance (Kolmogorov-Smirnov) of new scores from earlier ones that needs attention"
    )
    log_json: bool = Field(False, description="logs of runs (WORK/runs/*.log) as one JSON object a line")
    fetch_connections: int = Field(4, ge=1, le=16, description="files that fetch downloads at a time")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; a file beside the program (.env) is none of them."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())


def config_file() -> Path | None:
    """Return the TOML file in force; None where there is none.

    Raises
    ------
    ValueError
        If ``ECGBATCH_CONFIG`` names a file that is not there.

    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ValueError(f"{CONFIG_VARIABLE}={named}: expected a TOML file with settings, found none of that name")
        return Path(named)
    try:
        usual = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ecgbatch" / "config.toml"
    except RuntimeError:  # no entry in the list of users, and no HOME: no settings of one's own
        return None
    try:
        return usual if usual.is_file() else None
    except PermissionError:  # another's home
        return None


def load_settings(**flags: Any) -> Settings:
    """Return the settings in force; a flag that is None was not given.

    Raises
    ------
    ValueError
        If a value has the wrong kind, or the file is no TOML or names a setting that does not exist.

    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"setting {name!r}: {first['msg']} (from {_source(name, given)}); `ecgbatch config` lists all settings"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{config_file()}: expected TOML, found: {error}") from error


def stated(**flags: Any) -> dict[str, dict[str, Any]]:
    """Return every setting's ``value``, where it comes ``from``, and its ``meaning``; secrets as stars."""
    settings = load_settings(**flags)
    given = {name: value for name, value in flags.items() if value is not None}
    values = settings.model_dump(mode="json")
    return {
        name: {"value": values[name], "from": _source(name, given), "meaning": field.description}
        for name, field in Settings.model_fields.items()
    }


LOOPBACK = ("localhost", "127.0.0.1", "::1")


def loopback_past_proxies() -> None:
    """Let calls to this machine go past any proxy that the environment names: both spellings, since libraries read either."""
    named = " ".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host for written in re.split(r"[,;\s]+", named) if (host := _as_libraries_read(written))]
    if "*" in hosts:
        return
    whole = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    os.environ |= {"no_proxy": whole, "NO_PROXY": whole}


def _as_libraries_read(host: str) -> str:
    """Return a host of ``no_proxy`` as httpx takes it, which fails at others: IPv6 without brackets; empty if it is none."""
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    if host.count(":") < 2:
        return host if host.rpartition(":")[2].isdigit() or ":" not in host else host.partition(":")[0].strip("*")
    try:
        return str(IPv6Address(host.partition("/")[0]))
    except ValueError:
        return host if "://" in host else ""


def _source(name: str, given: dict[str, Any]) -> str:
    if name in given:
        return "flag"
    if os.environ.get(f"{PREFIX}{name.upper()}") or os.environ.get(f"{PREFIX}{name}".lower()):
        return f"{PREFIX}{name.upper()}"
    path = config_file()
    if path is not None and name in tomllib.loads(path.read_text(encoding="utf-8")):
        return str(path)
    return "default"
