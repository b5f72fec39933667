"""What an object store's refusals mean, in its own words, and whose credentials are shown to it."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path

LASTING = re.compile(
    r"status code: (?:40[135]|501)\b|<Code>(?:Expired|Invalid|NotImplemented|RequestTimeTooSkewed|Signature|Token)\w*</Code>"
    r"|invalid peer certificate|InvalidCertificate|NoSuchBucket"
)
"""In an error's text: no further try mends that."""

ADVICE = {
    "ExpiredToken": "fetch new credentials into the AWS_ variables",
    "TokenRefreshRequired": "fetch new credentials into the AWS_ variables",
    "RequestTimeTooSkewed": "set this machine's clock",
    "certificate": "the service needs a new one, or its authority is not known here (SSL_CERT_FILE), or a clock is off",
    "NoSuchBucket": "make the bucket first, or see the AWS_ variables",
    "NotImplemented": "the service does not offer what is needed",
}
"""Of a reason: what to do; of all others of this kind, to look at the ``AWS_`` variables."""


SHELLS = ("InvalidCertificate", "Other", "OtherError")
"""Around a certificate's fault in the client library's words."""


def reason_of(error: BaseException) -> str:
    """Return why a request was refused: the service's own code and words first, uncut; else what the client library says."""
    text = str(error).strip()
    code, message = (re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("Code", "Message"))
    if code is not None:
        words = message[1].strip() if message is not None else ""
        return f"{code[1].strip()}: {words}" if words else code[1].strip()
    if "InvalidCertificate" in text:
        words = re.findall(r"[A-Z]\w+", text[text.index("InvalidCertificate") :].partition("},")[0])
        return f"certificate of the service: {' '.join(word for word in words if word not in SHELLS)}"
    first = text.partition("\n")[0]
    if status := re.search(r"status code: (.*)", first):
        return f"answer {status[1].strip().rstrip(':')}"
    told = re.sub(r"^.*? in [\d.]+m?s(?:, after \d+ retries, max_retries: \d+, retry_timeout: \w+)? +- ", "", first)
    return told or type(error).__name__


def advice_for(reason: str) -> str:
    """Return what to do about a refusal."""
    return next((advice for words, advice in ADVICE.items() if reason.startswith(words)), "see the AWS_ variables")


KEYS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
"""What a profile may state, and the variable that wins over it."""


PLACES = (("AWS_CONFIG_FILE", "config", "profile "), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", ""))
"""Variable that names a file of profiles, its usual name in ``~/.aws``, and what stands before a profile's name there."""


def access() -> dict[str, str]:
    """Return keys, region and endpoint by the names of the ``AWS_`` variables: those in the environment, else ``AWS_PROFILE``'s.

    Raises
    ------
    ValueError
        If ``AWS_PROFILE`` names none, or one that needs a program or a login to get its keys.

    """
    named = {name: os.environ[name] for name in KEYS.values() if os.environ.get(name)}
    profile = os.environ.get("AWS_PROFILE")
    if not profile or "AWS_ACCESS_KEY_ID" in named:
        return named
    stated: dict[str, str] = {}
    places = []
    for variable, usual, prefix in PLACES:
        try:
            place = Path(os.environ.get(variable) or Path("~/.aws", usual).expanduser())
        except RuntimeError:
            raise ValueError(
                f"AWS_PROFILE={profile}: expected its file in a home folder, and this user has none: name it by {variable}, or "
                "give the keys by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        places.append(str(place))
        file = configparser.RawConfigParser(strict=False)
        file.read(place, encoding="utf-8")
        for section in (profile, f"{prefix}{profile}"):
            stated |= dict(file[section]) if file.has_section(section) else {}
    if not stated:
        raise ValueError(f"AWS_PROFILE={profile}: expected a profile of that name in {' or '.join(places)}, found none")
    if "aws_access_key_id" not in stated:
        raise ValueError(
            f"AWS_PROFILE={profile}: expected aws_access_key_id there, found {', '.join(sorted(stated))}. Keys that a login or a "
            f"program gives: eval $(aws configure export-credentials --profile {profile} --format env)"
        )
    return {variable: stated[key] for key, variable in KEYS.items() if key in stated} | named
