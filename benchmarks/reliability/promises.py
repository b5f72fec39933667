"""What is promised, and how each promise is tested: the words of docs/RELIABILITY.md; its figures come from the ledger."""

from __future__ import annotations

CAMPAIGNS = {
    "F1": (
        "a killed convert, beats, measure, score or report goes on to the same bytes and the same reports",
        "SIGKILL of the process group at random instants of each stage",
    ),
    "F1T": ("a killed training goes on to the same model", "the same, of `train --recipe kachuee` with its processes"),
    "F1U": (
        "a killed `erase` or `compact` goes on to the same bytes, nothing of the erased is left",
        "the same, of a patient's erasure from the stores of three nights, of their compaction, and of another patient's erasure "
        "from what was compacted; names and bytes of all files and the decoded text of all stores are searched for the patients",
    ),
    "F1G": (
        "a killed `gc` goes on, and removes nothing but what it is told to",
        "SIGKILL at random instants of `gc --unfinished`, of a finished workspace with a killed conversion's leavings",
    ),
    "F1I": (
        "a stage that is told to stop (Ctrl-C) ends within a minute without a traceback, and the same command goes on",
        "SIGINT to the group of each stage's processes at random instants of convert, beats, measure, score, report",
    ),
    "F2": ("a kill at a call that changes the disk does no harm", "strace kills at the N-th fsync, rename, mkdir, link, unlink"),
    "F3": (
        "a call that fails ends without a traceback, and the same command goes on",
        "strace lets the N-th of these calls fail: EIO, ENOSPC",
    ),
    "F2P": (
        "a kill at the places that every run touches leaves the old state intact",
        "strace kills at the first and second call on the folders of publishing, documents, the lock; convert, beats, "
        "measure, score, in an order drawn by the seed",
    ),
    "F3P": ("a failed sync is not acknowledged, the old state stays intact", "the same calls fail: EIO, ENOSPC, EMFILE"),
    "F2C": (
        "a kill at any call on the workspace leaves the old state intact, and the same command goes on",
        "convert, beats, measure, score, report in forks of one warm process; a preloaded library kills at the N-th open, fsync, "
        "rename, mkdir, link or unlink on a path of the workspace, counted over all threads; stages and kinds in turn",
    ),
    "F3C": (
        "so does an error; it ends without a traceback, and a failed sync is not acknowledged",
        "the same calls fail: EIO; ENOSPC (opens: those that make a file); EMFILE (opens)",
    ),
    "F4": ("a full disk ends with a word about room, and goes on once there is some", "convert onto a tmpfs of 40 sizes"),
    "F5": (
        "a power cut loses nothing that was acknowledged, and the same command goes on",
        "convert, beats, score into an ext4 image, stopped at random instants; the image is copied as it is beneath the kernel's "
        "memory and mounted, its journal played back; published stores and receipts must be there before anything runs again",
    ),
    "F6": (
        "a stage ends well whatever workers die",
        "convert, beats, score on two Dask worker processes; one is killed, another comes, 2 to 5 s later the next is killed",
    ),
    "F7": (
        "a record that kills its decoder costs only itself",
        "200 records of FLAC on two Dask workers; at four the decoder, in its process of its own, meets a segmentation fault, an "
        "abort, memory without end, a loop without end; cases are the records, the exit code, the workers, `verify`",
    ),
    "F8": (
        "a lost scheduler, or no worker left, ends in time with a word, and the same command goes on",
        "the scheduler, or both workers, killed at random instants of convert, beats, score; at most 70 s until the end",
    ),
    "F9": (
        "two writers of one stage leave the bytes of one",
        "both at once; in every second contest one frozen and woken late",
    ),
    "F10": ("eight writers of one stage leave the bytes of one", "the same with eight"),
    "F11": (
        "no byte depends on a clock",
        "convert, beats, score by clocks (libfaketime) that are wrong by a day and by ten years, and that jump a day meanwhile",
    ),
    "F12": (
        "a workspace in an object store has the bytes of one on a disk, whatever the network does",
        "convert, beats, score into moto's S3 server behind a proxy: one request in ten is answered 429 or 503, not answered, "
        "reset, its answer cut or lost; each command must end well by itself",
    ),
    "F16": (
        "an archive that changes while it is read is stored as it was or is, never mixed; the next run has what is there",
        "records written anew, a file after the other and half by half, while they are converted",
    ),
    "F18": (
        "a process that is never restarted does not grow",
        "nights in one process, stage by stage, every tenth with a new record, after a quarter of the nights in the place of the "
        "oldest; the last cases compare memory (when the allocator has handed back what it keeps), what of it is given out, "
        "descriptors, threads and leftovers of the second and the last quarter of the nights",
    ),
    "F18P": (
        "nor with Prefect",
        "the same by the flow; a schedule gives each night a process of its own",
    ),
}
"""Name to promise and way, in the page's order."""

