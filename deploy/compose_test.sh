#!/bin/sh
# Starts what compose.yaml says, has one night of four synthetic records in it, looks at what that left, and takes everything down.
#   sh deploy/compose_test.sh              with docker compose; the image is there (make image-test)
#
# ENGINE      docker, or podman
# COMPOSE     "docker compose", or podman-compose (1.6 or newer knows profiles and conditions); where podman must be told more of
#             each container (as RUN_OPTIONS, below), a script of one line: podman-compose --podman-run-args="--ulimit ..." "$@"
# RUN_OPTIONS what `run` is told besides: --ulimit ...
# SERVICES    which services are started: all but reader and gate, whose profile is not asked for
# MOST_S      seconds that may pass until the night is done
# EVERY_S     seconds between two looks at it
set -eu
cd "$(dirname "$0")/.."
engine=${ENGINE:-docker}
image=${IMAGE:-ecgbatch:0.1.0}
every=${EVERY_S:-10}
services=${SERVICES:-secrets database prefect scheduler dask-worker worker s3}
folder=$(mktemp -d)
chmod 755 "$folder"
mkdir -m 777 "$folder/archive" "$folder/work"
export ECGBATCH_ARCHIVE="$folder/archive" ECGBATCH_WORK="$folder/work" ECGBATCH_CRON="* * * * *"

# A project of its own: what is taken down in the end, volumes and all, is never a deployment's on the same machine.
compose() { ${COMPOSE:-docker compose} -p ecgbatch-test -f deploy/compose.yaml "$@"; }
end() {
    compose logs > "$folder.log" 2>&1 || true
    compose down -v > /dev/null 2>&1 || true
    rm -rf "$folder"
    echo "logs: $folder.log"
}
trap end EXIT

# shellcheck disable=SC2086
$engine run --rm ${RUN_OPTIONS:-} --network none --read-only --tmpfs /tmp --user 10001 -v "$folder/archive:/archive" \
    --entrypoint python "$image" -c 'from pathlib import Path
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
write_archive(Path("/archive/records"), ArchiveShape(n_records=4, duration_s=10.0), seed=8)'
# shellcheck disable=SC2086
compose up -d $services

# Of records so young a night only says that they wait, and is well: what is waited for is one that has scored all four.
has_scored() {
    told=$(compose exec -T worker ecgbatch status /data/work --json 2> /dev/null | tr -d ' \n') || true
    case $told in *'"outcome":"ok"'*) ;; *) return 1 ;; esac
    case $told in *'"scored":4'[,}]*) ;; *) return 1 ;; esac
}

waited=0
until has_scored; do
    waited=$((waited + every))
    [ "$waited" -le "${MOST_S:-900}" ] || { compose ps; compose logs --tail 40; echo "no night within $waited s" >&2; exit 1; }
    sleep "$every"
done
compose exec -T worker ecgbatch status /data/work
compose exec -T worker ecgbatch verify /data/work
echo "compose-test: a night was right after about $waited s"
