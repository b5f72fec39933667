"""A Dask cluster on SLURM that grows and shrinks with the work: writes its address to a file, and ends with this process.

Needs ``pip install dask-jobqueue==0.9.0`` beside ecgbatch, in an environment that the nodes see. ``ecgbatch.sbatch`` uses it.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security


def main() -> None:
    """Start the scheduler here and let SLURM jobs be its workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", type=Path, required=True, help="folder with ca.pem, cert.pem and key.pem, readable by you alone")
    parser.add_argument("--address", type=Path, required=True, help="file that the scheduler's address goes to")
    parser.add_argument("--interface", default=None, help="network of the nodes, for instance ib0; default the host's own")
    parser.add_argument("--partition", default=None)
    parser.add_argument("--account", default=None)
    parser.add_argument("--at-most", type=int, default=16, help="jobs")
    options = parser.parse_args()
    # Without an end a job that waits in the queue for long looks dead; without retries one lost node would fail a shard.
    dask.config.set({"distributed.scheduler.no-workers-timeout": "1800s", "distributed.scheduler.allowed-failures": 3})
    files = {name: str(options.tls / f"{name}.pem") for name in ("ca", "cert", "key")}
    security = Security(
        tls_ca_file=files["ca"],
        tls_scheduler_cert=files["cert"],
        tls_scheduler_key=files["key"],
        tls_worker_cert=files["cert"],
        tls_worker_key=files["key"],
        tls_client_cert=files["cert"],
        tls_client_key=files["key"],
        require_encryption=True,
    )
    with SLURMCluster(
        cores=4,
        processes=1,
        memory="16GB",
        walltime="02:00:00",
        queue=options.partition,
        account=options.account,
        interface=options.interface,
        security=security,
        shared_temp_directory=str(options.tls),
        # A worker leaves before its job's time is up, and another comes for it. Its page is for its own node.
        worker_extra_args=["--lifetime", "110m", "--lifetime-stagger", "5m", "--dashboard-address", "127.0.0.1:0"],
        # Without Dask's profiler, which looks at every worker a hundred times a second.
        job_script_prologue=["umask 077", "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"],
        scheduler_options={"dashboard_address": "127.0.0.1:8787"},
    ) as cluster:
        cluster.adapt(minimum_jobs=0, maximum_jobs=options.at_most, wait_count=6)
        options.address.write_text(cluster.scheduler_address)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        options.address.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
