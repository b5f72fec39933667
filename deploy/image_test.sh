#!/bin/sh
# Builds the image and runs it as strictly as it is meant to run: read-only, as user 10001, without network and capabilities.
#   make image-test                          with docker; or by hand: sh deploy/image_test.sh
#
# ENGINE         docker; or podman, "podman --runtime runc", ...
# BASE           the image to build on, with Python 3.11, its venv and pip
# BUILD_OPTIONS  what `build` is told besides: --isolation chroot, --volume FOLDER:FOLDER:ro for wheels and settings of pip
# RUN_OPTIONS    what `run` is told besides: --ulimit ...
#
# Without a registry of images (Debian 12, as root), a base of Debian's own packages:
#   debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates,openssl bookworm FOLDER
#   tar -C FOLDER -c . | podman import - localhost/python:3.11-slim-bookworm
#   make image-test ENGINE="podman --runtime runc" BASE=localhost/python:3.11-slim-bookworm BUILD_OPTIONS="--isolation chroot" \
#       RUN_OPTIONS="--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
set -eu
engine=${ENGINE:-docker}
image=${IMAGE:-ecgbatch:0.1.0}
cd "$(dirname "$0")/.."

seconds() { date +%s.%N; }
since() { awk -v began="$1" -v now="$(seconds)" 'BEGIN { printf "%.1f s", now - began }'; }
wrong() { echo "image-test: $*" >&2; exit 1; }

began=$(seconds)
# shellcheck disable=SC2086
$engine build ${BUILD_OPTIONS:-} ${BASE:+--build-arg "BASE=$BASE"} -t "$image" -f deploy/Dockerfile .
echo "built in $(since "$began")"
# Another engine's image id may hold a prefix; bytes are bytes in both.
size=$($engine image inspect --format '{{.Size}}' "$image")
echo "size: $((size / 1000000)) MB"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 777 "$folder"

strictly() {
    # shellcheck disable=SC2086
    $engine run --rm ${RUN_OPTIONS:-} --network none --read-only --tmpfs /tmp --user 10001 --cap-drop ALL \
        --security-opt no-new-privileges -v "$folder:/data/out" "$@"
}
digests() { (cd "$folder" && find demo/work -path '*.zarr/*' -type f -exec sha256sum {} + | sort -k 2); }

began=$(seconds)
strictly --entrypoint true "$image"
echo "a container alone: $(since "$began")"
began=$(seconds)
strictly "$image" --version
echo "start-up (--version): $(since "$began")"

# Kernels that were compiled in the build are read: whoever cannot write beside the code would keep them below /tmp.
strictly --entrypoint sh "$image" -c 'ecgbatch warm >/dev/null && ! find /tmp -name "*.nb[ic]" | grep -q .' \
    || wrong "kernels of the build were not taken: they were compiled once more (another processor than the one that built?)"
echo "kernels: those of the build"
strictly --entrypoint sh "$image" -c '[ "$(id -u)" = 10001 ] && ! touch /opt/ecgbatch/x 2>/dev/null && ! touch /data/x 2>/dev/null' \
    || wrong "the root is not read-only, or the user is not 10001"

began=$(seconds)
strictly "$image" demo /data/out/demo
echo "demo: $(since "$began")"
before=$(digests)
[ -n "$before" ] || wrong "demo left no store"
began=$(seconds)
strictly "$image" run /data/out/demo/synthetic-archive /data/out/demo/work --train
echo "a run that finds nothing new: $(since "$began")"
[ "$before" = "$(digests)" ] || wrong "a run that finds nothing new changed the stores"
strictly "$image" verify /data/out/demo/work
echo "image-test: right"
