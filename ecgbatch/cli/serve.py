"""A workspace looked at in a browser, and what readers said of it: serve, review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgbatch.cli.exit_codes import OK
from ecgbatch.cli.options import AsJson, Pseudonymise, Work
from ecgbatch.cli.output import print_document


def serve(
    work: Work,
    invite: Annotated[
        list[str] | None, typer.Option(help="Print an address for this reader, which opens once; may be given again.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 0,
    address: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need a proxy that asks.")
    ] = "127.0.0.1",
    reader_header: Annotated[str | None, typer.Option(help="Header in which a proxy names the reader whom it let in.")] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(help="Address or network of that proxy; from others nothing is answered.")
    ] = None,
    host_name: Annotated[
        list[str] | None, typer.Option(help="Name (and :port) that browsers ask for, where it is not loopback.")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Hide score, decision and reference label until the verdict.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Take no reviews.")] = False,
) -> int:
    """Show runs, records and their reports in a browser, and take readers' verdicts, until stopped."""
    from ecgbatch.serving.access import Proxy, checked_reader
    from ecgbatch.serving.server import Place
    from ecgbatch.serving.server import serve as serve_workspace

    if trusted_proxy and not reader_header:
        raise typer.BadParameter("--trusted-proxy ADDRESS goes with --reader-header NAME: in which header it names the reader")
    if reader_header and invite:
        raise typer.BadParameter(
            "--invite NAME prints an address that opens without the proxy: it does not go with --reader-header"
        )
    try:
        proxy = Proxy.of(reader_header, trusted_proxy or []) if reader_header else None
        readers = [checked_reader(name) for name in invite or []]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    place = Place(address, port, tuple(host_name or ()))
    serve_workspace(str(work), place, readers=readers, proxy=proxy, blind=blind, read_only=read_only, say=_say)
    return OK


def _say(line: str) -> None:
    print(line, flush=True)


def review(
    what: Annotated[str, typer.Argument(help="export: readers' verdicts as a label table.")],
    work: Work,
    out: Annotated[Path, typer.Argument(help="CSV to write: record, patient_id, label, as --labels takes it.", dir_okay=False)],
    blind_only: Annotated[bool, typer.Option("--blind-only", help="Only verdicts given before the score was seen.")] = False,
    pseudonymise: Pseudonymise = False,
    as_json: AsJson = False,
) -> int:
    """Export what readers said as labels; records on which they differ are left out."""
    if what != "export":
        raise typer.BadParameter(f"expected export, found {what!r}: ecgbatch review export WORK OUT.csv")
    from ecgbatch.upkeep.labels_of_reviews import export_labels

    print_document(export_labels(str(work), out, blind_only=blind_only, pseudonymise=pseudonymise), as_json)
    return OK