BY_TESTS = (
    (
        "damage anywhere in a workspace is found by `ecgbatch verify`",
        "`tests/upkeep/test_verify.py`, `test_verify_slow.py`: flips, truncations, deletions, swaps in stores, models, reports",
        "1,000 of 1,000 (seed 2); whole stores and reports removed: 5 of 5",
    ),
    (
        "`verify --repair ARCHIVE` makes the same bytes again",
        "`tests/upkeep/test_verify.py`: one damage in each kind of store and a report, one store removed",
        "5 of 5 items, all store bytes equal",
    ),
    (
        "nights, kills, power cuts, frozen writers, changed, cut and removed records and `gc` in any order end as a simple model "
        "says, with the bytes of an undisturbed run; a run without work writes nothing",
        "`tests/upkeep/test_state_machine.py`: a hypothesis state machine in one process: at any step that changes the disk it "
        "dies (files without fsync lose their content), or another writer does the whole stage",
        "no contradiction in 15 walks of up to 30 steps (89 stages ended, 35 deaths, 7 frozen writers); "
        "`test_state_machine_slow.py` makes 60",
    ),
    (
        "names that try to leave their folder read and write nothing outside it",
        "`tests/test_security.py`: 1,000 names in a list and as files, every file that Python opens is looked at",
        "0 opened outside, 0 left outside",
    ),
    (
        "every stage runs as nobody, without network and rights, on a disk of which only the workspace can be written",
        "`tests/test_security_slow.py` under bubblewrap: convert, beats, score, report, verify",
        "5 of 5 commands",
    ),
    (
        "everything listens on loopback; Prefect's server asks for its password at every door but health and ready, and answers "
        "no other page",
        "`tests/test_security_slow.py`: the sockets of `ecgbatch run` while it lasts; every operation of the server's own "
        "description",
        "127.0.0.1 only; 0 doors open",
    ),
    (
        "a writer that froze while publishing reaches no published byte",
        "`tests/storage/test_storage.py`: another writer publishes at 5 points of the first one's publishing",
        "5 of 5",
    ),
    (
        "a second writer refuses and names the first; a dead, frozen or re-used process id is followed",
        "`tests/upkeep/test_verify.py`, real processes, SIGKILL and SIGSTOP",
        "5 of 5 cases",
    ),
    (
        "an object store gives the bytes of a disk, whatever the network does",
        "`tests/storage/test_bucket.py`, `test_bucket_slow.py`: one build for each fault, 10 % of requests",
        "6 of 6",
    ),
    (
        "a store of a dead writer's leftovers is never published; `gc` removes them and nothing else",
        "`tests/storage/test_storage.py`, `tests/upkeep/test_verify.py`",
        "all cases",
    ),
    (
        "a night that is told to stop (SIGTERM, Ctrl-C) ends within seconds and the next goes on",
        "`tests/flows/test_rehearsal.py`, `tests/upkeep/test_status.py`",
        "all cases",
    ),
)
"""Promise, test, figure."""

NOT_TESTED = """
Errors and kills at **every** call: F2 and F3 take the N-th call of a thread; in one trace of a conversion that reached 126 of 133
`fsync`, 20 of 28 `rename` and 56 of 116 `mkdir`, and not the rename that publishes. F2C and F3C count over all threads and can
reach each, opens too, but were run at the strides told (numbers from `--seed` on), not at every call. They see what goes through
the C library's own functions for these calls on paths of the workspace: not opens of the archive (a file that cannot be read is a
record set aside, tested elsewhere), of Python and of libraries, nor `fopen`. `write` is not swept. What is left below `.build` is
not looked at.

Two writers whose clocks differ (the lock counts by the waiting process's own steady clock). Schedules over a jump of the clock.

A real power cut, a real S3, disks that lie about `fsync`, silence of a network for longer than 3 s. Reports of a run of more than
64 files are brought onto the disk by one `sync` of the machine. In an object store `verify --repair` and pseudonymous reports
are not tested.

A damaged model or log cannot be repaired: it must come from a copy. `archive.parquet` (a cache) has checksums of its pages,
not of its footer: a flip there is found, or alters nothing that is read.
"""
