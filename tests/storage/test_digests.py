"""Digests carry their algorithm: new proofs by BLAKE3, earlier ones by SHA-256, and never one against the other."""

from __future__ import annotations

import numpy as np
import pytest

from storage import Hasher, algorithm_of, build, open_store, verify_store
from storage.digests import BLAKE3, SHA256
from storage.receipts import Receipt, WrittenFile
from storage.schema import digest_array
from tests.storage.test_storage import plan_of, produce


def text_of(algorithm: str, *contents) -> str:
    digest = Hasher(algorithm)
    for content in contents:
        digest.update(content)
    return digest.text()


def test_digests_are_those_of_the_published_vectors():
    """Of the empty message: BLAKE3's test vectors, and FIPS 180-4."""
    assert text_of(BLAKE3) == "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert text_of(SHA256) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("algorithm", [BLAKE3, SHA256])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8", "u1"])
def test_an_array_counts_by_its_bytes_whatever_its_shape_order_and_type(algorithm, dtype):
    values = np.arange(120).reshape(10, 12).astype(dtype)
    assert text_of(algorithm, values) == text_of(algorithm, values.tobytes()) == text_of(algorithm, values[:4], values[4:])
    assert text_of(algorithm, values.T) == text_of(algorithm, values.T.tobytes()) != text_of(algorithm, values)
    assert text_of(algorithm, values[:0]) == text_of(algorithm)


def test_a_digest_says_by_what_it_was_made_and_one_of_a_later_version_is_refused():
    assert [algorithm_of(text_of(name, b"x")) for name in (BLAKE3, SHA256)] == [BLAKE3, SHA256]
    assert algorithm_of("") == BLAKE3
    with pytest.raises(ValueError, match="use the ecgbatch that made it"):
        Hasher(algorithm_of("blake9:00"))


def test_every_proof_of_a_new_store_is_by_the_strong_algorithm(tmp_path):
    store = build(str(tmp_path), plan_of(), produce)
    root = open_store(store).attrs
    digests = [digest for _, digest in root["files"].values()] + list(root["content_digests"].values())
    assert {algorithm_of(digest) for digest in digests} == {BLAKE3}
    assert {key.split("/")[1] for key in root["files"] if key.startswith("receipts/t")} == {
        "trace_content_blake3",
        "trace_file_blake3",
        "trace_file_bytes",
    }
    assert verify_store(store, read_data=True) == []


def test_receipts_of_an_earlier_version_do_not_enter_a_new_store(tmp_path):
    def stop_at_last(shard, rows):
        if shard.index == 5:
            raise OSError
        return produce(shard, rows)

    with pytest.raises(OSError):  # noqa: PT011
        build(str(tmp_path), plan_of(), stop_at_last)
    for path in (tmp_path / ".build").rglob("0000000[0-2].json"):
        receipt = Receipt.from_bytes(path.read_bytes())
        files = {key: WrittenFile(file.n_bytes, "00" * 32) for key, file in receipt.files.items()}
        path.write_bytes(Receipt(receipt.plan_digest, receipt.shard, files, receipt.content, receipt.columns).to_bytes())
    made = []

    def counting(shard, rows):
        made.append(shard.index)
        return produce(shard, rows)

    store = build(str(tmp_path), plan_of(), counting)
    assert made == [0, 1, 2, 5]
    assert verify_store(store, read_data=True) == []


def test_names_of_plans_stay_those_of_earlier_versions():
    """A store of an earlier version is found under its plan's digest: this one was computed before there was BLAKE3 here."""
    assert plan_of().digest == "60c898682e1b1efbbeb9"
    assert algorithm_of(digest_array(np.arange(3))) == SHA256
