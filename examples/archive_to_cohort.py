"""From an archive to a cohort page, and who was decided how: `python archive_to_cohort.py [ARCHIVE [WORK]]`."""

import sys

import ecgbatch


def main(archive: str, work: str) -> None:
    """Convert, find beats, score and report; print decisions by label and where the page is."""
    ecgbatch.convert(archive, work)
    ecgbatch.find_beats(work)
    ecgbatch.score(work)
    made = ecgbatch.report(work, pages="called")
    workspace = ecgbatch.open_workspace(work)
    everyone = workspace.records[["label"]].join(workspace.scores["decision"])
    print(everyone.value_counts(["label", "decision"]).unstack(fill_value=0))
    print(f"Cohort page: {made['cohort']}")


if __name__ == "__main__":
    # For the PTB database: `ecgbatch fetch ptbdb ptbdb`, then `python archive_to_cohort.py ptbdb work`.
    source = sys.argv[1] if sys.argv[1:] else str(ecgbatch.make_synthetic_archive("example/archive", n_records=20))
    main(source, sys.argv[2] if sys.argv[2:] else "example/work")
